//! HTTP on a connection: its limits, its versions, its end.

use std::{
    convert::Infallible,
    error::Error,
    future::Future,
    task::{Context, Waker},
    time::Duration,
};

use axum::http::{Request, Response};
use futures_util::future::Either;
use hyper::{
    body::{Body, Incoming},
    rt::Executor,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::Watcher,
};
use tokio_util::task::TaskTracker;

use super::door::{Opened, Version};

/// A keep-alive connection may be idle this long, and a request's head may take this long: hyper
/// has one timer for both.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// What waits for a slow HTTP/1 client, besides one piece of a blob; and how long a request's head
/// may be.
const BUFFER: usize = 32 * 1024;

/// What a client may send on one HTTP/2 stream, and on all of a connection, before it has to wait:
/// enough for one upload at full rate and not all of the connection, whose window is what it can
/// be made to hold.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
const MAX_STREAMS: u32 = 200;

/// How HTTP is spoken.
pub(super) struct Http {
    http1: http1::Builder,
    http2: http2::Builder<Streams>,
}

impl Http {
    /// `tasks` is where those are waited for that begin here.
    pub(super) fn new(tasks: TaskTracker) -> Self {
        let mut http1 = http1::Builder::new();
        http1.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(BUFFER);
        let mut http2 = http2::Builder::new(Streams(tasks));
        http2
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(MAX_STREAMS);
        Self { http1, http2 }
    }

    /// Serves a connection until it is over. From when the `watcher` is told that the server stops,
    /// requests that run may finish and no others begin.
    pub(super) fn serve<S, B>(
        &self,
        opened: Opened,
        service: S,
        watcher: Watcher,
    ) -> impl Future<Output = ()> + Send + use<S, B>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send,
        S::Future: Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let Opened { connection, version } = opened;
        let connection = TokioIo::new(connection);
        let served = match version {
            Version::Http1 => {
                Either::Left(watcher.watch(self.http1.serve_connection(connection, service)))
            }
            Version::Http2 => {
                Either::Right(watcher.watch(self.http2.serve_connection(connection, service)))
            }
        };
        async move {
            if let Err(error) = served.await {
                // Clients go away in the middle of things all day.
                tracing::debug!(%error, "a connection broke off");
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
