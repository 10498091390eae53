//! Reading a file from end to end or in part.

use std::{
    fs::File,
    io, mem,
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::task::JoinHandle;

use crate::storage::{ByteStream, Error, Key, Object};

/// How much is read at once when few read. Measured with TLS behind it: less costs a hop between
/// threads too often, more falls out of the processor's cache before it is encrypted.
const PIECE: usize = 256 * 1024;

/// How much is read at once when many read.
const SMALL_PIECE: usize = 64 * 1024;

/// "Many": together they would hold more than 16 MiB in pieces of the usual size.
const MANY: usize = 64;

/// How many bytes of buffers that nobody uses are kept of either size.
const MAX_IDLE: usize = 8 * 1024 * 1024;

/// The readers of one file system: they share buffers, so that a piece costs neither fresh memory
/// nor the zeroes that come with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Readers(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    count: AtomicUsize,
    large: Mutex<Vec<Box<[u8]>>>,
    small: Mutex<Vec<Box<[u8]>>>,
}

impl Readers {
    /// Whether so many read that memory is better spent on them than on reading ahead.
    fn are_many(&self) -> bool {
        self.0.count.load(Ordering::Relaxed) > MANY
    }

    /// A buffer for a piece.
    fn buffer(&self) -> Box<[u8]> {
        let size = if self.are_many() { SMALL_PIECE } else { PIECE };
        let idle = self.0.idle(size).pop();
        idle.unwrap_or_else(|| vec![0; size].into())
    }
}

impl Shared {
    fn idle(&self, size: usize) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        let buffers = if size == PIECE { &self.large } else { &self.small };
        buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece in a buffer that goes back when the last byte of it has been sent.
struct Piece {
    buffer: Box<[u8]>,
    length: usize,
    readers: Readers,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let buffer = mem::take(&mut self.buffer);
        let mut idle = self.readers.0.idle(buffer.len());
        if idle.len() * buffer.len() < MAX_IDLE {
            idle.push(buffer);
        }
    }
}

#[derive(Debug)]
pub(super) struct FileObject {
    file: Arc<File>,
    size: u64,
    key: Key,
    readers: Readers,
}

impl FileObject {
    pub(super) fn new(file: File, size: u64, key: &Key, readers: &Readers) -> Self {
        Self { file: Arc::new(file), size, key: key.clone(), readers: readers.clone() }
    }
}

impl Object for FileObject {
    fn size(&self) -> u64 {
        self.size
    }

    fn stream(self: Box<Self>, range: Range<u64>) -> ByteStream {
        let Self { file, key, readers, .. } = *self;
        stream::try_unfold(Reader::new(file, range, readers), Reader::next)
            .map(move |piece| piece.map_err(|source| Error::new("read", &key, source)))
            .boxed()
    }
}

/// Reads a piece while the one before it is on its way to the client, unless so many read that
/// memory is better spent otherwise.
struct Reader {
    file: Arc<File>,
    rest: Range<u64>,
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
    readers: Readers,
}

impl Reader {
    fn new(file: Arc<File>, rest: Range<u64>, readers: Readers) -> Self {
        readers.0.count.fetch_add(1, Ordering::Relaxed);
        Self { file, rest, ahead: None, readers }
    }

    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let Some(reading) = self.ahead.take().or_else(|| self.start()) else {
            return Ok(None);
        };
        let piece = reading.await.map_err(io::Error::other)??;
        if !self.readers.are_many() {
            self.ahead = self.start();
        }
        Ok(Some((piece, self)))
    }

    /// Starts to read the next piece; `None` at the end.
    fn start(&mut self) -> Option<JoinHandle<io::Result<Bytes>>> {
        let offset = self.rest.start;
        if self.rest.is_empty() {
            return None;
        }
        let buffer = self.readers.buffer();
        let rest = usize::try_from(self.rest.end - offset).unwrap_or(usize::MAX);
        let length = rest.min(buffer.len());
        self.rest.start += length as u64;
        let file = Arc::clone(&self.file);
        let mut piece = Piece { buffer, length, readers: self.readers.clone() };
        Some(tokio::task::spawn_blocking(move || {
            // A file that has become shorter is an error, not an end: the length was promised.
            file.read_exact_at(&mut piece.buffer[..length], offset)?;
            Ok(Bytes::from_owner(piece))
        }))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let shared = &self.readers.0;
        // The last one leaves no buffers behind that nobody may want for a long time.
        if shared.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            for size in [PIECE, SMALL_PIECE] {
                drop(mem::take(&mut *shared.idle(size)));
            }
        }
    }
}
