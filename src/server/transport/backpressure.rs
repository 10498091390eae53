//! Backpressure on unauthenticated HTTP/2 connections.
//!
//! While the server checks a password, it does not read the body of the request, and everything that
//! the flow-control windows allow waits in memory: megabytes for each connection, which a push needs
//! and an unauthenticated client must not have. The windows of a connection cannot be enlarged later.
//! So they are large from the start, and the server stops reading an unauthenticated connection while
//! [`MAX_UNREAD`] bytes wait.

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

/// How many bytes of an unauthenticated client may wait. All bytes count that arrive while a request
/// is in progress, until a handler takes them or no request is in progress.
const MAX_UNREAD: usize = 64 * 1024;

/// The length of a frame header (RFC 9113 §4.1).
const FRAME_HEADER: usize = 9;

/// The count of the bytes that the server has read from a connection and no handler has taken.
#[derive(Debug)]
pub(in crate::server) struct Unread {
    peer: Peer,
    bytes: AtomicUsize,
    /// The number of requests in progress and of bodies being discarded.
    requests: AtomicUsize,
    /// Whether reads wait until the tasks of the requests in the last read have run.
    yields: AtomicBool,
}

/// Marks a request as in progress, or a body as being discarded, until it is dropped.
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

    /// Records a request, or a body that is discarded.
    pub(in crate::server) fn begin(self: &Arc<Self>) -> UnderWay {
        self.requests.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Records that a handler has taken this many bytes of a body, which arrived in one frame.
    pub(in crate::server) fn taken(&self, bytes: usize) {
        if !self.peer.is_authenticated() {
            let less = |before: usize| Some(before.saturating_sub(bytes + FRAME_HEADER));
            let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            self.peer.wake_reader();
        }
    }

    fn must_wait(&self) -> bool {
        self.yields.load(Ordering::Acquire) || self.is_full()
    }

    fn is_full(&self) -> bool {
        self.is_limited() && self.bytes.load(Ordering::Acquire) >= MAX_UNREAD
    }

    /// Whether the limit applies: only while a request is in progress.
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

/// The most bytes of one read from an unauthenticated client. axum-server starts each request in a task
/// of its own, and the frames of one read may start many.
const MAX_READ: usize = 512;

/// An HTTP/2 stream with backpressure: until a request is authenticated, reads wait while too many
/// bytes are unread, and until the requests of the last read have started.
#[derive(Debug)]
pub(in crate::server) struct Backpressure<S> {
    stream: S,
    unread: Arc<Unread>,
    tasks: TaskTracker,
}

impl<S> Backpressure<S> {
    /// A server that stops waits for `tasks`.
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
            // The state may have changed before the registration.
            if unread.must_wait() {
                return Poll::Pending;
            }
        }
        let mut room = [0; MAX_READ];
        let mut piece = ReadBuf::new(&mut room[..buf.remaining().min(MAX_READ)]);
        ready!(Pin::new(stream).poll_read(cx, &mut piece))?;
        let read = piece.filled().len();
        buf.put_slice(piece.filled());
        if read > 0 {
            unread.yields.store(true, Ordering::Release);
            let unread = Arc::clone(unread);
            // hyper reads until a read is pending. The tasks of the requests that it starts are queued
            // behind this task, and the connection, which this task wakes, behind those.
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

    /// A connection whose client has sent `sent` bytes, and its count of unread bytes.
    async fn connection(peer: &Peer, sent: usize) -> (Backpressure<DuplexStream>, Arc<Unread>) {
        let (mut client, server) = duplex(sent);
        client.write_all(&vec![0; sent]).await.unwrap();
        let unread = Unread::new(peer.clone());
        (Backpressure::new(server, Arc::clone(&unread), TaskTracker::new()), unread)
    }

    /// How many bytes can be read at present.
    async fn readable(connection: &mut Backpressure<DuplexStream>) -> usize {
        let mut all = 0;
        let mut piece = [0; 2000];
        loop {
            // Lets other tasks run between two reads.
            tokio::task::yield_now().await;
            match connection.read(&mut piece).now_or_never().transpose().unwrap() {
                None | Some(0) => return all,
                Some(length) => all += length,
            }
        }
    }

    #[tokio::test]
    async fn requests_start_before_an_unauthenticated_client_is_read_on() {
        let peer = Peer::new(None);
        let (mut connection, _) = connection(&peer, 10 * MAX_READ).await;
        let mut piece = [0; 2000];
        assert_eq!(connection.read(&mut piece).await.unwrap(), MAX_READ);
        let begun = TaskTracker::new().spawn(std::future::ready(()));
        for _ in 0..3 {
            assert!(connection.read(&mut piece).now_or_never().is_none(), "no task has run");
        }
        assert_eq!(connection.read(&mut piece).await.unwrap(), MAX_READ);
        assert!(begun.is_finished());
        peer.authenticated();
        assert_eq!(connection.read(&mut piece).await.unwrap(), piece.len());
    }

    #[tokio::test]
    async fn unauthenticated_client_is_read_on_as_handlers_take_its_bytes() {
        let peer = Peer::new(None);
        let (mut connection, unread) = connection(&peer, 10 * MAX_UNREAD).await;
        let request = unread.begin();
        assert!((MAX_UNREAD..MAX_UNREAD + 2000).contains(&readable(&mut connection).await));
        assert_eq!(readable(&mut connection).await, 0);
        unread.taken(20_000 - FRAME_HEADER);
        assert!((20_000..22_000).contains(&readable(&mut connection).await));
        drop(request);
        assert!(
            readable(&mut connection).await >= MAX_UNREAD,
            "the request has ended, and no bytes count"
        );
    }

    #[tokio::test]
    async fn authenticated_client_is_read_without_limit() {
        let peer = Peer::new(None);
        let (mut connection, unread) = connection(&peer, 10 * MAX_UNREAD).await;
        let _request = unread.begin();
        assert!(readable(&mut connection).await < 2 * MAX_UNREAD);
        let mut rest = Vec::new();
        let mut reading = std::pin::pin!(connection.read_to_end(&mut rest));
        assert!(reading.as_mut().now_or_never().is_none());
        peer.authenticated();
        reading.await.unwrap();
        assert!(rest.len() > 8 * MAX_UNREAD);
    }
}
