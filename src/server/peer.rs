//! The client of a connection: its address, and whether it is authenticated.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use futures_util::task::AtomicWaker;

use super::{certificates::ClientCertificate, connection_limit::Entry};

/// The client of a connection. Clones share its state.
#[derive(Clone, Debug)]
pub struct Peer {
    addr: Option<SocketAddr>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    authenticated: AtomicBool,
    /// The client that a PROXY header names.
    client: OnceLock<SocketAddr>,
    /// The verified certificate that names the client.
    certificate: OnceLock<ClientCertificate>,
    /// The task that reads the connection, while backpressure keeps it waiting.
    reader: AtomicWaker,
    /// The entry among the unauthenticated connections; `None` in tests.
    entry: Option<Arc<Entry>>,
}

impl Peer {
    /// A client without an entry among the unauthenticated connections.
    #[cfg(test)]
    pub(super) fn new(addr: Option<SocketAddr>) -> Self {
        Self { addr, shared: Arc::default() }
    }

    /// The client of a connection with this entry among the unauthenticated ones.
    pub(super) fn of(addr: Option<SocketAddr>, entry: Arc<Entry>) -> Self {
        let shared = Shared { entry: Some(entry), ..Shared::default() };
        Self { addr, shared: Arc::new(shared) }
    }

    /// The client's address: that in the PROXY header of the connection, or else the peer's. `None` for a
    /// client on a Unix socket.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        self.shared.client.get().copied().or(self.addr)
    }

    /// Sets the client that the PROXY header of the connection names. From here on the connection counts for
    /// the client's network.
    pub(super) fn set_client(&self, client: SocketAddr) {
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        self.shared.client.get_or_init(|| client);
        if let Some(entry) = &self.shared.entry {
            entry.set_client(client);
        }
    }

    /// The verified certificate that names the client; `None` for a client without one, and before the end of
    /// the handshake.
    #[must_use]
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.shared.certificate.get()
    }

    /// Sets the verified certificate that names the client.
    pub(super) fn set_certificate(&self, certificate: ClientCertificate) {
        self.shared.certificate.get_or_init(|| certificate);
    }

    /// Records that a request on this connection was authenticated. Until then stricter limits apply
    /// to the connection.
    pub fn authenticated(&self) {
        // Each request calls this; a store would take the cache line from other processors.
        if !self.is_authenticated() {
            self.shared.authenticated.store(true, Ordering::Release);
            if let Some(entry) = &self.shared.entry {
                entry.authenticated();
            }
            self.wake_reader();
        }
    }

    /// Whether a request on this connection was authenticated.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.shared.authenticated.load(Ordering::Acquire)
    }

    /// Registers the task that [`wake_reader`](Self::wake_reader) wakes.
    pub(super) fn register_reader(&self, reader: &Waker) {
        self.shared.reader.register(reader);
    }

    /// Wakes the task that reads the connection: it may read on.
    pub(super) fn wake_reader(&self) {
        self.shared.reader.wake();
    }
}
