//! Bodies of requests, and what becomes of one that nobody reads to its end.
//!
//! The answer to a request may leave before the body has come: 401, 404, 413. Whoever answers drops
//! the body, and the rest of it is read here beside the answer and dropped ([`Discard`]), over either
//! version of HTTP and whoever it was that answered. Over HTTP/2 the stream stays open for as long, so
//! that no reset overtakes the answer.
//!
//! Where the rest is not going to be read, or nobody can know, an answer over HTTP/1.1 says
//! `Connection: close` (RFC 9112 §9.3). An answer that is a success waits for the rest: clients send
//! all of a request that succeeds, and curl 7.88 waits for ever over HTTP/2 when the answer has ended
//! before its request has.

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

/// A client that has announced more than this is told to make another connection: what it sends on
/// this one is not going to be read to its end.
const MOST: u64 = 64 << 20;

/// The body of a request.
#[derive(Debug)]
pub struct Received {
    /// `None` once what is left of it goes its own way.
    incoming: Option<Incoming>,
    /// `None` for a request without a body.
    progress: Option<Arc<Progress>>,
}

/// How far a body has come.
#[derive(Debug)]
struct Progress {
    /// How many bytes were taken.
    taken: AtomicU64,
    /// Whether there are no more.
    ended: AtomicBool,
    /// Nobody reads it any longer.
    over: CancellationToken,
    /// How many bytes there are; `None` where that was not announced.
    announced: Option<u64>,
    /// Whether the client waits for 100 before it sends any.
    expects: bool,
    connection: OnConnection,
}

/// What a body has to do with its connection.
#[derive(Clone, Debug)]
pub(super) struct OnConnection {
    pub(super) activity: Arc<Activity>,
    pub(super) unread: Arc<Unread>,
    /// The tasks that read unwanted bodies; the server waits for them when it stops.
    pub(super) tasks: TaskTracker,
}

/// What the request's body means for the answer.
#[derive(Debug)]
pub(super) struct Ending {
    progress: Option<Arc<Progress>>,
    is_http1: bool,
}

impl Received {
    /// A request as it has come, and what its body means for the answer.
    pub(super) fn of(
        request: Request<Incoming>,
        connection: &OnConnection,
    ) -> (Request<Self>, Ending) {
        let is_http1 = request.version() < Version::HTTP_2;
        let expects = is_http1 && request.headers().contains_key(header::EXPECT);
        let progress = (!request.body().is_end_stream()).then(|| {
            Arc::new(Progress {
                taken: AtomicU64::new(0),
                ended: AtomicBool::new(false),
                over: CancellationToken::new(),
                announced: request.body().size_hint().exact(),
                expects,
                connection: connection.clone(),
            })
        });
        let ending = Ending { progress: progress.clone(), is_http1 };
        (request.map(|incoming| Self { incoming: Some(incoming), progress }), ending)
    }
}

impl Progress {
    /// Notes what was asked for and has come.
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

    /// Whether the client still waits to be told to send the body.
    fn is_held_back(&self) -> bool {
        self.expects && self.taken.load(Ordering::Relaxed) == 0
    }

    /// Whether the rest of the body is read, as far as one can tell.
    fn is_read_to_its_end(&self) -> bool {
        let rest = |length: u64| length.saturating_sub(self.taken.load(Ordering::Relaxed));
        !self.is_held_back() && self.announced.is_some_and(|length| rest(length) <= MOST)
    }
}

impl Ending {
    /// Whether an answer may leave only when the client has sent the rest of the body.
    pub(super) fn waits<B>(&self, response: &Response<B>) -> bool {
        let waits = |progress: &Arc<Progress>| !progress.has_ended() && !progress.is_held_back();
        response.status().is_success() && self.progress.as_ref().is_some_and(waits)
    }

    /// Gives an answer that may leave now, and that tells the client whether there will be others
    /// after it.
    pub(super) async fn await_rest<B>(self, mut response: Response<B>) -> Response<B> {
        let waits = self.waits(&response);
        let Some(progress) = self.progress else { return response };
        if waits {
            progress.over.cancelled().await;
        }
        let stays = progress.has_ended()
            || progress.is_read_to_its_end() && response.status() != StatusCode::REQUEST_TIMEOUT;
        if self.is_http1 && !stays {
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
    /// Leaves the rest of the body to a task that reads and drops it.
    fn drop(&mut self) {
        let (Some(incoming), Some(progress)) = (self.incoming.take(), self.progress.take()) else {
            return;
        };
        // To ask for a body that the client holds back would have it sent.
        if progress.has_ended() || progress.is_held_back() {
            return;
        }
        // Without a runtime the connection is gone as well.
        let Ok(runtime) = Handle::try_current() else { return progress.over.cancel() };
        let tasks = progress.connection.tasks.clone();
        // Before the request counts as answered, so that what has come of its body still counts.
        let under_way = progress.connection.unread.begin();
        tasks.spawn_on(discard(incoming, progress, under_way), &runtime);
    }
}

/// Reads what is left of a body, for as long as that is worth it. The connection is not idle
/// meanwhile.
async fn discard(mut incoming: Incoming, progress: Arc<Progress>, _under_way: UnderWay) {
    let _over = progress.over.clone().drop_guard();
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
