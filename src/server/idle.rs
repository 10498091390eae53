//! When a client is waited for no longer.
//!
//! hyper gives up a connection of HTTP/1 on which no request begins. It never gives up one of
//! HTTP/2, nor one whose client asks for a blob and then takes nothing of it; and each of them holds
//! a descriptor, and the second a file. So what a connection does is noted here: how many requests
//! are being answered, since when there is none, and which responses wait for their client. What
//! the server itself takes its time for is never held against a client.
//!
//! Where no request was let in yet a client is waited for only a short time, in whatever it does: a
//! connection costs nothing to somebody without a password.

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

/// A client that takes something now and then may be slow: what the system keeps for it is some
/// megabytes, and may take longer to drain than a client may be silent.
const STALL_FACTOR: u32 = 5;

/// How long an unauthenticated client may be silent, or not take an answer: docker begins with a
/// request, and goes on as soon as it has read the answer.
const UNAUTHENTICATED: Duration = Duration::from_secs(10);

/// How long an unauthenticated client has to go when it is told that this is the end.
const UNAUTHENTICATED_GRACE: Duration = Duration::from_secs(1);

/// How often a connection is asked that nothing can be said of yet.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// What a connection does.
#[derive(Debug)]
pub(super) struct Activity {
    idle_timeout: Duration,
    /// Whether the client is waited for as long as that.
    is_authenticated: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests that are being answered, and bodies that are discarded.
    open: usize,
    /// Bodies that are discarded: what is left of requests that were answered.
    discarded: usize,
    /// Since when there is none, and nothing waits to be written.
    idle_since: Instant,
    /// Responses of which the client may take more, and since when. There is one in most cases, and
    /// never more than a connection may have streams.
    untaken: Vec<(u64, Instant)>,
    /// How many responses there were.
    responses: u64,
    /// Since when nothing can be written, because the client takes nothing of what was.
    unwritten: Option<Instant>,
    /// Whether our side is closed, and the end waited for elsewhere.
    lingers: bool,
}

impl State {
    /// Whether nothing is asked for and nothing waits for the client.
    const fn is_idle(&self) -> bool {
        self.open == 0 && self.unwritten.is_none() && !self.lingers
    }

    /// Notes that a request, or what is left of its body, is done with.
    fn end(&mut self) {
        self.open -= 1;
        if self.open == 0 {
            self.idle_since = Instant::now();
        }
    }

    /// Notes that a response does not wait for the client.
    fn take(&mut self, id: u64) {
        if let Some(index) = self.untaken.iter().position(|(untaken, _)| *untaken == id) {
            self.untaken.swap_remove(index);
        }
    }
}

impl Activity {
    /// A connection that begins, with a client that may be silent for so long.
    pub(super) fn new(idle_timeout: Duration) -> Arc<Self> {
        Self::begun(idle_timeout, true)
    }

    /// As [`new`](Self::new), but the client may be silent only for a short time until it is
    /// [`authenticated`](Self::authenticated).
    pub(super) fn unauthenticated(idle_timeout: Duration) -> Arc<Self> {
        Self::begun(idle_timeout, false)
    }

    fn begun(idle_timeout: Duration, is_authenticated: bool) -> Arc<Self> {
        let state = State {
            open: 0,
            discarded: 0,
            idle_since: Instant::now(),
            untaken: Vec::new(),
            responses: 0,
            unwritten: None,
            lingers: false,
        };
        let is_authenticated = AtomicBool::new(is_authenticated);
        Arc::new(Self { idle_timeout, is_authenticated, state: Mutex::new(state) })
    }

    /// Notes that a request was let in.
    pub(super) fn authenticated(&self) {
        self.is_authenticated.store(true, Ordering::Relaxed);
    }

    /// Notes that the client has come through the door: its time to ask for something begins.
    pub(super) fn opened(&self) {
        self.state().idle_since = Instant::now();
    }

    fn is_authenticated(&self) -> bool {
        self.is_authenticated.load(Ordering::Relaxed)
    }

    /// How long the client may be silent as things are.
    fn timeout(&self) -> Duration {
        if self.is_authenticated() {
            self.idle_timeout
        } else {
            self.idle_timeout.min(UNAUTHENTICATED)
        }
    }

