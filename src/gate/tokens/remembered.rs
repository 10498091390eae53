//! The session token that a connection presented last, so that a client at work costs one signature and
//! not one for each request.
//!
//! A token that is remembered was valid, and stays valid as long as nothing that made it so has changed:
//! the keys, the line that let its caller in, and the time. All three are looked at for each request.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::constant_time;

use super::keys::Keys;
use crate::gate::{Ceiling, Identity};

/// The last valid token of a connection, if any.
#[derive(Default)]
pub(in crate::gate) struct Remembered(Mutex<Option<Box<Valid>>>);

/// A token that was valid.
pub(in crate::gate) struct Valid {
    pub(super) token: Box<str>,
    /// The keys in force at that time.
    pub(super) keys: Arc<Keys>,
    /// The last second, since 1970, in which the token is valid.
    pub(super) last_second: u64,
    /// The line that let the caller in; `None` for an anonymous caller.
    pub(in crate::gate) line: Option<Box<[u8]>>,
    pub(in crate::gate) identity: Identity,
    pub(in crate::gate) ceiling: Arc<Ceiling>,
}

impl Remembered {
    /// Reads the token if it is the remembered one.
    pub(in crate::gate) fn recall<T>(
        &self,
        token: &str,
        read: impl FnOnce(&Valid) -> Option<T>,
    ) -> Option<T> {
        let valid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let valid = valid.as_ref()?;
        // Behind a proxy others may send guesses over this connection.
        let is_same =
            constant_time::verify_slices_are_equal(valid.token.as_bytes(), token.as_bytes());
        is_same.ok().and_then(|()| read(valid))
    }

    /// Remembers a token in place of the one before.
    pub(in crate::gate) fn remember(&self, valid: Valid) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(valid));
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A token is as good as a password for a while.
        f.debug_struct("Remembered").finish_non_exhaustive()
    }
}
