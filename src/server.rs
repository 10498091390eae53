//! Sockets: the listener, TLS, certificates and their reload, the drain at the end.
//!
//! The module takes a service and serves it. It knows nothing of registries, users or configuration
//! files; its settings are [`Options`].

use std::{convert::Infallible, error::Error, future::ready, sync::Arc, time::Duration};

use axum::http::{Request, Response};
use axum_server::{Control, Handle};
use hyper::{body::Body, service::Service};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    accept_loop::AcceptLoop, acceptor::Acceptor, acme::Challenges, connection::Connection,
    connection_limit::ConnectionLimit, handover::Handover, tls::Tls,
};
pub use self::{
    connection_limit::Connections,
    listener::{Address, BindError, InheritError, Listener},
    options::{
        CertificateFiles, CertificateSource, ClientAuth, ClientCertificates, H2cOptions,
        Http2Options, Net, Options, Passthrough, TlsOptions, TlsVersion,
    },
    passthrough::Sites,
    peer::Peer,
    received::Received,
    tls::CipherSuite,
    workers::Workers,
};

mod accept_loop;
mod acceptor;
pub mod acme;
pub mod authority;
pub mod certificates;
pub mod client_hello;
mod connection;
mod connection_limit;
mod discard;
mod distrust;
mod handover;
mod head_limit;
mod hourly;
mod idle;
mod listener;
pub mod machine;
mod options;
mod passthrough;
mod peer;
pub mod proxy_header;
mod received;
mod rlimit;
pub mod tls;
mod transport;
mod unauthenticated;
mod workers;

/// The size of each buffer of an HTTP/1 connection. It bounds what the server holds for a slow client,
/// beside one chunk of a blob, and has room for the longest head.
const BUFFER: usize = head_limit::HEAD_LIMIT;

/// The longest header list of an HTTP/2 request, decompressed. Clients send less than 2 KiB.
const HEADER_LIST: u32 = 16 * 1024;

/// The flow-control window of an HTTP/2 stream (RFC 9113 §5.2): enough for one upload at full rate, and
/// half of the connection's window.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// The flow-control window of an HTTP/2 connection: the most that the server buffers for its streams.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// The most concurrent streams of an HTTP/2 connection.
const MAX_STREAMS: u32 = 200;

/// When the server stops, how long it waits for new connections whose HTTP version is not known yet.
const OPENING_GRACE: Duration = Duration::from_secs(1);

/// The response to a plain HTTP request on the TLS port, of the beginning of that request: its head where
/// that is shorter than 4 KiB. The server sends the returned bytes and closes the connection.
pub type PlainHttpRefusal = fn(&[u8]) -> Vec<u8>;

/// How a server speaks HTTPS.
#[derive(Clone, Debug)]
pub struct Https {
    /// The TLS configuration.
    pub tls: Tls,
    /// Answers clients that speak plain HTTP.
    pub refusal: PlainHttpRefusal,
    /// Sites of other servers, whose connections are passed through.
    pub sites: Sites,
    /// What an authority may ask for before it issues a certificate.
    pub challenges: Challenges,
}

/// A server that is listening.
#[derive(Debug)]
pub struct Server {
    addr: Address,
    connection_limit: Arc<ConnectionLimit>,
    /// The accept loop, every connection, and the streams of HTTP/2 connections.
    tasks: TaskTracker,
    /// Connections whose HTTP version is not known yet.
    opening: TaskTracker,
    /// Ends axum-server on every worker.
    control: Control,
    /// Cancelled when the drain begins: no new connections, no new requests.
    stopping: CancellationToken,
    /// Cancelled when the drain has taken too long: closes all connections.
    stopped: CancellationToken,
}

