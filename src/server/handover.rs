//! The channel through which the accept loop hands connections over to a worker. It is the listener of
//! the worker's axum-server.

use std::io;

use axum_server::{AddrListener, Address};
use tokio::sync::{
    Mutex,
    mpsc::{self, UnboundedReceiver, UnboundedSender},
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    connection::{Connection, Held},
    listener::AcceptedSocket,
};

/// An accepted connection, on its way to a worker.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: AcceptedSocket,
    pub(super) connection: Connection,
    pub(super) held: Held,
    /// Held until the HTTP version of the connection is known.
    pub(super) opening: TaskTrackerToken,
}

/// The receiving end of the channel.
#[derive(Debug)]
pub(super) struct Handover(Mutex<UnboundedReceiver<Accepted>>);

impl Handover {
    /// A channel to one worker. It needs no bound of its own: each connection in it holds a connection
    /// permit.
    pub(super) fn new() -> (UnboundedSender<Accepted>, Self) {
        let (send, receive) = mpsc::unbounded_channel();
        (send, Self(Mutex::new(receive)))
    }
}

/// axum-server calls the maker of services with the address of each connection; the address carries
/// the whole connection.
impl Address for Connection {
    type Stream = Accepted;
    type Listener = Handover;
}

impl AddrListener<Accepted, Connection> for Handover {
    /// Unsupported: the accept loop has bound the socket.
    async fn bind_to(_: Connection) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The next connection. Pending for ever after the accept loop has ended, since axum-server is
    /// stopped through its handle.
    async fn accept_stream(&self) -> io::Result<(Accepted, Connection)> {
        match self.0.lock().await.recv().await {
            Some(accepted) => {
                let connection = accepted.connection.clone();
                Ok((accepted, connection))
            }
            None => std::future::pending().await,
        }
    }

    /// Unsupported: only the connections have addresses.
    fn get_local_addr(&self) -> io::Result<Connection> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
