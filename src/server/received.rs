//! Bodies of requests, and the rest of a body that its handler drops.
//!
//! A response may leave before the body of its request has arrived: 401, 404, 413. The handler or the
//! middleware drops the body, and a task reads and discards the rest beside the response
//! ([`Discard`]), over both versions of HTTP. Over HTTP/2 the stream stays open meanwhile, so that no
//! `RST_STREAM` overtakes the response.
//!
//! Where the server will not read the rest to its end, or cannot know whether it will, a response over
//! HTTP/1.1 has `Connection: close` (RFC 9112 §9.3). A successful response waits for the rest: clients
//! send all of a request that succeeds, and curl 7.88 hangs over HTTP/2 when the response has ended
//! before the request.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use axum::http::{HeaderValue, Request, Response, StatusCode, Version, header};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    discard::Discard,
    idle::Activity,
    transport::{UnderWay, Unread},
};

/// The longest rest of a body that the server discards to keep an HTTP/1.1 connection alive.
const MAX_REST: u64 = 64 << 20;

/// The body of a request. When it is dropped, a task discards the rest.
#[derive(Debug)]
pub struct Received {
    /// `None` after the drop has taken it.
    incoming: Option<Incoming>,
    /// `None` for a request without a body.
    progress: Option<Arc<Progress>>,
}

/// How much of a body has been read.
#[derive(Debug)]
struct Progress {
    /// The number of bytes read.
    taken: AtomicU64,
    /// Whether the body has been read to its end, or has failed.
    ended: AtomicBool,
    /// Cancelled when the rest has been discarded as far as the server discards it.
    discarded: CancellationToken,
    /// The length of the body; `None` where the request does not state it.
    announced: Option<u64>,
    /// Whether the client waits for 100 (Continue) before it sends the body.
    expects: bool,
    connection: BodyContext,
}

/// The parts of a connection that its request bodies use.
#[derive(Clone, Debug)]
pub(super) struct BodyContext {
    pub(super) activity: Arc<Activity>,
    pub(super) unread: Arc<Unread>,
    /// The tasks that discard bodies; the server waits for them when it stops.
    pub(super) tasks: TaskTracker,
}

/// Decides, by the state of the request's body, when the response leaves and whether it keeps the
/// connection alive.
#[derive(Debug)]
pub(super) struct ResponseGate {
    progress: Option<Arc<Progress>>,
    is_http1: bool,
}

impl Received {
    /// Wraps the body of a request, and returns the gate of its response.
    pub(super) fn wrap(
        request: Request<Incoming>,
        connection: &BodyContext,
    ) -> (Request<Self>, ResponseGate) {
        let is_http1 = request.version() < Version::HTTP_2;
        let expects = is_http1 && request.headers().contains_key(header::EXPECT);
        let progress = (!request.body().is_end_stream()).then(|| {
            Arc::new(Progress {
                taken: AtomicU64::new(0),
                ended: AtomicBool::new(false),
                discarded: CancellationToken::new(),
                announced: request.body().size_hint().exact(),
                expects,
                connection: connection.clone(),
            })
        });
        let gate = ResponseGate { progress: progress.clone(), is_http1 };
        (request.map(|incoming| Self { incoming: Some(incoming), progress }), gate)
    }
}

impl Progress {
    /// Records the result of a poll of the body.
    fn note(&self, poll: &Poll<Option<Result<Frame<Bytes>, hyper::Error>>>, is_end: bool) {
        match poll {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                self.taken.fetch_add(length as u64, Ordering::Relaxed);
                self.connection.unread.taken(length);
                if is_end {
                    self.ended.store(true, Ordering::Relaxed);
                }
            }
            Poll::Ready(_) => self.ended.store(true, Ordering::Relaxed),
            Poll::Pending => {}
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Whether the client still waits for 100 (Continue).
    fn is_held_back(&self) -> bool {
        self.expects && self.taken.load(Ordering::Relaxed) == 0
    }

    /// Whether the server is going to read the body to its end, as far as it can know.
    fn will_be_read(&self) -> bool {
        let rest = |length: u64| length.saturating_sub(self.taken.load(Ordering::Relaxed));
        !self.is_held_back() && self.announced.is_some_and(|length| rest(length) <= MAX_REST)
    }
}

impl ResponseGate {
    /// Whether the response waits for the rest of the body.
    pub(super) fn waits<B>(&self, response: &Response<B>) -> bool {
        let waits = |progress: &Arc<Progress>| !progress.has_ended() && !progress.is_held_back();
        response.status().is_success() && self.progress.as_ref().is_some_and(waits)
    }

    /// Returns the response when it may leave, with `Connection: close` where the connection cannot be
    /// kept alive.
    pub(super) async fn await_rest<B>(self, mut response: Response<B>) -> Response<B> {
        let waits = self.waits(&response);
        let Some(progress) = self.progress else { return response };
        if waits {
            progress.discarded.cancelled().await;
        }
        let is_kept_alive = progress.has_ended()
            || progress.will_be_read() && response.status() != StatusCode::REQUEST_TIMEOUT;
        if self.is_http1 && !is_kept_alive {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { incoming, progress } = &mut *self;
        let Some(incoming) = incoming else { return Poll::Ready(None) };
        let poll = Pin::new(&mut *incoming).poll_frame(cx);
        if let Some(progress) = progress {
            progress.note(&poll, incoming.is_end_stream());
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Received {
    /// Leaves the rest of the body to a task that discards it.
    fn drop(&mut self) {
        let (Some(incoming), Some(progress)) = (self.incoming.take(), self.progress.take()) else {
            return;
        };
        // To poll a body that the client holds back makes hyper send 100 (Continue).
        if progress.has_ended() || progress.is_held_back() {
            return;
        }
        // Outside a runtime the connection has ended too.
        let Ok(runtime) = Handle::try_current() else { return progress.discarded.cancel() };
        let tasks = progress.connection.tasks.clone();
        // Begins before the request ends, so that `Unread` keeps its count of unread bytes.
        let under_way = progress.connection.unread.begin();
        tasks.spawn_on(discard(incoming, progress, under_way), &runtime);
    }
}

/// Discards the rest of a body, within the limits of [`Discard`]. Meanwhile the connection is not
/// idle.
async fn discard(mut incoming: Incoming, progress: Arc<Progress>, _under_way: UnderWay) {
    let _discarded = progress.discarded.clone().drop_guard();
    let _discarding = progress.connection.activity.discard();
    let mut discard = Discard::new();
    poll_fn(|cx| {
        discard.poll(cx, |cx| {
            let poll = Pin::new(&mut incoming).poll_frame(cx);
            progress.note(&poll, incoming.is_end_stream());
            poll.map(|frame| {
                let frame = frame?.ok()?;
                Some(frame.data_ref().map_or(0, Bytes::len))
            })
        })
    })
    .await;
}
