//! Lingering close, and the record of writes that wait for the client.
//!
//! When a process closes a socket with unread data, the system resets the connection and discards the
//! data not yet sent. An HTTP/2 client that takes the end of a blob sends `WINDOW_UPDATE` frames
//! meanwhile. So after the last byte the server reads and discards what the client sends ([`Discard`]),
//! until the client closes too.
//!
//! A response that its handler has ended may still wait in buffers of this process and of the system,
//! for a client that does not read. The connection is not idle then, so this wrapper records blocked
//! writes in its [`Activity`].

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::{discard::Discard, idle::Activity};

/// The size of a read whose bytes are discarded.
const DISCARD_SIZE: usize = 4 * 1024;

/// A stream with a lingering close.
#[derive(Debug)]
pub(in crate::server) struct Lingering<S> {
    stream: S,
    activity: Arc<Activity>,
    /// Whether the last write is blocked until the client reads.
    is_blocked: bool,
    /// Set when our side has been closed.
    discard: Option<Discard>,
}

impl<S> Lingering<S> {
    pub(in crate::server) const fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, is_blocked: false, discard: None }
    }

    /// Records in the activity when writes begin and cease to be blocked.
    fn note<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() != self.is_blocked {
            self.is_blocked = written.is_pending();
            self.activity.set_write_blocked(self.is_blocked);
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
        if self.discard.is_none() {
            let closed = Pin::new(&mut self.stream).poll_shutdown(cx);
            ready!(self.note(closed))?;
            self.activity.begin_lingering();
        }
        let Self { stream, discard, .. } = &mut *self;
        let discard = discard.get_or_insert_with(Discard::new);
        discard
            .poll(cx, |cx| {
                let mut room = [0; DISCARD_SIZE];
                let mut unwanted = ReadBuf::new(&mut room);
                Pin::new(&mut *stream).poll_read(cx, &mut unwanted).map(|read| {
                    let bytes = unwanted.filled().len();
                    // Otherwise the client has closed its side, or the connection has failed.
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

    /// A client, the server's end of its connection, and the activity of the connection.
    fn connection() -> (DuplexStream, Lingering<DuplexStream>, Arc<Activity>) {
        let (client, server) = duplex(64);
        let activity = Activity::new(TIMEOUT);
        (client, Lingering::new(server, Arc::clone(&activity)), activity)
    }

    /// How long the shutdown takes when the client sends each second, this many times, and then closes.
    /// A client that never sends does not close either.
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
    async fn shutdown_waits_until_the_client_closes_within_the_lingering_time() {
        assert_eq!(ends_after(3).await.as_secs(), 3);
        assert_eq!(ends_after(0).await.as_secs(), LINGERING_TIMEOUT.as_secs());
        assert_eq!(ends_after(100).await.as_secs(), LINGERING_TIME.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn blocked_write_and_a_lingering_close_are_not_idle() {
        let (mut client, mut server, activity) = connection();
        let idle = || activity.wait_idle().now_or_never().is_some();
        let stalled = || activity.wait_stalled().now_or_never().is_some();
        assert!(
            server.write_all(&[0; 100]).now_or_never().is_none(),
            "64 bytes fit into the buffer"
        );
        sleep(TIMEOUT * 4).await;
        assert!(!idle());
        assert!(!stalled(), "the client may be slow");
        sleep(TIMEOUT * 2).await;
        assert!(stalled());
        client.read_exact(&mut [0; 64]).await.unwrap();
        server.write_all(&[0; 36]).await.unwrap();
        assert!(!idle(), "the idle timeout begins again");
        assert!(!stalled());
        sleep(TIMEOUT).await;
        assert!(idle());
        assert!(server.shutdown().now_or_never().is_none(), "the close lingers");
        sleep(TIMEOUT).await;
        assert!(!idle());
    }
}
