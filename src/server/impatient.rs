//! A connection that is given up when nobody speaks on it.
//!
//! hyper looks at the first bytes to tell HTTP/1 from HTTP/2 and sets no timer while it waits for
//! them. So a timer runs here until enough has come to tell: any byte that is not the preface of
//! HTTP/2, or the whole preface. After that hyper's own timers are at work.
//!
//! At its end a connection lingers: when a socket is closed with something unread in it, the system
//! resets the connection and throws away what was not yet sent. A client of HTTP/2 that takes the
//! last of a blob tells so all the while; so what it sends is read until it has closed as well.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// RFC 9113 §3.4
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client that has been told that this is the end, and says nothing for this long, is not waited
/// for; nor one that goes on for longer than that.
const QUIET: Duration = Duration::from_secs(5);
const LINGER: Duration = Duration::from_secs(30);

/// So many bytes are listened to then: what tells how much was taken is a fraction of it.
const UNWANTED: usize = 256 * 1024;

pub(super) struct Impatient<S> {
    stream: S,
    /// Set when our side has been closed.
    lingering: Option<Lingering>,
    /// Runs out unless the client says what it speaks.
    deadline: Option<Pin<Box<Sleep>>>,
    /// How much of the preface has come.
    matched: usize,
}

/// How long the other side may take.
struct Lingering {
    quiet: Pin<Box<Sleep>>,
    end: Instant,
    heard: usize,
}

impl Lingering {
    fn new() -> Self {
        Self { quiet: Box::pin(sleep(QUIET)), end: Instant::now() + LINGER, heard: 0 }
    }

    /// Notes that the client has said something; whether it has said enough.
    fn is_enough(&mut self, bytes: usize) -> bool {
        self.heard += bytes;
        self.quiet.as_mut().reset(self.end.min(Instant::now() + QUIET));
        self.heard > UNWANTED
    }
}

impl<S> Impatient<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        let deadline = Some(Box::pin(sleep(patience)));
        Self { stream, lingering: None, deadline, matched: 0 }
    }

    /// Notes what has come, and stops the timer when it tells which protocol is spoken.
    fn note(&mut self, bytes: &[u8]) {
        let expected = &PREFACE[self.matched..];
        self.matched += bytes.len().min(expected.len());
        if !expected.starts_with(bytes) || self.matched == PREFACE.len() {
            self.deadline = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some(deadline) = &mut self.deadline else {
            return poll;
        };
        match poll {
            Poll::Ready(_) => {
                self.note(&buf.filled()[before..]);
                poll
            }
            Poll::Pending => {
                deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, lingering, .. } = &mut *self;
        let lingering = match lingering {
            Some(lingering) => lingering,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                lingering.insert(Lingering::new())
            }
        };
        let mut room = [0; 1024];
        loop {
            let mut unwanted = ReadBuf::new(&mut room);
            match Pin::new(&mut *stream).poll_read(cx, &mut unwanted) {
                Poll::Ready(Ok(())) if !unwanted.filled().is_empty() => {
                    if lingering.is_enough(unwanted.filled().len()) {
                        return Poll::Ready(Ok(()));
                    }
                }
                // It has closed, or is gone.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return lingering.quiet.as_mut().poll(cx).map(Ok),
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Whether a client that sends `bytes` and then nothing is given up.
    async fn gives_up(bytes: &[u8]) -> bool {
        let (mut client, server) = duplex(64);
        let mut server = Impatient::new(server, PATIENCE);
        client.write_all(bytes).await.unwrap();
        let read = async {
            let mut buffer = [0; 16];
            loop {
                match server.read(&mut buffer).await {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(error) => return error.kind() == io::ErrorKind::TimedOut,
                }
            }
        };
        tokio::time::timeout(PATIENCE * 100, read).await.unwrap_or(false)
    }

    /// The clock jumps ahead when there is nothing else to do.
    #[tokio::test(start_paused = true)]
    async fn a_client_is_given_up_until_it_says_what_it_speaks() {
        for silent in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            assert!(gives_up(silent).await, "{silent:?}");
        }
        for speaking in [&b"G"[..], b"PU", PREFACE, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"] {
            assert!(!gives_up(speaking).await, "{speaking:?}");
        }
    }

    /// How long the end of a connection takes whose client sends `bytes` each second, so many times,
    /// and then closes.
    async fn ends_after(times: u32) -> Duration {
        let (mut client, server) = duplex(64);
        let mut server = Impatient::new(server, PATIENCE);
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
        assert_eq!(ends_after(0).await.as_secs(), QUIET.as_secs());
        assert_eq!(ends_after(100).await.as_secs(), LINGER.as_secs());
    }
}
