//! Valid names of deploy tokens.

use std::{fmt, str::FromStr};

/// The longest name: a name stands in headers, in lines of the log and in commands.
const MAX_BYTES: usize = 64;

/// The name of a deploy token, which is the user in HTTP Basic: `[a-z0-9][a-z0-9._-]*`, at most 64
/// bytes.
///
/// No character needs escaping in a shell, a URL, YAML or a make file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenName(String);

/// The text is not the name of a deploy token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenNameError {
    /// It is longer than a name may be.
    #[error("the name of a token has at most {MAX_BYTES} characters")]
    TooLong,
    /// It has another character, or begins with punctuation.
    #[error(
        "the name of a token has lower-case letters, digits, `.`, `_` and `-`, and begins with a \
         letter or a digit"
    )]
    Character,
}

impl TokenName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenName {
    type Err = TokenNameError;

    fn from_str(name: &str) -> Result<Self, TokenNameError> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if name.len() > MAX_BYTES {
            Err(TokenNameError::TooLong)
        } else if name.bytes().next().is_some_and(is_plain)
            && name.bytes().all(|b| is_plain(b) || matches!(b, b'.' | b'_' | b'-'))
        {
            Ok(Self(name.to_owned()))
        } else {
            Err(TokenNameError::Character)
        }
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_need_no_escaping() {
        for name in ["ci", "k8s", "0", "ci-team_a.2", &"x".repeat(64)] {
            assert_eq!(name.parse::<TokenName>().unwrap().as_str(), name);
        }
        for name in ["", "-ci", ".ci", "Ci", "robot$ci", "a+b", "a b", "a:b", "ä", "#x", "a=b"] {
            assert_eq!(name.parse::<TokenName>(), Err(TokenNameError::Character), "{name}");
        }
        assert_eq!("x".repeat(65).parse::<TokenName>(), Err(TokenNameError::TooLong));
    }
}
