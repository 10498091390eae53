//! What axum-server listens on: connections that the accept loop hands over to a worker.

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

/// A socket that was accepted for a worker.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: AcceptedSocket,
    pub(super) connection: Connection,
    pub(super) held: Held,
    /// Held until the client has shown which version of HTTP it speaks.
    pub(super) opening: TaskTrackerToken,
}

/// The listener of one worker.
#[derive(Debug)]
pub(super) struct Handover(Mutex<UnboundedReceiver<Accepted>>);

impl Handover {
    /// A listener, and where connections are handed over to it. What waits in between is bounded by
    /// the permits that connections hold.
    pub(super) fn new() -> (UnboundedSender<Accepted>, Self) {
        let (send, receive) = mpsc::unbounded_channel();
        (send, Self(Mutex::new(receive)))
    }
}

/// axum-server makes a service for each of what it calls addresses.
impl Address for Connection {
    type Stream = Accepted;
    type Listener = Handover;
}

impl AddrListener<Accepted, Connection> for Handover {
    /// A handover is bound by the accept loop.
    async fn bind_to(_: Connection) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The next connection. Pending for ever when the accept loop has ended: the server stops by its
    /// handle.
    async fn accept_stream(&self) -> io::Result<(Accepted, Connection)> {
        match self.0.lock().await.recv().await {
            Some(accepted) => {
                let connection = accepted.connection.clone();
                Ok((accepted, connection))
            }
            None => std::future::pending().await,
        }
    }

    /// There is no address but those of the connections.
    fn get_local_addr(&self) -> io::Result<Connection> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
