//! What a request presents in `Authorization`.

use axum::http::header;

use super::{basic, bearer, call::Head};
use crate::gate::Credentials;

/// The credentials of a request.
pub(super) enum Authorization<'a> {
    /// The request has no credentials. A Basic header with an empty user and an empty password (`Basic Og==`) is what
    /// containers/image sends then.
    Absent,
    /// A user and a password (RFC 7617), or the secret of a deploy token, which Bearer sends as well.
    Basic(Credentials),
    /// A token (RFC 6750).
    Bearer(&'a str),
    /// The header is malformed or repeated, or has another scheme. The client has meant to name itself, so
    /// that it is not taken for one without credentials.
    Malformed,
}

impl<'a> Authorization<'a> {
    /// The credentials in the head of a request.
    pub(super) fn of(head: &'a Head) -> Self {
        let mut values = head.headers.get_all(header::AUTHORIZATION).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Self::Absent,
            // A proxy before this server may have used another of the values.
            (Some(_), Some(_)) => return Self::Malformed,
            (Some(value), None) => value.as_bytes(),
        };
        match basic::credentials(value) {
            Some(credentials) if credentials.is_empty() => Self::Absent,
            Some(credentials) => Self::Basic(credentials),
            None => match bearer::token(value) {
                None => Self::Malformed,
                Some(token) => match Credentials::of_secret(token.as_bytes()) {
                    Some(credentials) => Self::Basic(credentials),
                    // A JSON Web Token has three parts (RFC 7515 §7.1); no other is accepted.
                    None if token.split('.').count() == 3 => Self::Bearer(token),
                    None => Self::Malformed,
                },
            },
        }
    }
}
