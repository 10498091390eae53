//! Sockets: the listener, TLS, certificates and their reload, the drain at the end.
//!
//! This room takes a service and serves it. It knows nothing of registries, users or configuration
//! files; what it can be told is in [`Options`].

use std::{convert::Infallible, error::Error, io, sync::Arc, time::Duration};

use axum::http::{Request, Response};
use hyper::{body::Body, service::Service};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    connection::Http,
    connection_limit::{ConnectionLimit, ConnectionPermit},
    listener::{AcceptedSocket, Socket},
    tls::Tls,
};
pub use self::{
    connection_limit::Connections,
    listener::{Address, BindError, InheritError, Listener},
    options::{
        CertificateSource, ClientAuth, ClientCertificates, H2cOptions, Http2Options, Net, Options,
        TlsOptions, TlsVersion,
    },
    peer::Peer,
    received::Received,
    tls::CipherSuite,
    workers::Workers,
};

mod acceptor;
pub mod authority;
pub mod certificates;
mod connection;
mod connection_limit;
mod discard;
mod idle;
mod listener;
mod options;
mod peer;
mod received;
mod rlimit;
pub mod tls;
mod transport;
mod unauthenticated;
mod workers;

/// How long to wait when no connection can be accepted, for want of file descriptors mostly.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// When none could be accepted for a while, and then for so long none failed, it is said again.
const REPEAT_LOG_AFTER: Duration = Duration::from_secs(60);

/// A server that is listening.
#[derive(Debug)]
pub struct Server {
    addr: Address,
    connection_limit: Arc<ConnectionLimit>,
    /// The listener, every connection, and the streams of those that speak HTTP/2.
    tasks: TaskTracker,
    /// No new connections, no new requests.
    stopping: CancellationToken,
    /// No connections.
    stopped: CancellationToken,
}

impl Server {
    /// Serves those who connect, with these `workers`, which have to outlive it. `tls` secures the
    /// connections; without it they are plain. `service` gives for the other end of a connection the
    /// service that answers what comes from there.
    pub fn start<M, S, B>(
        listener: Listener,
        options: &Options,
        tls: Option<Tls>,
        workers: &Workers,
        service: M,
    ) -> Self
    where
        M: Fn(Peer) -> S + Send + Sync + 'static,
        S: Service<Request<Received>, Response = Response<B>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
    {
        let Listener { socket, addr, file } = listener;
        let (stopping, stopped) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let http = Http::new(options.idletimeout, tasks.clone(), stopping.clone());
        let http = Arc::new(http);
        let connection_limit = ConnectionLimit::new(options, stopped.clone());
        let connect = {
            let (tasks, pool) = (tasks.clone(), workers.pool());
            let h2c = options.h2c.enabled;
            move |socket: AcceptedSocket, permit: ConnectionPermit| {
                let assignment = pool.assign();
                let runtime = assignment.runtime.clone();
                let (tls, http) = (tls.clone(), Arc::clone(&http));
                let addr = socket.peer();
                let (peer, activity) = (permit.peer.clone(), Arc::clone(&permit.activity));
                let end = permit.end.clone();
                let service = service(peer.clone());
                let serve = async move {
                    let _held = (permit, assignment);
                    match acceptor::accept(socket, tls.as_ref(), h2c).await {
                        Ok(accepted) => http.serve(accepted, peer, activity, service).await,
                        Err(error) if tls::is_about_certificate(&error) => {
                            tracing::info!(%error, peer = ?addr, "a client was refused for its certificate");
                        }
                        // Scanners, health checks and clients that give up do this all day.
                        Err(error) => tracing::debug!(%error, peer = ?addr, "no connection"),
                    }
                };
                // Moved as it is, each of these would have room for it once more.
                let serve = Box::pin(serve);
                tasks.spawn_on(end.run_until_cancelled_owned(serve), &runtime);
            }
        };
        let (until, free) = (stopping.clone(), Arc::clone(&connection_limit));
        tasks.spawn(async move {
            until.run_until_cancelled(accept(&socket, &free, connect)).await;
            // From here on nobody can connect.
            drop(socket);
            if let Some(file) = file {
                let _ = tokio::task::spawn_blocking(move || drop(file)).await;
            }
        });
        Self { addr, connection_limit, tasks, stopping, stopped }
    }

    /// Where it listens; with port 0 in the options, with the port that was chosen.
    #[must_use]
    pub const fn addr(&self) -> &Address {
        &self.addr
    }

    /// How many connections there are and may be.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.connection_limit.count()
    }

    /// Tells the same whenever it is asked, for as long as anybody asks.
    pub fn count_connections(&self) -> impl Fn() -> Connections + Clone + Send + Sync + use<> {
        let connection_limit = Arc::clone(&self.connection_limit);
        move || connection_limit.count()
    }

    /// Stops listening, lets requests that run finish for at most `drain`, then ends them.
    pub async fn stop(self, drain: Duration) {
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(drain, self.tasks.wait()).await.is_err() {
            self.stopped.cancel();
            self.tasks.wait().await;
        }
    }
}

/// Accepts connections for ever. Where there is no slot for one, further clients wait where the system
/// keeps them.
async fn accept(
    socket: &Socket,
    connection_limit: &Arc<ConnectionLimit>,
    connect: impl Fn(AcceptedSocket, ConnectionPermit),
) {
    let mut failed: Option<Instant> = None;
    loop {
        match socket.accept().await {
            Ok(socket) => {
                let permit = connection_limit.admit(socket.peer()).await;
                connect(socket, permit);
            }
            // The client has gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if failed.is_none_or(|failed| failed.elapsed() > REPEAT_LOG_AFTER) {
                    tracing::error!(
                        %error,
                        "cannot accept connections and keeps trying; if descriptors have run out, \
                         raise their limit (ulimit -n, LimitNOFILE=) or lower http.maxconnections"
                    );
                }
                failed = Some(Instant::now());
                connection_limit.make_room();
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