    /// Since when nothing but the client is waited for: until it asks for something, sends what
    /// nobody wants, or takes an answer. `None` while the server is at work on a request.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        let state = self.state();
        if state.open > state.untaken.len() + state.discarded {
            return None;
        }
        let untaken = state.untaken.iter().map(|(_, since)| *since);
        Some(untaken.chain(state.unwritten).min().unwrap_or(state.idle_since))
    }

    /// Notes a request.
    pub(super) fn begin(self: &Arc<Self>) -> Answering {
        let mut state = self.state();
        state.open += 1;
        state.responses += 1;
        Answering { id: state.responses, activity: Arc::clone(self) }
    }

    /// Notes that what is left of a request's body is read and dropped. The connection is not idle
    /// meanwhile, but nothing is waited for except the client.
    pub(super) fn discard(self: &Arc<Self>) -> Discarding {
        let mut state = self.state();
        state.open += 1;
        state.discarded += 1;
        Discarding(Arc::clone(self))
    }

    /// Notes whether a write has to wait until the client takes something.
    pub(super) fn waits_to_write(&self, waits: bool) {
        let mut state = self.state();
        let now = Instant::now();
        state.unwritten = waits.then_some(now);
        state.idle_since = now;
    }

    /// Notes that our side of the connection is closed. It is not idle from here on: whoever closes
    /// it waits for the client, and not for ever.
    pub(super) fn lingers(&self) {
        self.state().lingers = true;
    }

    /// Ends when nothing was asked for as long as a client may be silent.
    pub(super) async fn wait_idle(&self) {
        self.until(|state| state.is_idle().then(|| state.idle_since + self.timeout())).await;
    }

    /// Ends when a client that was told that this is the end has had time to go: as long again, and
    /// when it is unauthenticated very little, for whatever else it does.
    pub(super) async fn wait_gone(&self) {
        self.until(|state| {
            if self.is_authenticated() {
                state.is_idle().then(|| state.idle_since + 2 * self.idle_timeout)
            } else {
                (state.open == 0).then(|| state.idle_since + self.timeout() + UNAUTHENTICATED_GRACE)
            }
        })
        .await;
    }

    /// Ends when for so long nothing was asked for and nothing waited for the client.
    pub(super) async fn wait_idle_for(&self, long: Duration) {
        self.until(|state| state.is_idle().then(|| state.idle_since + long)).await;
    }

    /// Ends when something waits for the client, and has for too long.
    pub(super) async fn wait_stalled(&self) {
        self.until(|state| {
            // What is answered to whoever was not let in is small.
            let factor = if self.is_authenticated() { STALL_FACTOR } else { 1 };
            let timeout = self.timeout() * factor;
            let untaken = state.untaken.iter().map(|(_, since)| since);
            untaken.chain(&state.unwritten).min().map(|since| *since + timeout)
        })
        .await;
    }

    /// Ends at the moment that `due` gives. As long as it gives none, it is asked now and then.
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

/// A body that is discarded, until this is dropped.
#[derive(Debug)]
pub(super) struct Discarding(Arc<Activity>);

impl Drop for Discarding {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.discarded -= 1;
        state.end();
    }
}

/// A request that is being answered, until this is dropped.
#[derive(Debug)]
pub(super) struct Answering {
    id: u64,
    activity: Arc<Activity>,
}

impl Answering {
    /// A response whose body says when it waits for the client.
    pub(super) fn watch<B: Body + Unpin>(self, response: Response<B>) -> Response<Watched<B>> {
        self.waits_for_client(!response.body().is_end_stream());
        response.map(|body| Watched { body, answering: self })
    }

    /// Notes whether nothing but the client is waited for: that it sends the rest of the request, or
    /// takes what there is of the response.
    pub(super) fn waits_for_client(&self, waits: bool) {
        let mut state = self.activity.state();
        state.take(self.id);
        if waits {
            state.untaken.push((self.id, Instant::now()));
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.take(self.id);
        state.end();
    }
}

/// A body on its way to a client.
#[derive(Debug)]
pub(super) struct Watched<B> {
    body: B,
    answering: Answering,
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        // The last piece waits as well, in hyper, and when it is taken this is dropped.
        self.answering.waits_for_client(matches!(poll, Poll::Ready(Some(Ok(_)))));
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
    async fn a_connection_is_idle_when_nothing_was_asked_for_long() {
        let activity = Activity::new(TIMEOUT);
        after(0.9).await;
        let request = activity.begin();
        after(9.0).await;
        assert!(activity.wait_idle().now_or_never().is_none(), "something is being answered");
        drop(request);
        after(0.9).await;
        assert!(activity.wait_idle().now_or_never().is_none());
        after(0.2).await;
        assert!(activity.wait_idle().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_stuck_and_a_slow_server_is_not() {
        let activity = Activity::new(TIMEOUT);
        let stuck = || activity.wait_stalled().now_or_never().is_some();
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel::<Piece>();
        let pieces = futures_util::stream::poll_fn(move |cx| receive.poll_recv(cx));
        let response = Response::new(StreamBody::new(pieces));
        let mut body = activity.begin().watch(response).into_body();
        after(4.9).await;
        assert!(!stuck());
        after(0.2).await;
        assert!(stuck(), "nobody asked for the first piece");
        assert!(body.frame().now_or_never().is_none());
        after(100.0).await;
        assert!(!stuck(), "there is none yet");
        for _ in 0..10 {
            send.send(piece()).unwrap();
            assert!(body.frame().await.unwrap().is_ok());
            after(4.0).await;
            assert!(!stuck(), "one after the other is taken");
        }
        after(1.1).await;
        assert!(stuck());
        drop(send);
        assert!(body.frame().await.is_none());
        after(9.0).await;
        assert!(!stuck(), "it is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_given_up_is_not_waited_for() {
        let activity = Activity::new(TIMEOUT);
        let body = StreamBody::new(futures_util::stream::iter([piece(), piece()]));
        drop(activity.begin().watch(Response::new(body)));
        after(9.0).await;
        assert!(activity.wait_stalled().now_or_never().is_none());
        assert!(activity.wait_idle().now_or_never().is_some());
    }
}
