//! The idle timeout of connections, and the timeout of stalled responses.
//!
//! hyper closes an HTTP/1.1 connection on which no request begins. It never closes an idle HTTP/2
//! connection, nor a connection whose client requests a blob and takes nothing of it; each of these
//! holds a descriptor, and the second an open file too. So [`Activity`] records how many requests of
//! a connection are in progress, since when there has been no request, and which responses wait for
//! the client. The time that the server itself takes never counts against the client.
//!
//! An unauthenticated connection has shorter timeouts, since a client needs no password to open one.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::http::Response;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

/// A response is stalled after this many idle timeouts: the system buffers some megabytes for a slow
/// client, and these may take longer than one idle timeout to drain.
const STALL_FACTOR: u32 = 5;

/// The longest idle timeout, and the longest stall, of an unauthenticated connection. docker sends a
/// request at once, and the next as soon as it has read the response.
const UNAUTHENTICATED: Duration = Duration::from_secs(10);

/// How long an unauthenticated client has to close after a graceful shutdown of its connection.
const UNAUTHENTICATED_GRACE: Duration = Duration::from_secs(1);

/// How often [`Activity::until`] evaluates a condition that has no deadline yet.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// The activity of a connection: its requests, its responses and its writes.
#[derive(Debug)]
pub(super) struct Activity {
    idle_timeout: Duration,
    /// Whether the full idle timeout applies.
    is_authenticated: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The number of requests in progress and of bodies being discarded.
    open: usize,
    /// The number of bodies being discarded: the rests of requests that have been answered.
    discarded: usize,
    /// The latest of these: the end of the handshake, the end of the last open request or discarded
    /// body, and the last time that a write became blocked or unblocked. The idle timeout begins here.
    idle_since: Instant,
    /// The responses that wait for the client, by id, and since when. Most often there is one, and
    /// never more than a connection may have streams.
    untaken: Vec<(u64, Instant)>,
    /// The number of requests so far, which is the id of the last one.
    requests: u64,
    /// Since when a write is blocked, because the client does not read.
    blocked: Option<Instant>,
    /// Whether our side is closed; `Lingering` bounds what remains.
    is_lingering: bool,
}

impl State {
    /// Whether no request is in progress and nothing waits for the client.
    const fn is_idle(&self) -> bool {
        self.open == 0 && self.blocked.is_none() && !self.is_lingering
    }

    /// Records the end of a request or of a discarded body.
    fn end(&mut self) {
        self.open -= 1;
        if self.open == 0 {
            self.idle_since = Instant::now();
        }
    }

    /// Records that the response of this id does not wait for the client.
    fn take(&mut self, id: u64) {
        if let Some(index) = self.untaken.iter().position(|(untaken, _)| *untaken == id) {
            self.untaken.swap_remove(index);
        }
    }
}

impl Activity {
    /// The activity of a new connection with this idle timeout.
    pub(super) fn new(idle_timeout: Duration) -> Arc<Self> {
        Self::begin_connection(idle_timeout, true)
    }

    /// As [`new`](Self::new), with an idle timeout of at most ten seconds until the connection is
    /// [`authenticated`](Self::authenticated).
    pub(super) fn unauthenticated(idle_timeout: Duration) -> Arc<Self> {
        Self::begin_connection(idle_timeout, false)
    }

    fn begin_connection(idle_timeout: Duration, is_authenticated: bool) -> Arc<Self> {
        let state = State {
            open: 0,
            discarded: 0,
            idle_since: Instant::now(),
            untaken: Vec::new(),
            requests: 0,
            blocked: None,
            is_lingering: false,
        };
        let is_authenticated = AtomicBool::new(is_authenticated);
        Arc::new(Self { idle_timeout, is_authenticated, state: Mutex::new(state) })
    }

    /// Records that a request was authenticated.
    pub(super) fn authenticated(&self) {
        self.is_authenticated.store(true, Ordering::Relaxed);
    }

    /// Records the end of the handshake, at which the idle timeout begins, or that a connection which is
    /// passed through has moved bytes.
    pub(super) fn restart_idle_timeout(&self) {
        self.state().idle_since = Instant::now();
    }

    fn is_authenticated(&self) -> bool {
        self.is_authenticated.load(Ordering::Relaxed)
    }

    /// The idle timeout that applies now.
    fn timeout(&self) -> Duration {
        if self.is_authenticated() {
            self.idle_timeout
        } else {
            self.idle_timeout.min(UNAUTHENTICATED)
        }
    }

