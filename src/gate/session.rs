//! The gate's state of one connection.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::{Certificate, tokens::Remembered, verifier::KeyedHash};

/// How many requests may wait for a password check on a connection that is not authenticated yet. A
/// client that knows its password sends one request first; docker, containerd and podman send
/// `GET /v2/`.
const MAX_UNDECIDED: usize = 16;

/// The gate's state of one connection: create one for each connection, and pass it to
/// [`Gate::recall`](super::Gate::recall) and [`Gate::authenticate`](super::Gate::authenticate) with
/// every request on it.
///
/// An authenticated connection is served with the same credentials even while its address is
/// throttled: that tells a guesser nothing, because the client has proven that it has these
/// credentials. Behind a proxy, clients may share a connection; so this holds only as long as all
/// requests on it had the same credentials, and the first guess over a shared connection ends it.
#[derive(Debug, Default)]
pub struct Session {
    /// The keyed hash of the credentials of the first request.
    first: OnceLock<KeyedHash>,
    /// Whether a request had other credentials.
    mixed: AtomicBool,
    /// Whether a request was authenticated.
    admitted: AtomicBool,
    /// Requests that wait for a password check.
    undecided: AtomicUsize,
    /// The verified certificate of the client, where it names the client.
    certificate: Option<Certificate>,
    /// The session token of the last request that had a valid one.
    token: Remembered,
}

impl Session {
    /// A connection whose client has proved with this certificate who it is.
    #[must_use]
    pub fn of(certificate: Option<Certificate>) -> Self {
        Self { certificate, ..Self::default() }
    }

    /// The verified certificate that names the client.
    pub(super) const fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// Records the credentials of a request. Returns whether they are proven: the connection is
    /// authenticated and all requests on it had these credentials.
    pub(super) fn record(&self, credentials: &KeyedHash) -> bool {
        if self.first.get_or_init(|| *credentials) != credentials {
            self.mixed.store(true, Ordering::Relaxed);
        }
        self.admitted.load(Ordering::Relaxed) && !self.mixed.load(Ordering::Relaxed)
    }

    /// Records that a request was authenticated. Returns whether it is the first one.
    pub(super) fn admit(&self) -> bool {
        !self.admitted.load(Ordering::Relaxed) && !self.admitted.swap(true, Ordering::Relaxed)
    }

    /// The session token of the last request that had a valid one.
    pub(super) const fn token(&self) -> &Remembered {
        &self.token
    }

    /// Counts a request that has to wait for a check; `None` when too many wait.
    pub(super) fn wait(&self) -> Option<Undecided<'_>> {
        let undecided = Undecided(&self.undecided);
        let before = self.undecided.fetch_add(1, Ordering::Relaxed);
        (before < MAX_UNDECIDED || self.admitted.load(Ordering::Relaxed)).then_some(undecided)
    }
}

/// A request that waits for a check.
#[derive(Debug)]
pub(super) struct Undecided<'a>(&'a AtomicUsize);

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_proven_if_a_connection_began_with_them_and_had_no_others() {
        let session = Session::default();
        assert!(!session.record(&[1; 32]), "not authenticated yet");
        assert!(session.admit() && !session.admit());
        assert!(session.record(&[1; 32]));
        assert!(!session.record(&[2; 32]));
        assert!(!session.record(&[1; 32]), "another password was tried on this connection");
    }

    #[test]
    fn few_requests_wait_before_a_connection_is_authenticated() {
        let session = Session::default();
        let waiting: Vec<_> = (0..MAX_UNDECIDED).map(|_| session.wait().unwrap()).collect();
        assert!(session.wait().is_none());
        assert!(session.wait().is_none(), "a refused one does not stay");
        session.admit();
        assert!(session.wait().is_some());
        drop(waiting);
        assert_eq!(session.undecided.load(Ordering::Relaxed), 0);
    }
}
