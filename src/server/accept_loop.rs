//! The accept loop: accepts connections, takes a connection permit for each, and assigns each to a
//! worker.

use std::{io, sync::Arc, time::Duration};

use tokio::{sync::mpsc::UnboundedSender, time::Instant};
use tokio_util::task::TaskTracker;

use super::{
    connection::{Connection, Held},
    connection_limit::ConnectionLimit,
    handover::Accepted,
    listener::{AcceptedSocket, Socket},
    workers::WorkerPool,
};
use crate::network::Clients;

/// How long the loop waits after a failed accept. Most often the process has no free descriptor.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How long after the last failed accept the next one is logged again.
const REPEAT_LOG_AFTER: Duration = Duration::from_secs(60);

/// The accept loop of a server.
pub(super) struct AcceptLoop {
    pub(super) socket: Socket,
    /// The addresses that may connect.
    pub(super) clients: Arc<Clients>,
    pub(super) connection_limit: Arc<ConnectionLimit>,
    pub(super) pool: WorkerPool,
    /// The channels to the workers, in the order of the pool.
    pub(super) handovers: Vec<UnboundedSender<Accepted>>,
    pub(super) tasks: TaskTracker,
    /// Connections whose HTTP version is not known yet.
    pub(super) opening: TaskTracker,
}

impl AcceptLoop {
    /// Accepts connections for ever. While the loop waits for a permit, further clients wait in the
    /// backlog of the socket.
    pub(super) async fn run(&self) {
        let mut failed: Option<Instant> = None;
        loop {
            match self.socket.accept().await {
                Ok(socket) if self.is_denied(&socket) => {
                    tracing::debug!(peer = ?socket.peer(), "http.clients denies a peer");
                }
                Ok(socket) => {
                    let admitted = self.connection_limit.admit(socket.peer()).await;
                    let Some(permit) = admitted else { continue };
                    let connection = Connection::new(&permit, &self.tasks);
                    let assignment = self.pool.assign();
                    let handover = &self.handovers[assignment.worker];
                    let held = Held { permit, _assignment: assignment };
                    // Where the worker's server has ended, the failed send closes the connection.
                    let opening = self.opening.token();
                    let _ = handover.send(Accepted { socket, connection, held, opening });
                }
                // The client has closed the connection already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if failed.is_none_or(|failed| failed.elapsed() > REPEAT_LOG_AFTER) {
                        tracing::error!(
                            %error,
                            "cannot accept connections and keeps trying; if descriptors have run \
                             out, raise their limit (ulimit -n, LimitNOFILE=) or lower \
                             http.maxconnections"
                        );
                    }
                    failed = Some(Instant::now());
                    self.connection_limit.make_room();
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    /// Whether the address of the peer may not connect. A PROXY header that is still to come names another.
    fn is_denied(&self, socket: &AcceptedSocket) -> bool {
        let addr = socket.peer();
        !self.connection_limit.is_proxied(addr) && self.clients.denies(addr.map(|addr| addr.ip()))
    }
}
