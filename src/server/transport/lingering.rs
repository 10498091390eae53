//! The writing end of a connection: what the client has not taken yet, and how it ends.
//!
//! When a socket is closed with something unread in it, the system resets the connection and throws
//! away what was not yet sent. A client of HTTP/2 that takes the last of a blob tells so all the
//! while; so what it sends is read and dropped ([`Discard`]) until it has closed as well.
//!
//! And a response that is done with may still wait for its client, in this process and below. A
//! connection is not idle then, which is what its [`Activity`] is told.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::{discard::Discard, idle::Activity};

/// How many unwanted bytes are read at a time.
const ROOM: usize = 4 * 1024;

/// A connection that lingers when it is shut down.
#[derive(Debug)]
pub(in crate::server) struct Lingering<S> {
    stream: S,
    activity: Arc<Activity>,
    /// Whether the last write had to wait for the client.
    waits: bool,
    /// Set when our side has been closed.
    farewell: Option<Discard>,
}

impl<S> Lingering<S> {
    pub(in crate::server) const fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, waits: false, farewell: None }
    }

    /// Tells when the client begins to be waited for, and when it no longer is.
    fn note<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() != self.waits {
            self.waits = written.is_pending();
            self.activity.set_write_blocked(self.waits);
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.farewell.is_none() {
            let closed = Pin::new(&mut self.stream).poll_shutdown(cx);
            ready!(self.note(closed))?;
            self.activity.begin_lingering();
        }
        let Self { stream, farewell, .. } = &mut *self;
        let farewell = farewell.get_or_insert_with(Discard::new);
        farewell
            .poll(cx, |cx| {
                let mut room = [0; ROOM];
                let mut unwanted = ReadBuf::new(&mut room);
                Pin::new(&mut *stream).poll_read(cx, &mut unwanted).map(|read| {
                    let bytes = unwanted.filled().len();
                    // Else it has closed, or is gone.
                    (read.is_ok() && bytes > 0).then_some(bytes)
                })
            })
            .map(Ok)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::{Instant, sleep},
    };

    use super::*;
    use crate::server::discard::{LINGERING_TIME, LINGERING_TIMEOUT};

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// A client, our end of its connection, and what that says of it.
    fn connection() -> (DuplexStream, Lingering<DuplexStream>, Arc<Activity>) {
        let (client, server) = duplex(64);
        let activity = Activity::new(TIMEOUT);
        (client, Lingering::new(server, Arc::clone(&activity)), activity)
    }

    /// How long the end of a connection takes whose client sends `bytes` each second, so many times,
    /// and then closes.
    async fn ends_after(times: u32) -> Duration {
        let (mut client, mut server, _) = connection();
        let begun = Instant::now();
        let talking = async {
            for _ in 0..times {
                sleep(Duration::from_secs(1)).await;
                if client.write_all(b"more").await.is_err() {
                    return client;
                }
            }
            if times > 0 {
                client.shutdown().await.unwrap();
            }
            client
        };
        let (ended, _client) = tokio::join!(
            async {
                server.shutdown().await.unwrap();
                drop(server);
                begun.elapsed()
            },
            talking
        );
        ended
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_what_the_client_still_says_and_not_for_ever() {
        assert_eq!(ends_after(3).await.as_secs(), 3);
        assert_eq!(ends_after(0).await.as_secs(), LINGERING_TIMEOUT.as_secs());
        assert_eq!(ends_after(100).await.as_secs(), LINGERING_TIME.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_has_not_taken_and_a_connection_that_lingers_are_not_idle() {
        let (mut client, mut server, activity) = connection();
        let idle = || activity.wait_idle().now_or_never().is_some();
        let stuck = || activity.wait_stalled().now_or_never().is_some();
        assert!(server.write_all(&[0; 100]).now_or_never().is_none(), "64 bytes have room");
        sleep(TIMEOUT * 4).await;
        assert!(!idle());
        assert!(!stuck(), "it may be slow");
        sleep(TIMEOUT * 2).await;
        assert!(stuck());
        client.read_exact(&mut [0; 64]).await.unwrap();
        server.write_all(&[0; 36]).await.unwrap();
        assert!(!idle(), "the time begins anew");
        assert!(!stuck());
        sleep(TIMEOUT).await;
        assert!(idle());
        assert!(server.shutdown().now_or_never().is_none(), "it lingers");
        sleep(TIMEOUT).await;
        assert!(!idle());
    }
}
