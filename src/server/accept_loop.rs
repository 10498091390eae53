//! Accepts connections: each for a permit, and each for a worker.

use std::{io, sync::Arc, time::Duration};

use tokio::{sync::mpsc::UnboundedSender, time::Instant};
use tokio_util::task::TaskTracker;

use super::{
    connection::{Connection, Held},
    connection_limit::ConnectionLimit,
    handover::Accepted,
    listener::Socket,
    workers::WorkerPool,
};

/// How long to wait when no connection can be accepted, for want of file descriptors mostly.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// When none could be accepted for a while, and then for so long none failed, it is said again.
const REPEAT_LOG_AFTER: Duration = Duration::from_secs(60);

/// What accepts the connections of a server.
pub(super) struct AcceptLoop {
    pub(super) socket: Socket,
    pub(super) connection_limit: Arc<ConnectionLimit>,
    pub(super) pool: WorkerPool,
    /// Where connections are handed over to the workers, in the order of the pool.
    pub(super) handovers: Vec<UnboundedSender<Accepted>>,
    pub(super) tasks: TaskTracker,
    /// Connections whose client has not shown yet which version of HTTP it speaks.
    pub(super) opening: TaskTracker,
}

impl AcceptLoop {
    /// Accepts connections for ever. Where there is no permit for one, further clients wait in the
    /// backlog of the socket.
    pub(super) async fn run(&self) {
        let mut failed: Option<Instant> = None;
        loop {
            match self.socket.accept().await {
                Ok(socket) => {
                    let permit = self.connection_limit.admit(socket.peer()).await;
                    let connection = Connection::new(&permit, &self.tasks);
                    let assignment = self.pool.assign();
                    let handover = &self.handovers[assignment.worker];
                    let held = Held { permit, _assignment: assignment };
                    // Where the server has stopped meanwhile, this closes the connection.
                    let opening = self.opening.token();
                    let _ = handover.send(Accepted { socket, connection, held, opening });
                }
                // The client has gone already.
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
}
