//! The token file as text: editing of its lines.

use jiff::Timestamp;

use super::{
    DeployToken, Expiry,
    line::{name_in, with_expiry},
};
use crate::gate::text_file::TextLines;

/// A token file that is being edited.
///
/// Lines of other tokens, comments and line endings stay byte for byte as they were, and so does a
/// line that cannot be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenLines(pub(super) TextLines);

impl TokenLines {
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

    /// Adds a line at the end.
    pub fn add(&mut self, token: &DeployToken) {
        self.0.push(&token.to_string());
    }

    /// Gives every line of the token this expiry, unless its own is earlier. A line without an expiry
    /// stays as it is, and opens nothing.
    pub fn expire(&mut self, name: &str, expires: Expiry) {
        self.0.replace(|line| {
            let (text, token) = usable(line, name)?;
            with_expiry(text, token.expires.min(expires))
        });
    }

    /// Removes the lines of the token that have expired at `now`.
    pub fn remove_expired(&mut self, name: &str, now: Timestamp) {
        self.0.retain(|line| {
            let end = usable(line, name).and_then(|(_, token)| token.expires.instant());
            end.is_none_or(|end| now < end)
        });
    }

    /// Removes every line of the token, usable or not. Returns how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        let before = self.0.iter().len();
        self.0.retain(|line| !is_of(line, name));
        before - self.0.iter().len()
    }
}

/// Whether the line is one of this token, usable or not.
fn is_of(line: &[u8], name: &str) -> bool {
    // A line that is not text may begin with a name.
    line.utf8_chunks().next().is_some_and(|chunk| name_in(chunk.valid()) == Some(name))
}

/// The text of the line and the token in it, if the line is a usable one of this token.
fn usable<'a>(line: &'a [u8], name: &str) -> Option<(&'a str, DeployToken)> {
    let text = str::from_utf8(line).ok()?;
    let token: DeployToken = text.parse().ok()?;
    (token.name.as_str() == name).then_some((text, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

    fn line(name: &str, expires: &str) -> String {
        format!("{name} sha256={DIGEST} may=pull repositories=** expires={expires}")
    }

    fn edited(before: &str, edit: impl FnOnce(&mut TokenLines)) -> String {
        let mut lines = TokenLines::from_bytes(before.as_bytes());
        edit(&mut lines);
        String::from_utf8(lines.to_bytes()).unwrap()
    }

    #[test]
    fn new_token_has_a_line_of_its_own_at_the_end() {
        let new = line("ci", "never");
        let token: DeployToken = new.parse().unwrap();
        for (before, after) in [
            ("", format!("{new}\n")),
            ("# no newline", format!("# no newline\n{new}\n")),
            ("k8s broken\r\n", format!("k8s broken\r\n{new}\r\n")),
        ] {
            assert_eq!(edited(before, |lines| lines.add(&token)), after);
        }
    }

    #[test]
    fn lines_of_a_token_expire_and_no_other_line_changes() {
        let before = format!(
            "# ci\r\n{}  # kept\r\n{}\nci broken\n{}",
            line(" ci ", "never"),
            line("ci", "2026-01-01"),
            line("ci2", "never")
        );
        let until: Expiry = "2027-02-24".parse().unwrap();
        let after = edited(&before, |lines| lines.expire("ci", until));
        assert_eq!(
            after,
            before.replacen("expires=never", "expires=2027-02-24", 1).replacen(" ci ", "ci ", 1)
        );
    }

    #[test]
    fn removed_token_loses_all_its_lines() {
        let before =
            format!("# ci\n{}\nci broken\n{}\nci\t\n", line("ci", "never"), line("ci2", "never"));
        let mut removed = 0;
        let after = edited(&before, |lines| removed = lines.remove("ci"));
        assert_eq!((removed, after), (3, format!("# ci\n{}\n", line("ci2", "never"))));
        let mut lines = TokenLines::from_bytes(before.as_bytes());
        lines.remove_expired("ci", Timestamp::MAX);
        assert_eq!(lines.to_bytes(), before.as_bytes(), "none has expired");
        let over = line("ci", "2026-01-01") + "\n" + &line("ci2", "2026-01-01");
        let mut lines = TokenLines::from_bytes(over.as_bytes());
        lines.remove_expired("ci", "2026-01-02T00:00:00Z".parse().unwrap());
        assert_eq!(lines.to_bytes(), line("ci2", "2026-01-01").as_bytes());
        let mut broken = TokenLines::from_bytes(b"ci \xff\nk8s\n");
        assert_eq!(broken.remove("ci"), 1);
        assert_eq!(broken.to_bytes(), b"k8s\n");
    }
}
