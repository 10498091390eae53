//! The password file as text: parsing and editing of its lines.

use super::{BcryptHash, UserName};
use crate::gate::text_file::TextLines;

/// A password file that is being edited.
///
/// Lines of other users, comments and line endings stay byte for byte as they were, and so does a
/// line that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines(pub(super) TextLines);

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

impl Lines {
    /// Reads a whole file. Any content is accepted.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(TextLines::from_bytes(bytes))
    }

    /// The whole file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// Gives the user this hash: in the place of their last line if they have one, else in a new
    /// line at the end.
    ///
    /// Earlier lines of the same user, which were void already, are removed: otherwise an old password
    /// would be valid again once an operator deletes the last line by hand.
    pub fn set(&mut self, user: &UserName, hash: &BcryptHash) -> Set {
        let line = format!("{user}:{}", hash.as_str());
        let mut earlier = self.0.iter().filter(|line| is_of(line, user.as_str())).count();
        if earlier == 0 {
            self.0.push(&line);
            return Set::Added;
        }
        self.0.retain(|old| {
            let is_last = !is_of(old, user.as_str()) || earlier == 1;
            if !is_last {
                earlier -= 1;
            }
            is_last
        });
        self.0.replace(|old| is_of(old, user.as_str()).then(|| line.clone()));
        Set::Updated
    }

    /// Removes every line of the user; false if there was none.
    ///
    /// Accepts any text, so that a name which is not a valid [`UserName`] can be removed.
    pub fn remove(&mut self, user: &str) -> bool {
        let before = self.0.iter().len();
        self.0.retain(|line| !is_of(line, user));
        self.0.iter().len() < before
    }
}

fn is_of(line: &[u8], name: &str) -> bool {
    matches!(Line::read(line), Line::Entry(fields) if fields.user == name.as_bytes())
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
