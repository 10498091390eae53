//! A limit on the control frames of HTTP/2.
//!
//! hyper and h2 answer every `PING` and `SETTINGS`, and read every `PRIORITY`, `WINDOW_UPDATE` and frame
//! of unknown type, without limit. So this wrapper counts the frames that arrive (RFC 9113 §4.1), and
//! ends a connection with many more control frames than its requests and its content account for. It
//! reads frame headers only and skips the payload.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// The length of the client's connection preface (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// The length of a frame header: length, type, flags and stream of the frame.
const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// After this many control frames the wrapper compares them with requests, content and time.
const CHECK_EVERY: u64 = 10_000;

/// How many control frames one request accounts for.
const PER_REQUEST: u64 = 20;

/// How many bytes of content, in either direction, account for one control frame. A client may send two
/// `WINDOW_UPDATE` frames for each piece that it takes, for the stream and for the connection, and some
/// clients take small pieces.
const BYTES_PER_FRAME: u64 = 128;

/// How many control frames one second accounts for.
const PER_SECOND: u64 = 100;

/// An HTTP/2 stream with a limit on control frames.
#[derive(Debug)]
pub(in crate::server) struct ControlFrames<S> {
    stream: S,
    frames: Frames,
}

impl<S> ControlFrames<S> {
    /// `stream` begins with the connection preface.
    pub(in crate::server) fn new(stream: S) -> Self {
        Self { stream, frames: Frames::new() }
    }
}

/// The parser of frame headers, with the count of frames.
#[derive(Debug)]
struct Frames {
    /// The frame header as far as it has arrived.
    header: [u8; HEADER],
    header_length: usize,
    /// How many bytes precede the next frame header.
    skip: usize,
    count: Count,
}

/// The frames and bytes counted since a time.
#[derive(Debug)]
struct Count {
    since: Instant,
    control: u64,
    requests: u64,
    /// Bytes of content received, and all bytes sent.
    bytes: u64,
}

impl Count {
    fn begin() -> Self {
        Self { since: Instant::now(), control: 0, requests: 0, bytes: 0 }
    }

    fn is_accounted_for(&self) -> bool {
        let seconds = self.since.elapsed().as_secs();
        let allowed = self.requests * PER_REQUEST
            + self.bytes / BYTES_PER_FRAME
            + seconds.saturating_mul(PER_SECOND);
        self.control <= allowed
    }
}

impl Frames {
    fn new() -> Self {
        Self { header: [0; HEADER], header_length: 0, skip: PREFACE, count: Count::begin() }
    }

    /// Counts the frames in the bytes received. Returns whether the connection may go on.
    fn note(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                break;
            }
            let missing = HEADER - self.header_length;
            let (piece, rest) = bytes.split_at(missing.min(bytes.len()));
            self.header[self.header_length..][..piece.len()].copy_from_slice(piece);
            self.header_length += piece.len();
            bytes = rest;
            if self.header_length == HEADER {
                self.header_length = 0;
                self.begin();
            }
        }
        if self.count.control < CHECK_EVERY {
            return true;
        }
        let may_go_on = self.count.is_accounted_for();
        if may_go_on {
            self.count = Count::begin();
        }
        may_go_on
    }

    /// Counts the frame whose header is complete.
    fn begin(&mut self) {
        let [first, second, third, kind, ..] = self.header;
        let length = u32::from_be_bytes([0, first, second, third]);
        self.skip = usize::try_from(length).unwrap_or(usize::MAX);
        match kind {
            HEADERS => self.count.requests += 1,
            DATA if length > 0 => self.count.bytes += u64::from(length),
            _ => self.count.control += 1,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ControlFrames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, frames } = &mut *self;
        let before = buf.filled().len();
        ready!(Pin::new(stream).poll_read(cx, buf))?;
        if frames.note(&buf.filled()[before..]) {
            return Poll::Ready(Ok(()));
        }
        let why = "a client sends control frames that no requests or content account for";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)))
    }
}

impl<S: AsyncWrite + Unpin> ControlFrames<S> {
    /// Counts the bytes sent.
    fn written(&mut self, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = poll {
            self.frames.count.bytes += bytes as u64;
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ControlFrames<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(poll)
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
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).unwrap().to_be_bytes();
        [&size[1..], &[kind, 0, 0, 0, 0, 1], &vec![0xff; length]].concat()
    }

    fn begun() -> Frames {
        let mut frames = Frames::new();
        assert!(frames.note(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        frames
    }

    /// How many times a client may send `round` in a row, up to ten times [`CHECK_EVERY`].
    fn rounds(frames: &mut Frames, round: &[u8]) -> u64 {
        (0..10 * CHECK_EVERY).take_while(|_| frames.note(round)).count() as u64
    }

    #[tokio::test(start_paused = true)]
    async fn control_frames_are_limited_unless_requests_or_content_account_for_them() {
        assert_eq!(rounds(&mut begun(), &frame(PING, 8)), CHECK_EVERY - 1);
        assert_eq!(rounds(&mut begun(), &frame(0xfa, 16_384)), CHECK_EVERY - 1);
        assert_eq!(rounds(&mut begun(), &frame(DATA, 0)), CHECK_EVERY - 1);
        // One request for a hundred control frames does not account for them.
        let much = [frame(PING, 8).repeat(100), frame(HEADERS, 30)].concat();
        assert_eq!(rounds(&mut begun(), &much), CHECK_EVERY / 100 - 1);
        let request = [frame(HEADERS, 30), frame(PING, 8), frame(WINDOW_UPDATE, 4)].concat();
        assert_eq!(rounds(&mut begun(), &request), 10 * CHECK_EVERY);
        let push = [frame(DATA, 1024), frame(PING, 8)].concat();
        assert_eq!(rounds(&mut begun(), &push), 10 * CHECK_EVERY);
        // A pull: the server sends the content.
        let mut frames = begun();
        for _ in 0..10 * CHECK_EVERY {
            frames.count.bytes += 1024;
            assert!(frames.note(&frame(WINDOW_UPDATE, 4).repeat(2)));
        }
        assert!(rounds(&mut frames, &frame(WINDOW_UPDATE, 4)) < 2 * CHECK_EVERY);
    }

    #[tokio::test(start_paused = true)]
    async fn control_frames_may_come_slowly_for_ever() {
        let mut frames = begun();
        for _ in 0..50_000 {
            assert!(frames.note(&frame(PING, 8)));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_counted_however_reads_divide_them() {
        // The payload of DATA may look like frames; the parser must skip it.
        let push = [frame(HEADERS, 30), frame(DATA, 16_384), frame(PING, 8)].concat();
        for step in [1, 8, 9, 10, 1000, 16_384, 100_000] {
            let mut frames = begun();
            for piece in push.repeat(20).chunks(step) {
                assert!(frames.note(piece));
            }
            let Count { control, requests, bytes, .. } = frames.count;
            assert_eq!((control, requests, bytes), (20, 20, 20 * 16_384), "{step}");
        }
    }
}
