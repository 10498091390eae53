//! Deploy tokens: names with a secret of their own, for programs.
//!
//! A token stands in a line of a text file beside the password file, with the SHA-256 of its secret,
//! its rights and its expiry. [`DeployTokens`] is the parsed file; [`TokenLines`] is the same file as
//! text, for changing one token and leaving all other lines as they are; [`TokenFile`] is the file as
//! a running server reads it. `in_force.rs` finds the token of a request.

mod expiry;
mod file;
mod findings;
mod gate;
mod in_force;
mod line;
mod lines;
mod name;
mod options;
mod secret;
mod uses;

use std::fmt;

pub(in crate::gate) use self::in_force::{Found, Line, TokensInForce};
pub use self::{
    expiry::{Expiry, InvalidExpiry},
    file::{TokenFile, change},
    findings::Finding,
    gate::ChangedTokens,
    line::{DeployToken, InvalidWord, Joined, LineError, Word},
    lines::TokenLines,
    name::{TokenName, TokenNameError},
    options::TokenOptions,
    secret::{Form, NoDigest, PREFIX, Secret, SecretDigest},
    uses::{LastUses, UseFile},
};
use crate::gate::text_file::{Utf16, utf16, without_bom};

/// A parsed token file.
///
/// Lines are trimmed, and blank lines and lines that begin with `#` are skipped. A name may have
/// several lines, each with a secret of its own: so does a token that was rotated, while its old secret
/// is kept. A line that cannot be used is a [`Problem`] and opens nothing; the others count.
#[derive(Debug, Default)]
pub struct DeployTokens {
    entries: Vec<Entry>,
    problems: Vec<Problem>,
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number; the first is 1.
    pub line: usize,
    /// The token.
    pub token: DeployToken,
}

/// A line that cannot be used. Its `Display` is a sentence for the log, without the values of fields:
/// one of them may be a secret.
#[derive(Debug)]
pub struct Problem {
    /// The line's number; the first is 1.
    pub line: usize,
    /// The name, where the line begins with one.
    pub name: Option<TokenName>,
    /// Why the line cannot be used.
    pub reason: Reason,
}

/// Why a line of the token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The whole file is in UTF-16; none of its lines is read.
    #[error(transparent)]
    Utf16(Utf16),
    /// The line is not text.
    #[error("not valid UTF-8")]
    NotUtf8,
    /// The line is no token.
    #[error(transparent)]
    Line(#[from] LineError),
}

impl DeployTokens {
    /// Parses a whole file. Parsing never fails: lines that cannot be used are listed by
    /// [`Self::problems`].
    ///
    /// LF and CRLF, a missing newline at the end and a byte order mark at the beginning are allowed. A
    /// file in UTF-16 has no tokens and one problem.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut parsed = Self::default();
        if let Some(encoding) = utf16(bytes) {
            parsed.problems.push(Problem { line: 1, name: None, reason: Reason::Utf16(encoding) });
            return parsed;
        }
        for (index, bytes) in without_bom(bytes).split(|&b| b == b'\n').enumerate() {
            let line = index + 1;
            let Ok(text) = str::from_utf8(bytes) else {
                parsed.problems.push(Problem { line, name: None, reason: Reason::NotUtf8 });
                continue;
            };
            let Some(name) = line::name_in(text) else { continue };
            match text.parse::<DeployToken>() {
                Ok(token) => parsed.entries.push(Entry { line, token }),
                Err(error) => {
                    let name = name.parse().ok();
                    parsed.problems.push(Problem { line, name, reason: error.into() });
                }
            }
        }
        parsed
    }

    /// The lines that can be used, in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The lines that cannot be used, in the order of the file.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The usable lines of a token, in the order of the file.
    pub fn of(&self, name: &str) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.token.name.as_str() == name)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, name, reason } = self;
        match name {
            Some(name) => write!(f, "line {line} (token {name}): {reason}"),
            None => write!(f, "line {line}: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

    fn line(name: &str) -> String {
        format!("{name} sha256={DIGEST} may=pull repositories=** expires=never")
    }

    #[test]
    fn unusable_line_is_named_and_does_not_hide_the_others() {
        let text = format!(
            "\u{feff}{}\r\n\r\n# robots\n  {}  \nk8s may=pull\nCI x\n{}",
            line("a"),
            line("b"),
            line("a")
        );
        let mut bytes = text.into_bytes();
        bytes.extend(b"\nc \xff\n");
        let parsed = DeployTokens::parse(&bytes);
        let entries = parsed.entries().iter();
        let entries: Vec<_> = entries.map(|e| (e.line, e.token.name.as_str())).collect();
        assert_eq!(entries, [(1, "a"), (4, "b"), (7, "a")]);
        assert_eq!(parsed.of("a").map(|e| e.line).collect::<Vec<_>>(), [1, 7]);
        let problems: Vec<_> = parsed.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("line 5 (token k8s): sha256 is missing"), "{problems:?}");
        assert!(problems[1].starts_with("line 6: the name of a token has"), "{problems:?}");
        assert_eq!(problems[2], "line 8: not valid UTF-8");
    }

    #[test]
    fn utf_16_file_is_named_and_has_no_tokens() {
        let bytes: Vec<u8> = line("a").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let parsed = DeployTokens::parse(&bytes);
        assert!(parsed.entries().is_empty());
        let problem = parsed.problems()[0].to_string();
        assert!(problem.contains("`iconv -f UTF-16LE -t UTF-8`"), "{problem}");
    }
}
