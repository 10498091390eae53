//! A connection: the state that its requests share, and the task that ends it.

use std::{
    convert::Infallible,
    error::Error,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::http::{Request, Response};
use http_body_util::{Either, Empty};
use hyper::{
    body::{Body, Incoming},
    service::Service,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::{
    connection_limit::ConnectionPermit,
    head_limit,
    idle::{Activity, Watched},
    passthrough::PassedThrough,
    peer::Peer,
    received::{BodyContext, Received},
    transport::{
        Backpressure, Closable, Closing, ControlFrames, HttpStream, Lingering, Unread, Version,
    },
    workers::Assignment,
};

/// How long an idle client has to close its connection when the server stops.
const LINGER_ON_SHUTDOWN: Duration = Duration::from_secs(5);

/// A connection. Clones share its state.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) peer: Peer,
    body_context: BodyContext,
    closing: Arc<Closing>,
    /// A server that stops waits for the drop of this token.
    _open: TaskTrackerToken,
}

/// The permit and the assignment of a connection, held until its stream is dropped.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) permit: ConnectionPermit,
    pub(super) _assignment: Assignment,
}

/// The stream of an open connection.
pub(super) type Open<S> = Closable<HttpStream<S>, StreamGuards>;

/// The body of a response, or the empty one of a request that is refused for its head.
type OrEmpty<B> = Either<B, Empty<<B as Body>::Data>>;

/// The guards that the stream of a connection drops. `_end` ends the task that watches the
/// connection.
#[derive(Debug)]
pub(super) struct StreamGuards {
    _held: Held,
    _end: DropGuard,
    _open: TaskTrackerToken,
}

/// A connection with the service of its requests. The first request makes the service: only then is it known
/// which client a proxy stands for.
struct Served<M, S> {
    connection: Connection,
    make_service: Arc<M>,
    service: OnceLock<S>,
}

impl Connection {
    /// The connection of a permit. A server that stops waits for `tasks`.
    pub(super) fn new(permit: &ConnectionPermit, tasks: &TaskTracker) -> Self {
        let peer = permit.peer.clone();
        let unread = Unread::new(peer.clone());
        let activity = Arc::clone(&permit.activity);
        let body_context = BodyContext { activity, unread, tasks: tasks.clone() };
        Self { peer, body_context, closing: Arc::default(), _open: tasks.token() }
    }

    /// The service that axum-server calls: the one of `make_service`, with its requests recorded in the activity of
    /// the connection. A request whose head is too long does not reach it.
    pub(super) fn track<M, S, B>(
        self,
        make_service: Arc<M>,
    ) -> impl tower::Service<
        Request<Incoming>,
        Response = Response<Watched<OrEmpty<B>>>,
        Error = Infallible,
        Future: Send + 'static,
    >
    + Clone
    + Send
    + 'static
    + use<M, S, B>
    where
        M: Fn(Peer) -> S + Send + Sync + 'static,
        S: Service<Request<Received>, Response = Response<B>, Error = Infallible>
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
    {
        let service = OnceLock::new();
        let served = Arc::new(Served { connection: self, make_service, service });
        tower::service_fn(move |mut request: Request<Incoming>| {
            let served = Arc::clone(&served);
            let Self { peer, body_context, closing, .. } = &served.connection;
            let service = served.service.get_or_init(|| (served.make_service)(peer.clone()));
            closing.learn(request.extensions_mut());
            let in_progress = body_context.activity.begin();
            let under_way = body_context.unread.begin();
            let is_too_large = head_limit::is_exceeded(&request);
            let (request, gate) = Received::wrap(request, body_context);
            let response = (!is_too_large).then(|| service.call(request));
            async move {
                // Holds the token of the connection: a server that stops waits for the request.
                let _served = served;
                let response = match response {
                    Some(response) => response.await?.map(Either::Left),
                    None => head_limit::too_large().map(Either::Right),
                };
                drop(under_way);
                if gate.waits(&response) {
                    in_progress.set_waiting_for_client(true);
                }
                Ok(in_progress.watch(gate.await_rest(response).await))
            }
        })
    }

    /// Spawns the task that copies between the client and the server of another site, on the runtime of the
    /// caller.
    pub(super) fn pass_through(self, site: PassedThrough, held: Held, stopping: CancellationToken) {
        let tasks = self.body_context.tasks.clone();
        let copying = async move {
            let activity = &self.body_context.activity;
            activity.restart_idle_timeout();
            let end = held.permit.end.clone();
            end.run_until_cancelled(site.run(activity, &stopping)).await;
            drop(held);
        };
        tasks.spawn_on(copying, &Handle::current());
    }

