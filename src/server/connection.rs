//! HTTP on a connection: its limits, its versions, its end.

use std::{
    convert::Infallible,
    error::Error,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use axum::http::{Request, Response};
use futures_util::future::Either;
use hyper::{
    body::{Body, Incoming},
    rt::{Executor, Read, Write},
    server::conn::{http1, http2},
    service::{HttpService, Service, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    acceptor::{Accepted, Version},
    idle::Activity,
    peer::Peer,
    received::{OnConnection, Received},
    transport::{Backpressure, ControlFrames, Lingering, Unread},
};

/// What waits for a slow HTTP/1 client, besides one piece of a blob; and how long a request's head
/// may be. podman asks for 1,024 ranges of a blob in one head of 22 KiB, over HTTP/1.1 only.
const BUFFER: usize = 32 * 1024;

/// How long the head of a request over HTTP/2 may be, unpacked. What clients send is below 2 KiB.
const HEADER_LIST: u32 = 16 * 1024;

/// What a client may send on one HTTP/2 stream, and on all of a connection, before it has to wait:
/// enough for one upload at full rate and not all of the connection, whose window is what it can
/// be made to hold.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
const MAX_STREAMS: u32 = 200;

/// How long a client that asks for nothing has to go when the server stops.
const LINGER_ON_SHUTDOWN: Duration = Duration::from_secs(5);

/// How HTTP is spoken.
pub(super) struct Http {
    http1: http1::Builder,
    http2: http2::Builder<Streams>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Http {
    /// `idle_timeout` is how long a client may neither ask nor send; `tasks` is where those are waited
    /// for that begin here; when the server is `stopping`, requests that run may finish and no
    /// others begin.
    pub(super) fn new(
        idle_timeout: Duration,
        tasks: TaskTracker,
        stopping: CancellationToken,
    ) -> Self {
        let mut http1 = http1::Builder::new();
        // A keep-alive connection may be idle this long, and a request's head may take this long:
        // hyper has one timer for both.
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(idle_timeout)
            .max_buf_size(BUFFER)
            .max_header_size(BUFFER);
        let mut http2 = http2::Builder::new(Streams(tasks.clone()));
        http2
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(HEADER_LIST);
        Self { http1, http2, tasks, stopping }
    }

    /// Serves a connection to `peer` until it is over, and notes in `activity` what it does.
    pub(super) fn serve<T, S, B>(
        &self,
        accepted: Accepted<T>,
        peer: Peer,
        activity: Arc<Activity>,
        service: S,
    ) -> impl Future<Output = ()> + Send + use<T, S, B>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin,
        S: Service<Request<Received>, Response = Response<B>, Error = Infallible> + Send,
        S::Future: Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
    {
        let Accepted { stream, version } = accepted;
        activity.opened();
        let connection = Lingering::new(stream, Arc::clone(&activity));
        let unread = Unread::new(peer);
        let service = {
            let on = OnConnection {
                activity: Arc::clone(&activity),
                unread: Arc::clone(&unread),
                tasks: self.tasks.clone(),
            };
            service_fn(move |request| {
                let (answering, under_way) = (on.activity.begin(), on.unread.begin());
                let (request, ending) = Received::of(request, &on);
                let response = service.call(request);
                async move {
                    let response = response.await?;
                    drop(under_way);
                    if ending.waits(&response) {
                        answering.waits_for_client(true);
                    }
                    Ok::<_, Infallible>(answering.watch(ending.await_rest(response).await))
                }
            })
        };
        let stopping = self.stopping.clone();
        match version {
            Version::Http1 => {
                let connection = self.http1.serve_connection(TokioIo::new(connection), service);
                Either::Left(run(connection, activity, stopping))
            }
            Version::Http2 => {
                let connection = Backpressure::new(ControlFrames::new(connection), unread);
                let connection = TokioIo::new(connection);
                let connection = self.http2.serve_connection(connection, service);
                Either::Right(run(connection, activity, stopping))
            }
        }
    }
}

/// A connection of either version.
trait Ends: Future<Output = hyper::Result<()>> {
    /// Lets requests that run finish, and none begin.
    fn end(self: Pin<&mut Self>);
}

impl<I, S, B> Ends for http1::Connection<I, S>
where
    I: Read + Write + Unpin,
    S: HttpService<Incoming, ResBody = B, Error: Into<Box<dyn Error + Send + Sync>>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B, E> Ends for http2::Connection<I, S, E>
where
    I: Read + Write + Unpin,
    S: HttpService<Incoming, ResBody = B, Error: Into<Box<dyn Error + Send + Sync>>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Runs a connection until it is over, its client is waited for no longer, or the server stops.
async fn run(connection: impl Ends, activity: Arc<Activity>, stopping: CancellationToken) {
    let mut connection = pin!(connection);
    let mut stuck = pin!(activity.wait_stalled());
    let enough = async {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = activity.wait_idle() => {}
        }
    };
    // A client that is told to end and does not is given up when it asks for nothing more.
    let farewell = async {
        if stopping.is_cancelled() {
            tokio::time::sleep(LINGER_ON_SHUTDOWN).await;
            activity.wait_idle_for(LINGER_ON_SHUTDOWN).await;
        } else {
            activity.wait_gone().await;
        }
    };
    let (mut enough, mut farewell, mut told) = (pin!(enough), pin!(farewell), false);
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    // Clients go away in the middle of things all day.
                    tracing::debug!(%error, "a connection broke off");
                }
                return;
            }
            () = enough.as_mut(), if !told => {
                told = true;
                connection.as_mut().end();
            }
            () = farewell.as_mut(), if told => return,
            () = stuck.as_mut() => {
                tracing::debug!("a client takes nothing of what it asked for");
                return;
            }
        }
    }
}

