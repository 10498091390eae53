//! `who` of a rule.

use std::fmt;

use serde::Deserialize;

use super::Subject;

/// The callers that a rule is for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Who {
    /// `anyone`: every caller, with a name or without one.
    Anyone,
    /// `users`: every caller that has proved a name, deploy tokens aside.
    Users,
    /// A user's name, or `user:NAME`.
    User(Box<str>),
    /// `group:NAME`.
    Group(Box<str>),
}

impl Who {
    /// Whether the caller is among these.
    pub(super) fn includes(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Anyone => true,
            Self::Users => subject.name.is_some(),
            Self::User(name) => subject.name == Some(name),
            Self::Group(name) => subject.groups.iter().any(|group| group.group() == &**name),
        }
    }

    /// Whether every caller of `other` is one of these. May miss that it is; never says so wrongly.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match self {
            Self::Anyone => true,
            Self::Users => *other != Self::Anyone,
            Self::User(_) | Self::Group(_) => self == other,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Users => f.write_str("users"),
            // A user may have the name of a word.
            Self::User(name) if matches!(&**name, "anyone" | "users") => write!(f, "user:{name}"),
            Self::User(name) => f.write_str(name),
            Self::Group(name) => write!(f, "group:{name}"),
        }
    }
}

impl TryFrom<String> for Who {
    type Error = InvalidWho;

    fn try_from(written: String) -> Result<Self, InvalidWho> {
        match written.split_once(':') {
            None if written == "anyone" => Ok(Self::Anyone),
            None if written == "users" => Ok(Self::Users),
            None if written.is_empty() || written == "*" => Err(InvalidWho::Nobody(written)),
            None => Ok(Self::User(written.into())),
            Some(("user" | "group", "")) => Err(InvalidWho::Nobody(written)),
            Some(("user", name)) => Ok(Self::User(name.into())),
            Some(("group", name)) if !name.contains(':') => Ok(Self::Group(name.into())),
            Some(_) => Err(InvalidWho::Kind(written)),
        }
    }
}

/// The error of a text that names no callers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWho {
    /// There is no name.
    #[error(
        "{0:?} names no caller; write `anyone`, `users` for all who have logged in, a user's name, \
         or `group:NAME`"
    )]
    Nobody(String),
    /// The word before the colon is unknown: a name has no colon.
    #[error("no user has a colon in the name {0:?}; write `user:NAME` or `group:NAME`")]
    Kind(String),
}
