//! Valid names of users.

use std::{fmt, str::FromStr};

/// The longest name `htpasswd` writes and Apache reads back.
const MAX_BYTES: usize = 255;

/// A name that survives both the password file and HTTP Basic.
///
/// Not empty, at most 255 bytes, without colon and control characters (RFC 7617 §2), and such that a
/// line that begins with it is read back as the same name: no `#` and no byte order mark in front,
/// no white space at either end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(String);

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserNameError {
    /// RFC 7617 allows it, no client does.
    #[error("the user name is empty")]
    Empty,
    /// The colon separates user and password, in the file and in HTTP Basic.
    #[error("the user name contains a colon")]
    Colon,
    /// RFC 7617 §2 forbids them; in the file they would break the line.
    #[error("the user name contains a control character")]
    Control,
    /// The line would be a comment.
    #[error("the user name begins with `#`, which would make its line a comment")]
    Comment,
    /// White space around a line does not belong to it.
    #[error("the user name begins or ends with white space")]
    WhiteSpace,
    /// Apache's limit.
    #[error("the user name is longer than {MAX_BYTES} bytes")]
    TooLong,
}

impl UserName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = UserNameError;

    fn from_str(name: &str) -> Result<Self, UserNameError> {
        if name.is_empty() {
            Err(UserNameError::Empty)
        } else if name.len() > MAX_BYTES {
            Err(UserNameError::TooLong)
        } else if name.contains(':') {
            Err(UserNameError::Colon)
        } else if name.contains(char::is_control) {
            Err(UserNameError::Control)
        } else if name.starts_with('#') {
            Err(UserNameError::Comment)
        } else if name.trim() != name || name.starts_with('\u{feff}') {
            Err(UserNameError::WhiteSpace)
        } else {
            Ok(Self(name.to_owned()))
        }
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> Self {
        name.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_file_cannot_hold_are_refused() {
        for (name, reason) in [
            ("", UserNameError::Empty),
            ("a:b", UserNameError::Colon),
            ("a\nb", UserNameError::Control),
            ("a\0", UserNameError::Control),
            ("#a", UserNameError::Comment),
            (" a", UserNameError::WhiteSpace),
            ("a\u{a0}", UserNameError::WhiteSpace),
            ("\u{feff}a", UserNameError::WhiteSpace),
            (&"x".repeat(256), UserNameError::TooLong),
        ] {
            assert_eq!(name.parse::<UserName>(), Err(reason), "{name:?}");
        }
        for name in ["admin", "a b", "jürgen", "robot$ci+x", "a#"] {
            assert_eq!(name.parse::<UserName>().unwrap().as_str(), name);
        }
    }
}