    /// Wraps the stream for HTTP of this version, and spawns the task that watches the connection on
    /// the runtime of the caller. `stopping` begins the graceful shutdown of the connection.
    pub(super) fn open<S>(
        self,
        stream: S,
        version: Version,
        held: Held,
        stopping: CancellationToken,
    ) -> Open<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let BodyContext { activity, unread, tasks } = &self.body_context;
        activity.restart_idle_timeout();
        let stream = Lingering::new(stream, Arc::clone(activity));
        let stream = match version {
            Version::Http1 => HttpStream::Http1(stream),
            Version::Http2 => HttpStream::Http2(Backpressure::new(
                ControlFrames::new(stream),
                Arc::clone(unread),
                tasks.clone(),
            )),
        };
        let end = held.permit.end.clone();
        let guards =
            StreamGuards { _held: held, _end: end.clone().drop_guard(), _open: tasks.token() };
        let stream = Closable::new(stream, Arc::clone(&self.closing), guards);
        let watch = watch(Arc::clone(activity), self.closing, end, stopping);
        tasks.spawn_on(watch, &Handle::current());
        stream
    }
}

/// Ends a connection that is idle or stalled, that has to make room for another (`end`), or whose
/// server is `stopping`. Returns when the connection is closed: the drop of its stream cancels `end`
/// too.
async fn watch(
    activity: Arc<Activity>,
    closing: Arc<Closing>,
    end: CancellationToken,
    stopping: CancellationToken,
) {
    let mut stalled = pin!(activity.wait_stalled());
    let shutdown_due = async {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = activity.wait_idle() => {}
        }
    };
    // A client that does not close after the graceful shutdown is cut when it is idle.
    let grace = async {
        if stopping.is_cancelled() {
            tokio::time::sleep(LINGER_ON_SHUTDOWN).await;
            activity.wait_idle_for(LINGER_ON_SHUTDOWN).await;
        } else {
            activity.wait_grace().await;
        }
    };
    let mut shutdown_due = pin!(shutdown_due);
    let mut grace = pin!(grace);
    let mut is_shutting_down = false;
    loop {
        tokio::select! {
            biased;
            () = end.cancelled() => break,
            () = shutdown_due.as_mut(), if !is_shutting_down => {
                is_shutting_down = true;
                if stopping.is_cancelled() {
                    // axum-server shuts down connections without a request, a little later.
                    closing.graceful_shutdown_of_requests();
                } else {
                    closing.graceful_shutdown();
                }
            }
            () = grace.as_mut(), if is_shutting_down => break,
            () = stalled.as_mut() => {
                tracing::debug!("a client does not read its response; the server closes the connection");
                break;
            }
        }
    }
    closing.close();
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        io,
        sync::Mutex,
    };

    use axum_server::{AddrListener, Address, Control, Server};
    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::service::service_fn;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::sleep,
    };

    use super::*;
    use crate::server::{Options, Workers, connection_limit::ConnectionLimit};

    /// The length of a body that fits into hyper's buffer for a slow client.
    const BODY: usize = 30_000;

    /// The address of the only connection.
    #[derive(Clone)]
    struct Client;

    /// A listener that accepts one connection.
    struct Once(Mutex<Option<Open<DuplexStream>>>);

    impl Address for Client {
        type Stream = Open<DuplexStream>;
        type Listener = Once;
    }

    impl AddrListener<Open<DuplexStream>, Client> for Once {
        async fn bind_to(_: Client) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        async fn accept_stream(&self) -> io::Result<(Open<DuplexStream>, Client)> {
            let stream = self.0.lock().unwrap().take();
            match stream {
                Some(stream) => Ok((stream, Client)),
                None => pending().await,
            }
        }

        fn get_local_addr(&self) -> io::Result<Client> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// The paused clock advances to the next timer when all tasks are idle.
    #[tokio::test(start_paused = true)]
    async fn slow_client_gets_the_end_of_its_response_when_the_server_stops() {
        let (mut client, stream) = duplex(1000);
        let stopping = CancellationToken::new();
        let control = Control::new();
        let workers = Workers::start().unwrap();
        let limit = ConnectionLimit::new(&Options::default(), CancellationToken::new());
        let permit = limit.admit(None).await.unwrap();
        let connection = Connection::new(&permit, &TaskTracker::new());
        let held = Held { permit, _assignment: workers.pool().assign() };
        let stream = connection.clone().open(stream, Version::Http1, held, stopping.clone());
        let service = connection.track(Arc::new(|_| {
            service_fn(|_| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&[b'x'; BODY]))))
            })
        }));
        let make_service =
            tower::service_fn(move |_: Client| ready(Ok::<_, Infallible>(service.clone())));
        let serving = Server::<Client>::from_listener(Once(Mutex::new(Some(stream))))
            .handle(axum_server::Handle::with_control(control.clone()))
            .serve(make_service);
        let reading = async {
            client.write_all(b"GET / HTTP/1.1\r\nHost: registry\r\n\r\n").await.unwrap();
            sleep(Duration::from_secs(1)).await;
            stopping.cancel();
            control.graceful_shutdown(None);
            let mut taken = Vec::new();
            let mut piece = [0; 1000];
            loop {
                sleep(Duration::from_secs(7)).await;
                match client.read(&mut piece).await.unwrap() {
                    0 => return taken,
                    length => taken.extend_from_slice(&piece[..length]),
                }
            }
        };
        let (served, taken) = tokio::join!(serving, reading);
        served.unwrap();
        assert!(taken.len() > BODY, "the client got {} bytes only", taken.len());
    }
}
