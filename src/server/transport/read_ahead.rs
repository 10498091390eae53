//! Read-ahead below TLS.
//!
//! rustls reads 4 KiB at a time, which takes four or five system calls for each record of a push. So
//! when a client sends much, this wrapper reads large pieces from the socket into a buffer, from which
//! rustls reads. A connection whose client sends little has no buffer, and copies nothing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::delegate_write::delegate_write;

/// The size of the buffer: four full TLS records (RFC 8446 §5.2).
const AHEAD: usize = 64 * 1024;

/// A read of at most this many bytes ends read-ahead.
const LITTLE: usize = 4 * 1024;

/// A socket with read-ahead.
#[derive(Debug)]
pub(in crate::server) struct ReadAhead<S> {
    stream: S,
    /// The bytes read ahead. An empty buffer is freed when the socket has no data.
    buffer: BytesMut,
    /// Whether the next read from the socket reads ahead.
    much: bool,
}

impl<S> ReadAhead<S> {
    pub(in crate::server) fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new(), much: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, buffer, much } = &mut *self;
        if buffer.is_empty() && !*much {
            *buffer = BytesMut::new();
            let room = buf.remaining();
            ready!(Pin::new(stream).poll_read(cx, buf))?;
            // The read has filled the caller's buffer, so the socket may have more.
            *much = room >= LITTLE && buf.remaining() == 0;
            return Poll::Ready(Ok(()));
        }
        if buffer.is_empty() {
            buffer.reserve(AHEAD);
            let read = poll_read_buf(Pin::new(stream), cx, buffer);
            if buffer.is_empty() {
                // The next data may take long to arrive, so the buffer is freed.
                *buffer = BytesMut::new();
            }
            *much = ready!(read)? > LITTLE;
        }
        let length = buffer.len().min(buf.remaining());
        buf.put_slice(&buffer[..length]);
        buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

delegate_write!(ReadAhead);

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, task::Waker};

    use super::*;

    /// A client that sends these pieces and pauses between them. Records the size of each read.
    #[derive(Default)]
    struct Client {
        pieces: VecDeque<Vec<u8>>,
        asked: Vec<usize>,
    }

    impl AsyncRead for Client {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.asked.push(buf.remaining());
            let Some(piece) = self.pieces.front_mut() else { return Poll::Ready(Ok(())) };
            if piece.is_empty() {
                self.pieces.pop_front();
                return Poll::Pending;
            }
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&std::mem::replace(piece, rest));
            Poll::Ready(Ok(()))
        }
    }

    /// The bytes of `ahead` up to the next pause, read 4 KiB at a time as rustls does.
    fn taken(ahead: &mut ReadAhead<Client>) -> Vec<u8> {
        let mut all = Vec::new();
        let mut piece = [0; LITTLE];
        loop {
            let mut buf = ReadBuf::new(&mut piece);
            let read =
                Pin::new(&mut *ahead).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf);
            if read.is_pending() || buf.filled().is_empty() {
                return all;
            }
            all.extend_from_slice(buf.filled());
        }
    }

    fn numbers(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn client_that_sends_much_is_read_ahead_and_no_byte_is_lost() {
        let pieces = [300_000, 20_000, 100, 70_000, 4096, 1].map(numbers);
        let mut ahead =
            ReadAhead::new(Client { pieces: pieces.clone().into(), ..Client::default() });
        for piece in &pieces {
            assert!(taken(&mut ahead) == *piece);
            assert_eq!(ahead.buffer.capacity(), 0, "an idle client has no buffer");
        }
        assert!(taken(&mut ahead).is_empty());
        let large = ahead.stream.asked.iter().filter(|asked| **asked >= AHEAD).count();
        assert!(large >= 6, "{:?}", ahead.stream.asked);
        assert!(ahead.stream.asked.len() < 25, "{:?}", ahead.stream.asked);
    }

    #[test]
    fn client_that_sends_little_is_not_read_ahead() {
        let pieces = [500, 4000, 1, 300].map(numbers);
        let mut ahead =
            ReadAhead::new(Client { pieces: pieces.clone().into(), ..Client::default() });
        for piece in &pieces {
            assert!(taken(&mut ahead) == *piece);
        }
        assert!(ahead.stream.asked.iter().all(|asked| *asked == LITTLE));
    }
}
