//! A connection, as far as the requests on it have to do with each other.

use std::fmt;

use super::Peer;
use crate::gate::Session;

/// A connection that requests come on.
pub struct Connection {
    pub(super) peer: Peer,
    /// What the gate knows of it.
    pub(super) session: Session,
    authenticated: Box<dyn Fn() + Send + Sync>,
}

impl Connection {
    /// The connection that `peer` opened. `authenticated` is told of each request on it that the
    /// gate lets in.
    pub fn new(peer: impl Into<Peer>, authenticated: impl Fn() + Send + Sync + 'static) -> Self {
        let session = Session::default();
        Self { peer: peer.into(), session, authenticated: Box::new(authenticated) }
    }

    /// Notes that a request was let in.
    pub(super) fn authenticated(&self) {
        (self.authenticated)();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}