impl Server {
    /// Serves the clients of `listener` on the runtimes of `workers`, which must outlive the server.
    /// With `https` the connections are TLS, without it plain HTTP. The server calls `service` for the
    /// first request of each connection; the returned service answers the requests of that peer.
    pub fn start<M, S, B>(
        listener: Listener,
        options: &Options,
        https: Option<Https>,
        workers: &Workers,
        service: M,
    ) -> Self
    where
        M: Fn(Peer) -> S + Send + Sync + 'static,
        S: Service<Request<Received>, Response = Response<B>, Error = Infallible>
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
    {
        let Listener { socket, addr, file } = listener;
        let stopping = CancellationToken::new();
        let stopped = CancellationToken::new();
        let tasks = TaskTracker::new();
        let opening = TaskTracker::new();
        let control = Control::new();
        let connection_limit = ConnectionLimit::new(options, stopped.clone());
        let may_speak_http2 =
            if https.is_some() { !options.http2.disabled } else { options.h2c.enabled };
        let acceptor = Acceptor {
            https,
            may_speak_http2,
            proxied: options.proxyprotocol.as_slice().into(),
            clients: Arc::clone(&options.clients),
            stopping: stopping.clone(),
            reported: Arc::default(),
        };
        let service = Arc::new(service);
        let pool = workers.pool();
        let mut handovers = Vec::new();
        for runtime in pool.runtimes() {
            let (handover, listener) = Handover::new();
            handovers.push(handover);
            let service = Arc::clone(&service);
            let make_service = tower::service_fn(move |connection: Connection| {
                ready(Ok::<_, Infallible>(connection.track(Arc::clone(&service))))
            });
            let server = axum_server::Server::<Connection>::from_listener(listener)
                .handle(Handle::with_control(control.clone()))
                .acceptor(acceptor.clone());
            let serve = http_options(server, options).serve(make_service);
            tasks.spawn_on(serve, runtime);
        }
        let accept_loop = AcceptLoop {
            socket,
            clients: Arc::clone(&options.clients),
            connection_limit: Arc::clone(&connection_limit),
            pool,
            handovers,
            tasks: tasks.clone(),
            opening: opening.clone(),
        };
        let until = stopping.clone();
        tasks.spawn(async move {
            until.run_until_cancelled(accept_loop.run()).await;
            // Closes the socket: from here on no client can connect.
            drop(accept_loop);
            if let Some(file) = file {
                let _ = tokio::task::spawn_blocking(move || drop(file)).await;
            }
        });
        Self { addr, connection_limit, tasks, opening, control, stopping, stopped }
    }

    /// The address of the listener. If the options have port 0, it has the port that the system has
    /// chosen.
    #[must_use]
    pub const fn addr(&self) -> &Address {
        &self.addr
    }

    /// The number of connections, and the connection limit.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.connection_limit.count()
    }

    /// Returns a function with the result of [`connections`](Self::connections) at each call, for
    /// metrics. It may outlive the server.
    pub fn count_connections(&self) -> impl Fn() -> Connections + Clone + Send + Sync + use<> {
        let connection_limit = Arc::clone(&self.connection_limit);
        move || connection_limit.count()
    }

    /// Stops listening, and waits for running requests for at most `drain`; then closes all
    /// connections.
    pub async fn stop(self, drain: Duration) {
        // The accept loop ends first: axum-server prefers new connections to its own shutdown. The
        // shutdown drops connections whose HTTP version is not known yet, and their clients may have
        // sent a request, so it waits for these connections.
        self.stopping.cancel();
        self.tasks.close();
        self.opening.close();
        let drained = async {
            let _ = timeout(OPENING_GRACE, self.opening.wait()).await;
            self.control.graceful_shutdown(None);
            self.tasks.wait().await;
        };
        if timeout(drain, drained).await.is_err() {
            self.stopped.cancel();
            self.control.shutdown();
            self.tasks.wait().await;
        }
    }
}

/// Sets the limits and the versions of HTTP on each connection of a server.
fn http_options(
    mut server: axum_server::Server<Connection, Acceptor>,
    options: &Options,
) -> axum_server::Server<Connection, Acceptor> {
    let http = server.http_builder();
    // hyper has one timer for idle keep-alive connections and for the head of a request.
    http.http1().header_read_timeout(options.idletimeout).max_buf_size(BUFFER);
    http.http2()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(HEADER_LIST);
    if server.get_ref().may_speak_http2 { server } else { server.http1_only() }
}
