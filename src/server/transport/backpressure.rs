//! What an unauthenticated client of HTTP/2 may have sent that nobody has asked for.
//!
//! While a password is being checked nobody reads the request's body, and what the windows of HTTP/2
//! let the client send waits in memory: megabytes for each connection, which is right for a push and
//! too much for a stranger. The windows cannot be made larger later on; so they are large from the
//! start, and a connection on which nobody was let in yet is read no further while so much waits.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::task::TaskTracker;

use super::{super::peer::Peer, delegate_write::delegate_write};

/// How many bytes of a stranger may wait. All that comes while a request is under way counts, until it
/// is taken or no request is.
const MOST: usize = 64 * 1024;

/// What comes before the data of a frame (RFC 9113 §4.1).
const FRAME: usize = 9;

/// What has been read from a connection and not been asked for.
#[derive(Debug)]
pub(in crate::server) struct Unread {
    peer: Peer,
    bytes: AtomicUsize,
    /// Requests that are being answered, and bodies that are discarded.
    requests: AtomicUsize,
    /// Whether what was read last waits for the tasks of its requests to run.
    yields: AtomicBool,
}

/// A request until it has been answered, or what is left of its body until that is discarded.
#[derive(Debug)]
pub(in crate::server) struct UnderWay(Arc<Unread>);

impl Unread {
    pub(in crate::server) fn new(peer: Peer) -> Arc<Self> {
        Arc::new(Self {
            peer,
            bytes: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            yields: AtomicBool::new(false),
        })
    }

    /// Notes a request, or a body that is discarded.
    pub(in crate::server) fn begin(self: &Arc<Self>) -> UnderWay {
        self.requests.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Notes that so many bytes of a body were asked for, which came in one frame.
    pub(in crate::server) fn taken(&self, bytes: usize) {
        if !self.peer.is_authenticated() {
            let less = |before: usize| Some(before.saturating_sub(bytes + FRAME));
            let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            self.peer.wake_reader();
        }
    }

    fn must_wait(&self) -> bool {
        self.yields.load(Ordering::Acquire) || self.is_full()
    }

    fn is_full(&self) -> bool {
        self.is_limited() && self.bytes.load(Ordering::Acquire) >= MOST
    }

    /// Whether what comes may have to wait: what comes between requests is read at once.
    fn is_limited(&self) -> bool {
        !self.peer.is_authenticated() && self.requests.load(Ordering::Relaxed) > 0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let unread = &self.0;
        if unread.requests.fetch_sub(1, Ordering::Relaxed) == 1 && !unread.peer.is_authenticated() {
            unread.bytes.store(0, Ordering::Release);
            unread.peer.wake_reader();
        }
    }
}

/// How many bytes are read at a time of a client that is not authenticated. axum-server begins each
/// request in a task of its own, and the frames of one read may begin many.
const AT_A_TIME: usize = 512;

/// A connection that is read no further while too much waits, and before the requests of the last
/// read have begun.
#[derive(Debug)]
pub(in crate::server) struct Backpressure<S> {
    stream: S,
    unread: Arc<Unread>,
    tasks: TaskTracker,
}

impl<S> Backpressure<S> {
    /// `tasks` are waited for when the server stops.
    pub(in crate::server) const fn new(stream: S, unread: Arc<Unread>, tasks: TaskTracker) -> Self {
        Self { stream, unread, tasks }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Backpressure<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, unread, tasks } = &mut *self;
        if unread.peer.is_authenticated() {
            return Pin::new(stream).poll_read(cx, buf);
        }
        if unread.must_wait() {
            unread.peer.register_reader(cx.waker());
            // It may have been taken meanwhile.
            if unread.must_wait() {
                return Poll::Pending;
            }
        }
        let mut room = [0; AT_A_TIME];
        let mut piece = ReadBuf::new(&mut room[..buf.remaining().min(AT_A_TIME)]);
        ready!(Pin::new(stream).poll_read(cx, &mut piece))?;
        let read = piece.filled().len();
        buf.put_slice(piece.filled());
        if read > 0 {
            unread.yields.store(true, Ordering::Release);
            let unread = Arc::clone(unread);
            // hyper goes on reading as long as it may. The tasks of the requests that it begins are
            // queued behind this one, and the connection behind them.
            tasks.spawn(async move {
                unread.yields.store(false, Ordering::Release);
                unread.peer.wake_reader();
            });
        }
        if unread.is_limited() {
            unread.bytes.fetch_add(read, Ordering::AcqRel);
        }
        Poll::Ready(Ok(()))
    }
}

delegate_write!(Backpressure);

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// A connection whose client has sent `sent` bytes, and what waits on it.
    async fn connection(peer: &Peer, sent: usize) -> (Backpressure<DuplexStream>, Arc<Unread>) {
        let (mut client, server) = duplex(sent);
        client.write_all(&vec![0; sent]).await.unwrap();
        let unread = Unread::new(peer.clone());
        (Backpressure::new(server, Arc::clone(&unread), TaskTracker::new()), unread)
    }

    /// How much can be read for now.
    async fn readable(connection: &mut Backpressure<DuplexStream>) -> usize {
        let (mut all, mut piece) = (0, [0; 2000]);
        loop {
            // Between two reads other tasks run.
            tokio::task::yield_now().await;
            match connection.read(&mut piece).now_or_never().transpose().unwrap() {
                None | Some(0) => return all,
                Some(length) => all += length,
            }
        }
    }

    #[tokio::test]
    async fn requests_begin_before_a_stranger_is_read_on() {
        let peer = Peer::new(None);
        let (mut connection, _) = connection(&peer, 10 * AT_A_TIME).await;
        let mut piece = [0; 2000];
        assert_eq!(connection.read(&mut piece).await.unwrap(), AT_A_TIME);
        let begun = TaskTracker::new().spawn(std::future::ready(()));
        for _ in 0..3 {
            assert!(connection.read(&mut piece).now_or_never().is_none(), "no task has run");
        }
        assert_eq!(connection.read(&mut piece).await.unwrap(), AT_A_TIME);
        assert!(begun.is_finished());
        peer.authenticated();
        assert_eq!(connection.read(&mut piece).await.unwrap(), piece.len());
    }

    #[tokio::test]
    async fn a_stranger_is_read_on_as_what_it_sent_is_taken() {
        let peer = Peer::new(None);
        let (mut connection, unread) = connection(&peer, 10 * MOST).await;
        let request = unread.begin();
        assert!((MOST..MOST + 2000).contains(&readable(&mut connection).await));
        assert_eq!(readable(&mut connection).await, 0);
        unread.taken(20_000 - FRAME);
        assert!((20_000..22_000).contains(&readable(&mut connection).await));
        drop(request);
        assert!(readable(&mut connection).await >= MOST, "it was decided on, and nothing waits");
    }

    #[tokio::test]
    async fn whoever_was_let_in_is_read_at_once_and_without_end() {
        let peer = Peer::new(None);
        let (mut connection, unread) = connection(&peer, 10 * MOST).await;
        let _request = unread.begin();
        assert!(readable(&mut connection).await < 2 * MOST);
        let mut rest = Vec::new();
        let mut reading = std::pin::pin!(connection.read_to_end(&mut rest));
        assert!(reading.as_mut().now_or_never().is_none());
        peer.authenticated();
        reading.await.unwrap();
        assert!(rest.len() > 8 * MOST);
    }
}
