//! A connection that is given up when nobody speaks on it.
//!
//! hyper looks at the first bytes to tell HTTP/1 from HTTP/2 and sets no timer while it waits for
//! them. So a timer runs here until enough has come to tell: any byte that is not the preface of
//! HTTP/2, or the whole preface. After that hyper's own timers are at work.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// RFC 9113 §3.4
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection with a timer.
pub(super) struct Impatient<S> {
    stream: S,
    /// Runs out unless the client says what it speaks.
    deadline: Option<Pin<Box<Sleep>>>,
    /// How much of the preface has come.
    matched: usize,
}

impl<S> Impatient<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        let deadline = Some(Box::pin(sleep(patience)));
        Self { stream, deadline, matched: 0 }
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
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
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
}
