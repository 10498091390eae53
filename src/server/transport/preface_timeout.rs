//! The timeout for the first bytes of a connection, which tell HTTP/1.1 from HTTP/2.
//!
//! hyper-util detects the version by the connection preface of HTTP/2 (RFC 9113 §3.4) and sets no timer
//! while it waits for it. So a timer runs here until the bytes tell the version: the whole preface, or
//! a byte that differs from it. From then on hyper's own timers run.
//!
//! On a plain connection that may carry either version, the same bytes choose it.

use std::{
    future::Future as _,
    io, mem,
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

/// A stream whose reads fail with `TimedOut` when the timeout passes before the version is known.
#[derive(Debug)]
pub(in crate::server) struct PrefaceTimeout<S> {
    stream: S,
    /// The timer, until the version is known.
    deadline: Option<Pin<Box<Sleep>>>,
    /// How many bytes of the preface have come.
    matched: usize,
    /// The version that the handshake of TLS chose (ALPN, RFC 7301).
    required: Option<Version>,
    /// Held until the version is known.
    opening: Option<TaskTrackerToken>,
    /// Whether the next read gives no byte, which hyper-util takes for HTTP/1.1.
    announces_http1: bool,
    /// Bytes that were read to detect the version and that hyper reads next.
    ahead: Bytes,
}

impl<S> PrefaceTimeout<S> {
    pub(in crate::server) fn new(stream: S, timeout: Duration) -> Self {
        let deadline = Some(Box::pin(sleep(timeout)));
        Self {
            stream,
            deadline,
            matched: 0,
            required: None,
            opening: None,
            announces_http1: false,
            ahead: Bytes::new(),
        }
    }

    /// Reads fail with `InvalidData` when the client speaks another version than this.
    pub(in crate::server) fn requires(self, version: Version) -> Self {
        Self { required: Some(version), ..self }
    }

    /// Tells hyper-util by an empty first read that the client speaks HTTP/1.1: its detection takes the
    /// end of a stream for HTTP/1.1, and hyper then reads on. With the 24 bytes that the detection would
    /// read, hyper's buffer would begin with 16 KiB instead of 8. Only for a server that detects the
    /// version: elsewhere an empty read is the end of the connection.
    pub(in crate::server) fn announce_http1(self) -> Self {
        Self { announces_http1: true, ..self }
    }

    /// Holds `opening` until the version is known.
    pub(in crate::server) fn holds(self, opening: TaskTrackerToken) -> Self {
        let opening = self.deadline.is_some().then_some(opening);
        Self { opening, ..self }
    }

    /// Compares `bytes`, which were read last, with the preface, and stops the timer when they tell the
    /// version.
    ///
    /// # Errors
    ///
    /// `InvalidData` for another version than the required one.
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
    /// Reads until the bytes tell the version, and whether that is HTTP/2. The next reads give these
    /// bytes again.
    ///
    /// # Errors
    ///
    /// Those of the stream, and `TimedOut`.
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
        if mem::take(&mut self.announces_http1) {
            return Poll::Ready(Ok(()));
        }
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
                // hyper flushes only once it knows the version; an alert of TLS (such as the refusal of a
                // renegotiation, RFC 5246 §7.2.2) must not wait for that.
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

    /// Whether the reads of a connection time out whose client sends `bytes` and then nothing.
    async fn times_out(bytes: &[u8]) -> bool {
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

    /// The paused clock advances to the next timer when all tasks are idle.
    #[tokio::test(start_paused = true)]
    async fn reads_time_out_until_the_bytes_tell_the_version() {
        for silent in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            assert!(times_out(silent).await, "{silent:?}");
        }
        for speaking in [&b"G"[..], b"PU", PREFACE, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"] {
            assert!(!times_out(speaking).await, "{speaking:?}");
        }
    }

    #[tokio::test]
    async fn http_1_is_announced_by_one_empty_read() {
        let (mut client, server) = duplex(64);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        drop(client);
        let mut server = PrefaceTimeout::new(server, TIMEOUT).announce_http1();
        let mut read = Vec::new();
        server.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"");
        server.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"GET / HTTP/1.1\r\n\r\n");
    }

    #[tokio::test]
    async fn client_that_agreed_on_one_version_and_speaks_the_other_is_refused() {
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
    async fn version_is_told_by_the_first_bytes_and_no_byte_is_lost() {
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
