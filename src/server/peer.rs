//! Who is at the other end of a connection.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The other end of a connection. Clones are about the same connection.
#[derive(Clone, Debug)]
pub struct Peer {
    addr: Option<SocketAddr>,
    authenticated: Arc<AtomicBool>,
}

impl Peer {
    pub(super) fn new(addr: Option<SocketAddr>) -> Self {
        Self { addr, authenticated: Arc::default() }
    }

    /// Its address; `None` where it came through a socket that is a file.
    #[must_use]
    pub const fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Notes that a request on this connection was let in. Until then the connection is a
    /// stranger's, which may hold less, and for less long.
    pub fn authenticated(&self) {
        // Each request says so; a store would take the line of the cache from other processors.
        if !self.is_authenticated() {
            self.authenticated.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a request on this connection was let in.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Relaxed)
    }
}
