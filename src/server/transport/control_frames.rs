//! Frames of HTTP/2 that ask for nothing.
//!
//! `PING` and `SETTINGS` are answered, `PRIORITY`, `WINDOW_UPDATE` and frames of unknown types are read,
//! for as long as they come; hyper and h2 set no bound to that. So the frames that come are counted
//! here (RFC 9113 §4.1), and a connection ends that has many more of them than its requests and its
//! content account for. A frame of content is passed over without a look at it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// What a client of HTTP/2 begins with (RFC 9113 §3.4), in bytes.
const PREFACE: usize = 24;

/// Length, type, flags and stream of a frame.
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// After so many control frames it is looked at what they were for.
const MANY: u64 = 10_000;

/// So many belong to a request.
const FOR_A_REQUEST: u64 = 20;

/// One belongs to so many bytes of content in either direction: each piece that a client has taken may
/// raise the window of the stream and that of the connection, and some take small pieces.
const BYTES_FOR_ONE: u64 = 128;

/// So many may come each second for whatever reason.
const FOR_A_SECOND: u64 = 100;

/// A connection of HTTP/2 whose client may not send control frames without end.
#[derive(Debug)]
pub(in crate::server) struct ControlFrames<S> {
    stream: S,
    frames: Frames,
}

impl<S> ControlFrames<S> {
    /// `stream` has been read up to the preface.
    pub(in crate::server) fn new(stream: S) -> Self {
        Self { stream, frames: Frames::new() }
    }
}

/// Where one is in the frames of a client, and how many there were.
#[derive(Debug)]
struct Frames {
    /// What has come of the head of a frame.
    head: [u8; HEAD],
    come: usize,
    /// How many bytes come before the next head.
    skip: usize,
    count: Count,
}

/// What has come since a time.
#[derive(Debug)]
struct Count {
    since: Instant,
    control: u64,
    requests: u64,
    /// Bytes of content that came, and all that left.
    bytes: u64,
}

impl Count {
    fn begin() -> Self {
        Self { since: Instant::now(), control: 0, requests: 0, bytes: 0 }
    }

    fn is_accounted_for(&self) -> bool {
        let seconds = self.since.elapsed().as_secs();
        let allowed = self.requests * FOR_A_REQUEST
            + self.bytes / BYTES_FOR_ONE
            + seconds.saturating_mul(FOR_A_SECOND);
        self.control <= allowed
    }
}

impl Frames {
    fn new() -> Self {
        Self { head: [0; HEAD], come: 0, skip: PREFACE, count: Count::begin() }
    }

    /// Notes what has come. Whether the connection may go on.
    fn note(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                break;
            }
            let (piece, rest) = bytes.split_at((HEAD - self.come).min(bytes.len()));
            self.head[self.come..][..piece.len()].copy_from_slice(piece);
            self.come += piece.len();
            bytes = rest;
            if self.come == HEAD {
                self.come = 0;
                self.begin();
            }
        }
        if self.count.control < MANY {
            return true;
        }
        let may_go_on = self.count.is_accounted_for();
        if may_go_on {
            self.count = Count::begin();
        }
        may_go_on
    }

    /// Notes a frame, whose head has come.
    fn begin(&mut self) {
        let [first, second, third, kind, ..] = self.head;
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
        let why = "a client sends control frames without end and asks for nothing";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)))
    }
}

impl<S: AsyncWrite + Unpin> ControlFrames<S> {
    /// Notes what has left.
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

    /// How many times `round` may come in a row, up to ten times what is looked at at once.
    fn rounds(frames: &mut Frames, round: &[u8]) -> u64 {
        (0..10 * MANY).take_while(|_| frames.note(round)).count() as u64
    }

    #[tokio::test(start_paused = true)]
    async fn control_frames_without_end_are_too_many_and_those_of_requests_and_content_are_not() {
        assert_eq!(rounds(&mut begun(), &frame(PING, 8)), MANY - 1);
        assert_eq!(rounds(&mut begun(), &frame(0xfa, 16_384)), MANY - 1);
        assert_eq!(rounds(&mut begun(), &frame(DATA, 0)), MANY - 1);
        // A request now and then is no excuse.
        let much = [frame(PING, 8).repeat(100), frame(HEADERS, 30)].concat();
        assert_eq!(rounds(&mut begun(), &much), MANY / 100 - 1);
        let request = [frame(HEADERS, 30), frame(PING, 8), frame(WINDOW_UPDATE, 4)].concat();
        assert_eq!(rounds(&mut begun(), &request), 10 * MANY);
        let push = [frame(DATA, 1024), frame(PING, 8)].concat();
        assert_eq!(rounds(&mut begun(), &push), 10 * MANY);
        // A pull: what leaves is written by us.
        let mut frames = begun();
        for _ in 0..10 * MANY {
            frames.count.bytes += 1024;
            assert!(frames.note(&frame(WINDOW_UPDATE, 4).repeat(2)));
        }
        assert!(rounds(&mut frames, &frame(WINDOW_UPDATE, 4)) < 2 * MANY);
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
    async fn frames_are_told_apart_however_they_are_cut() {
        // The content of DATA may look like frames, and must not be read as such.
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