    /// Since when the server waits for the client alone: for a request, for the rest of a body that
    /// it discards, or until the client takes a response. `None` while the server works on a request.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let state = self.state();
        if state.open > state.untaken.len() + state.discarded {
            return None;
        }
        let untaken = state.untaken.iter().map(|(_, since)| *since);
        Some(untaken.chain(state.blocked).min().unwrap_or(state.idle_since))
    }

    /// Records a request, which is in progress until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InProgress {
        let mut state = self.state();
        state.open += 1;
        state.requests += 1;
        InProgress { id: state.requests, activity: Arc::clone(self) }
    }

    /// Records that the server discards the rest of a request's body, until the guard is dropped.
    /// Meanwhile the connection is not idle, although the server waits for the client alone.
    pub(super) fn discard(self: &Arc<Self>) -> Discarding {
        let mut state = self.state();
        state.open += 1;
        state.discarded += 1;
        Discarding(Arc::clone(self))
    }

    /// Records whether a write is blocked until the client reads.
    pub(super) fn set_write_blocked(&self, is_blocked: bool) {
        let mut state = self.state();
        let now = Instant::now();
        state.blocked = is_blocked.then_some(now);
        state.idle_since = now;
    }

    /// Records that our side of the connection is closed. From here on the connection is not idle:
    /// the lingering close has a time limit of its own.
    pub(super) fn begin_lingering(&self) {
        self.state().is_lingering = true;
    }

    /// Resolves after one idle timeout without a request.
    pub(super) async fn wait_idle(&self) {
        self.until(|state| state.is_idle().then(|| state.idle_since + self.timeout())).await;
    }

    /// Resolves when the client has had enough time to close the connection after a graceful
    /// shutdown. That is two idle timeouts after the connection became idle, if it is authenticated;
    /// otherwise one second after the idle timeout, even if a write is blocked.
    pub(super) async fn wait_grace(&self) {
        self.until(|state| {
            if self.is_authenticated() {
                state.is_idle().then(|| state.idle_since + 2 * self.idle_timeout)
            } else {
                (state.open == 0).then(|| state.idle_since + self.timeout() + UNAUTHENTICATED_GRACE)
            }
        })
        .await;
    }

    /// Resolves when the connection has been idle for `duration`.
    pub(super) async fn wait_idle_for(&self, duration: Duration) {
        self.until(|state| state.is_idle().then(|| state.idle_since + duration)).await;
    }

    /// Resolves when a response or a write has waited for the client for too long.
    pub(super) async fn wait_stalled(&self) {
        self.until(|state| {
            // Responses to unauthenticated clients are small.
            let factor = if self.is_authenticated() { STALL_FACTOR } else { 1 };
            let timeout = self.timeout() * factor;
            let untaken = state.untaken.iter().map(|(_, since)| since);
            untaken.chain(&state.blocked).min().map(|since| *since + timeout)
        })
        .await;
    }

    /// Resolves at the deadline that `due` returns. Evaluates `due` again at that deadline, and from
    /// time to time while it returns `None`.
    async fn until(&self, due: impl Fn(&State) -> Option<Instant>) {
        loop {
            let next = due(&self.state());
            let now = Instant::now();
            match next {
                Some(due) if due <= now => return,
                Some(due) => sleep_until(due).await,
                None => sleep_until(now + self.idle_timeout.min(POLL_EVERY)).await,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks a body as being discarded until it is dropped.
#[derive(Debug)]
pub(super) struct Discarding(Arc<Activity>);

impl Drop for Discarding {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.discarded -= 1;
        state.end();
    }
}

/// Marks a request as in progress until it is dropped.
#[derive(Debug)]
pub(super) struct InProgress {
    id: u64,
    activity: Arc<Activity>,
}

impl InProgress {
    /// Wraps the body of the response, so that the activity records when it waits for the client.
    pub(super) fn watch<B: Body + Unpin>(self, response: Response<B>) -> Response<Watched<B>> {
        self.set_waiting_for_client(!response.body().is_end_stream());
        response.map(|body| Watched { body, request: self })
    }

    /// Records whether this request waits for the client alone: to send the rest of the request, or
    /// to take the response as far as it is available.
    pub(super) fn set_waiting_for_client(&self, is_waiting: bool) {
        let mut state = self.activity.state();
        state.take(self.id);
        if is_waiting {
            state.untaken.push((self.id, Instant::now()));
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.take(self.id);
        state.end();
    }
}

/// The body of a response, which records when it waits for the client.
#[derive(Debug)]
pub(super) struct Watched<B> {
    body: B,
    request: InProgress,
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        // The last frame waits too, in hyper; hyper drops this body when the client has taken it.
        self.request.set_waiting_for_client(matches!(poll, Poll::Ready(Some(Ok(_)))));
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    type Piece = Result<Frame<bytes::Bytes>, std::io::Error>;

    fn piece() -> Piece {
        Ok(Frame::data("x".into()))
    }

    async fn after(timeouts: f32) {
        tokio::time::sleep(TIMEOUT.mul_f32(timeouts)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn connection_is_idle_after_the_timeout_without_a_request() {
        let activity = Activity::new(TIMEOUT);
        after(0.9).await;
        let request = activity.begin();
        after(9.0).await;
        assert!(activity.wait_idle().now_or_never().is_none(), "a request is in progress");
        drop(request);
        after(0.9).await;
        assert!(activity.wait_idle().now_or_never().is_none());
        after(0.2).await;
        assert!(activity.wait_idle().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn response_is_stalled_when_the_client_takes_nothing_and_not_when_the_server_is_slow() {
        let activity = Activity::new(TIMEOUT);
        let stalled = || activity.wait_stalled().now_or_never().is_some();
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel::<Piece>();
        let pieces = futures_util::stream::poll_fn(move |cx| receive.poll_recv(cx));
        let response = Response::new(StreamBody::new(pieces));
        let mut body = activity.begin().watch(response).into_body();
        after(4.9).await;
        assert!(!stalled());
        after(0.2).await;
        assert!(stalled(), "hyper has not polled for the first frame");
        assert!(body.frame().now_or_never().is_none());
        after(100.0).await;
        assert!(!stalled(), "the server has no frame yet");
        for _ in 0..10 {
            send.send(piece()).unwrap();
            assert!(body.frame().await.unwrap().is_ok());
            after(4.0).await;
            assert!(!stalled(), "the client takes one frame after the other");
        }
        after(1.1).await;
        assert!(stalled());
        drop(send);
        assert!(body.frame().await.is_none());
        after(9.0).await;
        assert!(!stalled(), "the response has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_response_is_neither_stalled_nor_in_progress() {
        let activity = Activity::new(TIMEOUT);
        let body = StreamBody::new(futures_util::stream::iter([piece(), piece()]));
        drop(activity.begin().watch(Response::new(body)));
        after(9.0).await;
        assert!(activity.wait_stalled().now_or_never().is_none());
        assert!(activity.wait_idle().now_or_never().is_some());
    }
}
