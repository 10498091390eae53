//! A man page: the sections that `clap_mangen` makes, with NOTES, EXAMPLES and EXIT STATUS in place of one
//! section EXTRA.

use std::{fmt::Write as _, io};

use clap::Command;
use clap_mangen::Man;

/// The page of a command, in the language of troff.
pub(super) fn man_page(command: Command) -> io::Result<Vec<u8>> {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let has_subcommands = command.get_subcommands().any(|command| !command.is_hide_set());
    let man = Man::new(command);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_subcommands {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend_from_slice(Sections::of(&after).troff().as_bytes());
    Ok(page)
}

/// The text behind the help of a command, by its parts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sections {
    notes: String,
    examples: String,
    /// The exit codes, each with its meaning.
    exit_status: Vec<(String, String)>,
}

impl Sections {
    /// Paragraphs are separated by an empty line; the first line of the examples, and the exit codes, begin
    /// with their names.
    fn of(text: &str) -> Self {
        let mut sections = Self::default();
        for paragraph in text.split("\n\n") {
            if let Some(codes) = paragraph.strip_prefix("Exit codes: ") {
                sections.exit_status = exit_status(codes);
            } else if let Some((_, examples)) =
                paragraph.split_once('\n').filter(|(first, _)| first.starts_with("Example"))
            {
                examples.clone_into(&mut sections.examples);
            } else {
                sections.notes.push_str(paragraph);
                sections.notes.push_str("\n\n");
            }
        }
        sections
    }

    fn troff(&self) -> String {
        let Self { notes, examples, exit_status } = self;
        let mut troff = String::new();
        if !exit_status.is_empty() {
            troff.push_str(".SH \"EXIT STATUS\"\n");
            for (code, meaning) in exit_status {
                let _ = writeln!(troff, ".TP\n{code}\n{}", escaped(meaning));
            }
        }
        if !notes.trim().is_empty() {
            troff.push_str(".SH NOTES\n");
            text(&mut troff, notes);
        }
        if !examples.is_empty() {
            troff.push_str(".SH EXAMPLES\n");
            text(&mut troff, examples);
        }
        troff
    }
}

/// `0 done; 1 not done (why; why else)`: a code begins with a digit.
fn exit_status(text: &str) -> Vec<(String, String)> {
    let mut codes: Vec<(String, String)> = Vec::new();
    for part in text.trim_end().trim_end_matches('.').split("; ") {
        match (part.split_once(' '), codes.last_mut()) {
            (Some((code, meaning)), _) if code.parse::<u8>().is_ok() => {
                codes.push((code.to_owned(), meaning.to_owned()));
            }
            (_, Some((_, meaning))) => {
                meaning.push_str("; ");
                meaning.push_str(part);
            }
            (_, None) => {}
        }
    }
    codes
}

/// Appends lines; indented ones keep their breaks.
fn text(troff: &mut String, lines: &str) {
    let mut is_verbatim = false;
    for line in lines.trim_end().lines() {
        let is_indented = line.starts_with("  ");
        if is_indented != is_verbatim && !line.is_empty() {
            troff.push_str(if is_indented { ".PP\n.nf\n" } else { ".fi\n.PP\n" });
            is_verbatim = is_indented;
        }
        match line.is_empty() {
            true => troff.push_str(".PP\n"),
            false => {
                troff.push_str(&escaped(line));
                troff.push('\n');
            }
        }
    }
    if is_verbatim {
        troff.push_str(".fi\n");
    }
}

/// A line in which troff sees no request, and prints hyphens and quotes as they can be copied.
fn escaped(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len());
    if line.starts_with(['.', '\'']) {
        escaped.push_str("\\&");
    }
    for character in line.chars() {
        match character {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            '~' => escaped.push_str("\\(ti"),
            '^' => escaped.push_str("\\(ha"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_behind_the_help_becomes_sections() {
        let sections = Sections::of(
            "It may run\nbeside.\n\nExamples:\n  portcullis x --y\n  'z'\n\nExit codes: 0 done (a; b); \
             1 not done; 2 usage.",
        );
        assert_eq!(
            sections.troff(),
            ".SH \"EXIT STATUS\"\n.TP\n0\ndone (a; b)\n.TP\n1\nnot done\n.TP\n2\nusage\n\
             .SH NOTES\nIt may run\nbeside.\n\
             .SH EXAMPLES\n.PP\n.nf\n  portcullis x \\-\\-y\n  \\(aqz\\(aq\n.fi\n"
        );
        assert_eq!(Sections::of("").troff(), "");
        assert_eq!(escaped(".a\\b"), "\\&.a\\eb");
    }
}
