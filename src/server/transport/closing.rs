//! The end of a connection, as decided outside the task that serves it.
//!
//! axum-server owns that task. It gives each request a [`ConnectionShutdown`], which ends
//! the connection. Before the first request the connection has no such handle; its stream ends instead.

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
/// A read gives the end of the stream, as if the client had closed its side.
const READ_CLOSED: u8 = 1;
/// Reads and writes fail.
const CLOSED: u8 = 2;

/// How a connection is ended.
#[derive(Debug, Default)]
pub(in crate::server) struct Closing {
    /// Known from the first request on.
    shutdown: OnceLock<ConnectionShutdown>,
    state: AtomicU8,
    /// The task that serves the connection.
    task: AtomicWaker,
}

impl Closing {
    /// Takes from the extensions of a request what ends its connection.
    pub(in crate::server) fn learn(&self, extensions: &mut Extensions) {
        if self.shutdown.get().is_none()
            && let Some(shutdown) = extensions.remove()
        {
            // Requests of one connection begin one after the other.
            let _ = self.shutdown.set(shutdown);
        }
    }

    /// Lets requests that run finish and none begin: GOAWAY over HTTP/2, no keep-alive over
    /// HTTP/1.1. Where there was no request yet, the stream ends.
    pub(in crate::server) fn graceful_shutdown(&self) {
        match self.shutdown.get() {
            Some(shutdown) => shutdown.graceful_shutdown(),
            None => self.enter(READ_CLOSED),
        }
    }

    /// As [`graceful_shutdown`](Self::graceful_shutdown), where there was a request.
    pub(in crate::server) fn graceful_shutdown_of_requests(&self) {
        if let Some(shutdown) = self.shutdown.get() {
            shutdown.graceful_shutdown();
        }
    }

    /// Ends the connection and everything on it at once.
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

    /// Has the task of `cx` woken when the state changes, and gives the state.
    fn register(&self, cx: &Context<'_>) -> u8 {
        self.task.register(cx.waker());
        self.state()
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::Acquire)
    }
}

/// A stream that [`Closing`] ends. `T` is what the connection holds for as long as it is there.
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
    /// Calls `poll` while the stream is not closed; the task is woken when it is.
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
                // Clients go away in the middle of things all day.
                tracing::debug!(%error, "a connection broke off");
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
        // axum-server drops the reason that hyper gives.
        if !self.is_shut_down && self.closing.state() == OPEN {
            tracing::debug!("a connection broke off: what came was no HTTP, or it was cut");
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
    async fn a_stream_ends_for_its_reader_and_is_still_written() {
        let (mut client, mut server, closing) = connection();
        let mut read = Vec::new();
        {
            let mut reading = std::pin::pin!(server.read_to_end(&mut read));
            assert!(reading.as_mut().now_or_never().is_none(), "the client says nothing");
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
    async fn a_stream_that_is_closed_fails_for_its_reader_and_its_writer() {
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
