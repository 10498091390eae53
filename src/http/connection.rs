//! What the requests on one connection share.

use std::fmt;

use super::Peer;
use crate::gate::{Certificate, Session};

/// The connection of a request.
pub struct Connection {
    pub(super) peer: Peer,
    /// What the gate remembers of the connection.
    pub(super) session: Session,
    /// Called for each authenticated request.
    authenticated: Box<dyn Fn() + Send + Sync>,
}

impl Connection {
    /// The connection that `peer` opened. `authenticated` is called for each request on it that the
    /// gate authenticates.
    pub fn new(peer: impl Into<Peer>, authenticated: impl Fn() + Send + Sync + 'static) -> Self {
        let session = Session::default();
        Self { peer: peer.into(), session, authenticated: Box::new(authenticated) }
    }

    /// The same connection, with the verified certificate that names its client.
    #[must_use]
    pub fn with_certificate(self, certificate: Option<Certificate>) -> Self {
        Self { session: Session::of(certificate), ..self }
    }

    /// Reports that the gate has authenticated a request.
    pub(super) fn authenticated(&self) {
        (self.authenticated)();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}