/// Runs the streams of an HTTP/2 connection: each begins where the connection is, and gets a task
/// of its own when it has to wait for something. Most requests are small and do not.
#[derive(Clone, Debug)]
struct Streams(TaskTracker);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let mut stream = Box::pin(stream);
        // A task polls it again as soon as it starts, so that this waker is not missed.
        let mut nobody = Context::from_waker(Waker::noop());
        if stream.as_mut().poll(&mut nobody).is_pending() {
            self.0.spawn(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::sleep,
    };

    use super::*;

    /// It fits into what waits for a slow client.
    const BODY: usize = 30_000;

    /// The clock jumps ahead when there is nothing else to do.
    #[tokio::test(start_paused = true)]
    async fn a_slow_client_gets_the_end_of_its_response_when_the_server_stops() {
        let (mut client, connection) = duplex(1000);
        let stopping = CancellationToken::new();
        let idle_timeout = Duration::from_secs(60);
        let http = Http::new(idle_timeout, TaskTracker::new(), stopping.clone());
        let activity = Activity::new(idle_timeout);
        let service = service_fn(|_| async {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&[b'x'; BODY]))))
        });
        let accepted = Accepted { stream: connection, version: Version::Http1 };
        let reading = async {
            client.write_all(b"GET / HTTP/1.1\r\nHost: registry\r\n\r\n").await.unwrap();
            sleep(Duration::from_secs(1)).await;
            stopping.cancel();
            let (mut taken, mut piece) = (Vec::new(), [0; 1000]);
            loop {
                sleep(Duration::from_secs(7)).await;
                match client.read(&mut piece).await.unwrap() {
                    0 => return taken,
                    length => taken.extend_from_slice(&piece[..length]),
                }
            }
        };
        let serving = http.serve(accepted, Peer::new(None), activity, service);
        let ((), taken) = tokio::join!(serving, reading);
        assert!(taken.len() > BODY, "it took {} bytes and was cut off", taken.len());
    }
}
