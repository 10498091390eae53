//! A connection whose client has to show in time which version of HTTP it speaks.
//!
//! hyper reads the first bytes to tell HTTP/1 from HTTP/2 and sets no timer while it waits for them.
//! So a timer runs here until enough bytes have come to tell: any byte that is not of the preface of
//! HTTP/2, or the whole preface. From then on hyper's own timers run.
//!
//! On a plain connection that may carry either version, the same bytes choose it.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Version, delegate_write::delegate_write};

/// RFC 9113 §3.4
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection with a timer.
#[derive(Debug)]
pub(in crate::server) struct PrefaceTimeout<S> {
    stream: S,
    /// Runs out unless the client says what it speaks.
    deadline: Option<Pin<Box<Sleep>>>,
    /// How much of the preface has come.
    matched: usize,
    /// The version that was agreed on in the handshake, where there was one.
    required: Option<Version>,
    /// Held until the version is known.
    opening: Option<TaskTrackerToken>,
    /// What was read to know the version, and not yet by whoever speaks it.
    ahead: Bytes,
}

impl<S> PrefaceTimeout<S> {
    pub(in crate::server) fn new(stream: S, timeout: Duration) -> Self {
        let deadline = Some(Box::pin(sleep(timeout)));
        Self { stream, deadline, matched: 0, required: None, opening: None, ahead: Bytes::new() }
    }

    /// Refuses a client that does not speak the version that it has agreed on.
    pub(in crate::server) fn requires(self, version: Version) -> Self {
        Self { required: Some(version), ..self }
    }

    /// Holds `opening` until the version is known.
    pub(in crate::server) fn holds(self, opening: TaskTrackerToken) -> Self {
        let opening = self.deadline.is_some().then_some(opening);
        Self { opening, ..self }
    }

    /// Notes what has come, and stops the timer when it tells which version is spoken.
    ///
    /// # Errors
    ///
    /// When that is another version than the required one.
    fn note(&mut self, bytes: &[u8]) -> io::Result<()> {
        let rest = &PREFACE[self.matched..];
        let of_preface = bytes.len().min(rest.len());
        let is_other = bytes[..of_preface] != rest[..of_preface];
        self.matched += of_preface;
        if !is_other && self.matched < PREFACE.len() {
            return Ok(());
        }
        self.deadline = None;
        self.opening = None;
        let spoken = if is_other { Version::Http1 } else { Version::Http2 };
        if self.required.is_some_and(|required| required != spoken) {
            let why = "the client does not speak the version of HTTP that it agreed on";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> PrefaceTimeout<S> {
    /// Waits until the first bytes show whether the client speaks HTTP/2, whose preface they then
    /// are. They will be read again.
    pub(in crate::server) async fn begins_with_preface(&mut self) -> io::Result<bool> {
        let mut first = Vec::with_capacity(PREFACE.len());
        while self.deadline.is_some() && self.read_buf(&mut first).await? > 0 {}
        let is_http2 = first.starts_with(PREFACE);
        self.ahead = first.into();
        Ok(is_http2)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for PrefaceTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            let length = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some(deadline) = &mut self.deadline else {
            return poll;
        };
        match poll {
            Poll::Ready(Err(_)) => poll,
            Poll::Ready(Ok(())) => {
                let noted = self.note(&buf.filled()[before..]);
                if noted.is_err() {
                    buf.set_filled(before);
                }
                Poll::Ready(noted)
            }
            Poll::Pending => {
                if deadline.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                // hyper flushes only once it knows the version, and what TLS has to say (such as an
                // alert that it does not renegotiate, RFC 5246 §7.2.2) must not wait for that.
                match Pin::new(&mut self.stream).poll_flush(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

delegate_write!(PrefaceTimeout);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Whether a client that sends `bytes` and then nothing is given up.
    async fn gives_up(bytes: &[u8]) -> bool {
        let (mut client, server) = duplex(64);
        let mut server = PrefaceTimeout::new(server, TIMEOUT);
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
        tokio::time::timeout(TIMEOUT * 100, read).await.unwrap_or(false)
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

    #[tokio::test]
    async fn a_client_that_agreed_on_one_version_and_speaks_the_other_is_refused() {
        let request = b"GET / HTTP/1.1\r\n\r\n";
        for (version, bytes, is_served) in [
            (Version::Http2, PREFACE, true),
            (Version::Http2, &request[..], false),
            (Version::Http1, &request[..], true),
            (Version::Http1, PREFACE, false),
        ] {
            let (mut client, server) = duplex(64);
            let mut server = PrefaceTimeout::new(server, TIMEOUT).requires(version);
            client.write_all(bytes).await.unwrap();
            drop(client);
            let read = server.read_to_end(&mut Vec::new()).await;
            assert_eq!(read.is_ok(), is_served, "{version:?}: {read:?}");
        }
    }

    #[tokio::test]
    async fn what_a_client_speaks_is_known_by_how_it_begins_and_nothing_is_lost() {
        let preface = std::str::from_utf8(PREFACE).unwrap();
        for (said, is_http2) in [
            (preface.to_owned(), true),
            (format!("{preface}{}", "frames".repeat(100)), true),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), false),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\rx".to_owned(), false),
            ("PRI".to_owned(), false),
            ("P".to_owned(), false),
            (String::new(), false),
        ] {
            for step in [1, 7, 1000] {
                let (mut client, server) = duplex(5);
                let mut server = PrefaceTimeout::new(server, TIMEOUT);
                let speaking = async {
                    for piece in said.as_bytes().chunks(step) {
                        client.write_all(piece).await.unwrap();
                    }
                    drop(client);
                };
                let listening = async {
                    let is_http2 = server.begins_with_preface().await.unwrap();
                    let mut heard = String::new();
                    server.read_to_string(&mut heard).await.unwrap();
                    (is_http2, heard)
                };
                let ((), heard) = tokio::join!(speaking, listening);
                assert_eq!(heard, (is_http2, said.clone()), "{step}");
            }
        }
    }
}
