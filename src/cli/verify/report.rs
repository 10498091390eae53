//! How findings and progress look, for people and as JSON.
//!
//! Any process may have chosen the names in a tree, so control characters are printed escaped.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    time::Instant,
};

use serde::Serialize;

use crate::{
    app::verify::{Checked, Finding, Severity},
    cli::print::count,
    humanize::Size,
};

/// Takes the cursor back to the begin of its line, and empties the line.
const CLEAR: &str = "\r\x1b[K";

/// Prints the findings, and on a terminal the progress.
#[derive(Debug)]
pub(super) struct Report {
    json: bool,
    shows_progress: bool,
    /// Whether the progress stands in the last line.
    shown: bool,
    start: Instant,
    problems: u64,
    notes: u64,
    moved: u64,
}

/// The last line of JSON.
#[derive(Serialize)]
struct Summary {
    kind: &'static str,
    problems: u64,
    notes: u64,
    moved: u64,
    #[serde(flatten)]
    checked: Checked,
    seconds: f64,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        let shows_progress = io::stderr().is_terminal();
        let start = Instant::now();
        Self { json, shows_progress, shown: false, start, problems: 0, notes: 0, moved: 0 }
    }

    /// Prints a finding.
    ///
    /// # Errors
    ///
    /// When standard output takes no more.
    pub(super) fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        match finding.severity {
            Severity::Problem => self.problems += 1,
            Severity::Note => self.notes += 1,
        }
        self.moved += u64::from(finding.moved_to.is_some());
        let line = if self.json { json(finding)? } else { line(finding) };
        self.clear();
        writeln!(io::stdout().lock(), "{line}")
    }

    /// Shows how far it is.
    pub(super) fn progress(&mut self, checked: Checked) {
        if !self.shows_progress {
            return;
        }
        let Checked { blobs, bytes, links, manifests } = checked;
        let milliseconds = self.start.elapsed().as_millis().max(1);
        let rate = u128::from(bytes) * 1000 / milliseconds;
        let rate = Size(u64::try_from(rate).unwrap_or(u64::MAX));
        let found = self.problems + self.notes;
        let text = format!(
            "{CLEAR}{blobs} blobs, {}, {rate}/s; {links} links, {manifests} manifests; \
             {found} findings",
            Size(bytes)
        );
        self.shown = true;
        // A reader that has closed it wants no more of it.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    /// Prints the summary where it is for a program; gives it for people, and the number of
    /// problems.
    ///
    /// # Errors
    ///
    /// When standard output takes no more.
    pub(super) fn end(&mut self, checked: Checked) -> io::Result<(String, u64)> {
        self.clear();
        let &mut Self { problems, notes, moved, .. } = self;
        let seconds = self.start.elapsed().as_secs_f64();
        if self.json {
            let kind = "summary";
            let summary = Summary { kind, problems, notes, moved, checked, seconds };
            writeln!(io::stdout().lock(), "{}", json(&summary)?)?;
        }
        let Checked { blobs, bytes, links, manifests } = checked;
        let mut text = format!(
            "{} and {} in {blobs} blobs ({}), {links} links and {manifests} manifests, \
             looked at in {seconds:.1} s",
            count(problems, "problem"),
            count(notes, "note"),
            Size(bytes)
        );
        if moved > 0 {
            let _ = write!(text, "; {} moved to the quarantine", count(moved, "file"));
        }
        Ok((text, problems))
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = io::stderr().lock().write_all(CLEAR.as_bytes());
        }
    }
}

fn line(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Problem => "problem",
        Severity::Note => "note",
    };
    let mut line = format!("{severity} {} {:?}: ", finding.kind.as_str(), finding.key.as_str());
    line.push_str(&harmless(&finding.message));
    if let (Some(name), [_, ..]) = (&finding.repository, &finding.tags[..]) {
        let images: Vec<String> = finding.tags.iter().map(|tag| format!("{name}:{tag}")).collect();
        let _ = write!(line, " ({})", images.join(", "));
    }
    if let Some(key) = &finding.moved_to {
        let _ = write!(line, "; moved to {:?}", key.as_str());
    }
    if let Some(why) = &finding.not_moved {
        let _ = write!(line, "; not moved: {}", harmless(why));
    }
    line
}

/// Text without control characters of terminals.
fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\'' | '"' | '\\' => harmless.push(character),
            _ => harmless.extend(character.escape_debug()),
        }
    }
    harmless
}

/// JSON in one line of ASCII: terminals obey some characters beyond it, too.
fn json(value: &impl Serialize) -> io::Result<String> {
    let text = serde_json::to_string(value)?;
    let mut ascii = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, ' '..='~') {
            ascii.push(character);
        } else {
            // They stand in strings only.
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    Ok(ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_commands_a_terminal() {
        let evil = "a\u{1b}[2J\u{9b}b\u{202e}\r\n\u{7f}é\u{10ffff}";
        assert_eq!(harmless(evil), "a\\u{1b}[2J\\u{9b}b\\u{202e}\\r\\n\\u{7f}é\\u{10ffff}");
        let json = json(&evil).unwrap();
        assert!(json.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), evil);
    }
}
