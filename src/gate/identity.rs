//! Identities: the names under which callers are let in.

use std::{borrow::Cow, fmt, sync::Arc};

/// The name that a caller has proved, and how. As text: `-`, `ann`, `token:ci`, `cert:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The caller has proved no name.
    Anonymous,
    /// A user of the htpasswd file, by a password.
    User(Arc<str>),
    /// A deploy token, by its secret.
    Token(Arc<str>),
    /// A name in a client certificate.
    Certificate(Arc<str>),
}

impl Identity {
    /// The name without its kind; `None` for an anonymous caller.
    #[must_use]
    pub const fn name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Anonymous => None,
            Self::User(name) | Self::Token(name) | Self::Certificate(name) => Some(name),
        }
    }
}

impl Identity {
    /// The name with its kind; `None` for an anonymous caller.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Anonymous => None,
            Self::User(name) => Some(Cow::Borrowed(name)),
            Self::Token(_) | Self::Certificate(_) => Some(Cow::Owned(self.to_string())),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("-"),
            Self::User(name) => f.write_str(name),
            Self::Token(name) => write!(f, "token:{name}"),
            Self::Certificate(name) => write!(f, "cert:{name}"),
        }
    }
}
