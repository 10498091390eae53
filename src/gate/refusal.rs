//! Refusals: why a caller is not let in.

use std::{sync::Arc, time::Duration};

use super::tokens::deploy::Expiry;

/// Why a caller was not authenticated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too many callers wait for their passwords to be checked.
    #[error("too many passwords are waiting to be checked")]
    Busy {
        /// How long the caller should wait before it tries again.
        retry_after: Duration,
    },
    /// Too many passwords were wrong: none is checked for now.
    #[error("too many passwords were wrong")]
    Throttled {
        /// How long until passwords are checked again.
        retry_after: Duration,
    },
    /// A session token that is not valid, or no longer.
    #[error("the token is no longer valid")]
    InvalidToken,
    /// The secret is that of a deploy token, and the token has expired. Only a caller that has the
    /// secret is told.
    #[error("token {name} expired on {expires}: make another one")]
    TokenExpired {
        /// The name of the token.
        name: Arc<str>,
        /// When it expired.
        expires: Expiry,
    },
    /// No credentials, or wrong ones.
    #[error("no credentials, or wrong ones")]
    Unauthenticated,
}
