//! Who is at the other end of a connection.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use futures_util::task::AtomicWaker;

use super::connection_limit::Entry;

/// The other end of a connection. Clones are about the same connection.
#[derive(Clone, Debug)]
pub struct Peer {
    addr: Option<SocketAddr>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    authenticated: AtomicBool,
    /// Whoever reads the connection, while it waits to be allowed to.
    reader: AtomicWaker,
    /// What is told of it; nobody is in tests.
    entry: Option<Arc<Entry>>,
}

impl Peer {
    /// One that nobody is told of.
    #[cfg(test)]
    pub(super) fn new(addr: Option<SocketAddr>) -> Self {
        Self { addr, shared: Arc::default() }
    }

    /// The other end of a connection that is entered among the unauthenticated ones.
    pub(super) fn of(addr: Option<SocketAddr>, entry: Arc<Entry>) -> Self {
        let shared = Shared { entry: Some(entry), ..Shared::default() };
        Self { addr, shared: Arc::new(shared) }
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
            self.shared.authenticated.store(true, Ordering::Release);
            if let Some(entry) = &self.shared.entry {
                entry.authenticated();
            }
            self.wake_reader();
        }
    }

    /// Whether a request on this connection was let in.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.shared.authenticated.load(Ordering::Acquire)
    }

    /// Has `reader` woken when the connection may be read on.
    pub(super) fn register_reader(&self, reader: &Waker) {
        self.shared.reader.register(reader);
    }

    pub(super) fn wake_reader(&self) {
        self.shared.reader.wake();
    }
}
