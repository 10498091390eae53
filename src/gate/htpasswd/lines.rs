//! The password file as text: parsing and editing of its lines.

use std::fmt;

use super::{BcryptHash, UserName};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// A password file that is being edited.
///
/// Lines of other users, comments and line endings stay byte for byte as they were, and so does a
/// line that cannot be used.
#[derive(Clone, PartialEq, Eq)]
pub struct Lines {
    bom: bool,
    // Each with its line ending; only the last may lack one.
    lines: Vec<Vec<u8>>,
}

/// The effect of [`Lines::set`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// The user is new and has the last line.
    Added,
    /// The user's line was replaced.
    Updated,
}

/// The content of a line, without white space around it.
pub(super) enum Line<'a> {
    /// Blank, or a comment.
    Empty,
    NoColon,
    Entry(Fields<'a>),
}

/// The fields of a user's line.
pub(super) struct Fields<'a> {
    pub(super) user: &'a [u8],
    pub(super) hash: &'a [u8],
}

impl<'a> Line<'a> {
    /// Reads a line with or without its ending.
    pub(super) fn read(line: &'a [u8]) -> Self {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            return Self::Empty;
        }
        let mut fields = line.splitn(3, |&b| b == b':');
        match (fields.next(), fields.next()) {
            (Some(user), Some(hash)) => Self::Entry(Fields { user, hash }),
            _ => Self::NoColon,
        }
    }
}

/// The file without the byte order mark that some editors write.
pub(super) fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BOM).unwrap_or(bytes)
}

/// The encoding of a file in UTF-16: one that begins with the byte order mark, or with a visible
/// ASCII character or a line end in UTF-16.
pub(super) fn utf16(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [b'\r' | b'\n' | b'!'..=b'~', 0, ..] => Some("UTF-16LE"),
        [0, b'\r' | b'\n' | b'!'..=b'~', ..] => Some("UTF-16BE"),
        _ => None,
    }
}

impl Lines {
    /// Reads a whole file. Any content is accepted.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            bom: bytes.starts_with(BOM),
            lines: without_bom(bytes)
                .split_inclusive(|&b| b == b'\n')
                .map(<[u8]>::to_vec)
                .collect(),
        }
    }

    /// The whole file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // A line that has moved to the front and begins with a byte order mark would lose it, and
        // might so become a user's line.
        let marked = self.bom || self.lines.first().is_some_and(|l| l.starts_with(BOM));
        let mut bytes = if marked { BOM.to_vec() } else { Vec::new() };
        bytes.extend(self.lines.iter().flatten());
        bytes
    }

    /// Gives the user this hash: in the place of their last line if they have one, else in a new
    /// line at the end.
    ///
    /// Earlier lines of the same user, which were void already, are removed: otherwise an old password
    /// would be valid again once an operator deletes the last line by hand.
    pub fn set(&mut self, user: &UserName, hash: &BcryptHash) -> Set {
        let mut line = format!("{user}:{}", hash.as_str()).into_bytes();
        let Some(at) = self.lines.iter().rposition(|l| is_of(l, user.as_str())) else {
            let ending = self.lines.last().map_or(&b"\n"[..], |last| ending_of(last));
            // Without a line ending, the new line would be appended to the last one.
            if let Some(last) = self.lines.last_mut()
                && ending_of(last).is_empty()
            {
                last.push(b'\n');
            }
            line.extend_from_slice(if ending.is_empty() { b"\n" } else { ending });
            self.lines.push(line);
            return Set::Added;
        };
        line.extend_from_slice(ending_of(&self.lines[at]));
        self.lines[at] = line;
        let mut index = 0;
        self.lines.retain(|l| {
            let keep = index >= at || !is_of(l, user.as_str());
            index += 1;
            keep
        });
        Set::Updated
    }

    /// Removes every line of the user; false if there was none.
    ///
    /// Accepts any text, so that a name which is not a valid [`UserName`] can be removed.
    pub fn remove(&mut self, user: &str) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| !is_of(line, user));
        self.lines.len() < before
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("count", &self.lines.len()).finish_non_exhaustive()
    }
}

fn is_of(line: &[u8], name: &str) -> bool {
    matches!(Line::read(line), Line::Entry(fields) if fields.user == name.as_bytes())
}

fn ending_of(line: &[u8]) -> &'static [u8] {
    if line.ends_with(b"\r\n") {
        b"\r\n"
    } else if line.ends_with(b"\n") {
        b"\n"
    } else {
        b""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$05$TA584DbUzmR9EVi6ojp.5eri9PrENjoixM7Ca61fUWm4M3SngO.Xa";

    fn edited(before: &str, user: &str) -> (Set, String) {
        let mut text = Lines::from_bytes(before.as_bytes());
        let set = text.set(&user.parse().unwrap(), &HASH.parse().unwrap());
        (set, String::from_utf8(text.to_bytes()).unwrap())
    }

    #[test]
    fn new_user_gets_a_line_of_their_own_at_the_end() {
        let line = format!("bob:{HASH}");
        assert_eq!(edited("", "bob"), (Set::Added, format!("{line}\n")));
        assert_eq!(edited("# no newline", "bob"), (Set::Added, format!("# no newline\n{line}\n")));
        assert_eq!(edited("a:x\r\n", "bob"), (Set::Added, format!("a:x\r\n{line}\r\n")));
    }

    #[test]
    fn known_user_keeps_the_line_and_loses_unusable_ones() {
        let before = "\u{feff}bob:1\r\n#bob:c\n  bob:2:comment\r\nbobby:3";
        let after = format!("\u{feff}#bob:c\nbob:{HASH}\r\nbobby:3");
        assert_eq!(edited(before, "bob"), (Set::Updated, after));
    }
}
