//! What the gate knows of one connection.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::verifier::KeyedHash;

/// Requests that may wait for a password check on a connection on which nobody was let in yet. A
/// client that knows its password asks for one thing first; docker, containerd and podman ask for
/// `/v2/`.
const MAX_UNDECIDED: usize = 16;

/// What the gate knows of one connection: make one for each, and pass it to
/// [`Gate::authenticate`](super::Gate::authenticate) with every request that comes on it.
///
/// A connection that was let in goes on with the same credentials when others behind the same
/// address are throttled: the answer tells nobody anything, because it is given to the one who has
/// shown these very credentials. Behind a proxy several clients can share a connection; so that
/// holds only as long as all requests on it came with the same credentials. Whoever guesses over a
/// shared connection ends the exception with the first guess.
#[derive(Debug, Default)]
pub struct Session {
    /// The keyed hash of the first credentials that came.
    first: OnceLock<KeyedHash>,
    /// Whether others came as well.
    mixed: AtomicBool,
    /// Whether a request was let in.
    admitted: AtomicBool,
    /// Requests that wait for a password check.
    undecided: AtomicUsize,
}

impl Session {
    /// Notes the credentials of a request. Whether they are the only ones that this connection has
    /// shown, and it was let in with them.
    pub(super) fn presents(&self, credentials: &KeyedHash) -> bool {
        if self.first.get_or_init(|| *credentials) != credentials {
            self.mixed.store(true, Ordering::Relaxed);
        }
        self.admitted.load(Ordering::Relaxed) && !self.mixed.load(Ordering::Relaxed)
    }

    /// Notes that a request was let in. Whether it is the first one.
    pub(super) fn admit(&self) -> bool {
        !self.admitted.load(Ordering::Relaxed) && !self.admitted.swap(true, Ordering::Relaxed)
    }

    /// Counts a request that has to wait for a check; `None` when too many do.
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
    fn only_the_credentials_that_a_connection_began_with_are_proven_and_only_without_others() {
        let session = Session::default();
        assert!(!session.presents(&[1; 32]), "nobody was let in yet");
        assert!(session.admit() && !session.admit());
        assert!(session.presents(&[1; 32]));
        assert!(!session.presents(&[2; 32]));
        assert!(!session.presents(&[1; 32]), "somebody guesses on this connection");
    }

    #[test]
    fn few_requests_wait_until_somebody_was_let_in() {
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
