//! Ends a connection from outside the task that serves it.
//!
//! axum-server owns that task. It gives each request a [`ConnectionShutdown`], which ends the
//! connection. Before the first request there is no such handle, and the stream ends instead.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use axum::http::Extensions;
use axum_server::ConnectionShutdown;
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both directions are open.
const OPEN: u8 = 0;
/// Reads return the end of the stream, as if the client had closed its side.
const READ_CLOSED: u8 = 1;
/// Reads and writes fail.
const CLOSED: u8 = 2;

/// Ends one connection, gracefully or at once.
#[derive(Debug, Default)]
pub(in crate::server) struct Closing {
    /// Known from the first request on.
    shutdown: OnceLock<ConnectionShutdown>,
    state: AtomicU8,
    /// The task that serves the connection.
    task: AtomicWaker,
}

impl Closing {
    /// Takes the handle of the connection from the extensions of a request.
    pub(in crate::server) fn learn(&self, extensions: &mut Extensions) {
        if self.shutdown.get().is_none()
            && let Some(shutdown) = extensions.remove()
        {
            // Requests of one connection start one after the other, so the handle is not set yet.
            let _ = self.shutdown.set(shutdown);
        }
    }

    /// Begins a graceful shutdown: running requests finish, and no further request starts. Over HTTP/2
    /// the server sends GOAWAY; over HTTP/1.1 it ends keep-alive. Before the first request, ends the
    /// stream.
    pub(in crate::server) fn graceful_shutdown(&self) {
        match self.shutdown.get() {
            Some(shutdown) => shutdown.graceful_shutdown(),
            None => self.enter(READ_CLOSED),
        }
    }

    /// As [`graceful_shutdown`](Self::graceful_shutdown); does nothing before the first request.
    pub(in crate::server) fn graceful_shutdown_of_requests(&self) {
        if let Some(shutdown) = self.shutdown.get() {
            shutdown.graceful_shutdown();
        }
    }

    /// Closes the connection at once, with the requests on it.
    pub(in crate::server) fn close(&self) {
        self.enter(CLOSED);
        if let Some(shutdown) = self.shutdown.get() {
            shutdown.shutdown();
        }
    }

    fn enter(&self, state: u8) {
        self.state.fetch_max(state, Ordering::AcqRel);
        self.task.wake();
    }

    /// Registers the task of `cx` to be woken when the state changes, and returns the state.
    fn register(&self, cx: &Context<'_>) -> u8 {
        self.task.register(cx.waker());
        self.state()
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::Acquire)
    }
}

/// A stream that [`Closing`] ends. It holds the guards `T` until it is dropped.
#[derive(Debug)]
pub(in crate::server) struct Closable<S, T> {
    stream: S,
    closing: Arc<Closing>,
    is_shut_down: bool,
    _held: T,
}

impl<S, T> Closable<S, T> {
    pub(in crate::server) const fn new(stream: S, closing: Arc<Closing>, held: T) -> Self {
        Self { stream, closing, is_shut_down: false, _held: held }
    }
}

impl<S, T> Closable<S, T> {
    /// Calls `poll` unless the stream is closed. A pending poll is woken when the stream is closed.
    fn unless_closed<R>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let closed = || Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        if self.closing.state() == CLOSED {
            return closed();
        }
        match poll(&mut self.stream, cx) {
            Poll::Pending if self.closing.register(cx) == CLOSED => closed(),
            Poll::Ready(Err(error)) => {
                // At `debug`, since clients often disconnect within a request.
                tracing::debug!(%error, "a connection failed");
                self.is_shut_down = true;
                Poll::Ready(Err(error))
            }
            polled => polled,
        }
    }
}

impl<S: AsyncRead + Unpin, T: Unpin> AsyncRead for Closable<S, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.closing.state() == READ_CLOSED {
            return Poll::Ready(Ok(()));
        }
        let polled = self.unless_closed(cx, |stream, cx| Pin::new(stream).poll_read(cx, buf));
        match polled {
            Poll::Pending if self.closing.state() == READ_CLOSED => Poll::Ready(Ok(())),
            polled => polled,
        }
    }
}

impl<S: AsyncWrite + Unpin, T: Unpin> AsyncWrite for Closable<S, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unless_closed(cx, |stream, cx| Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_closed(cx, |stream, cx| Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_shut_down = true;
        self.unless_closed(cx, |stream, cx| Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unless_closed(cx, |stream, cx| Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S, T> Drop for Closable<S, T> {
    fn drop(&mut self) {
        // axum-server discards hyper's error.
        if !self.is_shut_down && self.closing.state() == OPEN {
            tracing::debug!("a connection failed: the client sent malformed HTTP or disconnected");
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    fn connection() -> (DuplexStream, Closable<DuplexStream, ()>, Arc<Closing>) {
        let (client, server) = duplex(64);
        let closing = Arc::<Closing>::default();
        (client, Closable::new(server, Arc::clone(&closing), ()), closing)
    }

    #[tokio::test]
    async fn graceful_shutdown_ends_reads_and_permits_writes() {
        let (mut client, mut server, closing) = connection();
        let mut read = Vec::new();
        {
            let mut reading = std::pin::pin!(server.read_to_end(&mut read));
            assert!(reading.as_mut().now_or_never().is_none(), "the client sends nothing");
            closing.graceful_shutdown();
            reading.await.unwrap();
        }
        assert!(read.is_empty());
        server.write_all(b"last").await.unwrap();
        drop(server);
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"last");
    }

    #[tokio::test]
    async fn close_fails_reads_and_writes() {
        let (_client, mut server, closing) = connection();
        let reading = async { server.read_u8().await.unwrap_err().kind() };
        let closes = async { closing.close() };
        assert_eq!(tokio::join!(reading, closes).0, io::ErrorKind::ConnectionAborted);

        let (_client, mut server, closing) = connection();
        let writing = async { server.write_all(&[0; 100]).await.unwrap_err().kind() };
        let closes = async { closing.close() };
        assert_eq!(tokio::join!(writing, closes).0, io::ErrorKind::ConnectionAborted);
        assert!(server.flush().await.is_err());
    }
}
