//! Reading a file from end to end or in part.

use std::{
    fs::File,
    io, mem,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::task::JoinHandle;

use super::{Disk, Inner, OpenFile, failed};
use crate::{
    storage::{ByteStream, Key, Object},
    telemetry::operations::Operations,
};

/// How much is read at once where the disk must be waited for and few read. Less costs a hop
/// between threads too often.
const PIECE: usize = 256 * 1024;

/// How much is read at once when many read, and from the page cache. Measured with TLS behind it:
/// more falls out of the processor's cache before it is encrypted.
const SMALL_PIECE: usize = 32 * 1024;

/// "Many": together they would hold more than 16 MiB in pieces of the usual size.
const MANY: usize = 64;

/// How many pieces are read ahead once one was not in the page cache: now and then one is not in a
/// file that else is.
const AHEAD: u32 = 8;

/// How many bytes of unused buffers are kept of either size.
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

    /// An empty piece with room for `size` bytes, one of the two sizes.
    fn piece(&self, size: usize) -> Piece {
        let idle = self.0.idle(size).pop();
        let buffer = idle.unwrap_or_else(|| vec![0; size].into());
        Piece { buffer, length: 0, readers: self.clone() }
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

#[derive(Clone, Debug)]
pub(super) struct FileObject {
    disk: Arc<dyn Disk>,
    file: Arc<File>,
    size: u64,
    key: Key,
    readers: Readers,
    operations: Arc<Operations>,
}

impl FileObject {
    /// The object of an open file.
    pub(super) fn new(
        filesystem: &Inner,
        key: &Key,
        OpenFile { file, metadata }: OpenFile,
    ) -> Self {
        Self {
            disk: Arc::clone(&filesystem.disk),
            file: Arc::new(file),
            size: metadata.len(),
            key: key.clone(),
            readers: filesystem.readers.clone(),
            operations: Arc::clone(&filesystem.operations),
        }
    }
}

impl Object for FileObject {
    fn size(&self) -> u64 {
        self.size
    }

    fn stream(self: Box<Self>, range: Range<u64>) -> ByteStream {
        let Self { disk, file, key, readers, operations, .. } = *self;
        stream::try_unfold(Reader::new(disk, file, range, readers), Reader::next)
            .map(move |piece| piece.map_err(|source| failed(&operations, "read", &key, source)))
            .boxed()
    }

    fn again(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }
}

/// Reads pieces that are in the page cache on the thread of the caller. A thread that may block reads
/// a piece that is not, and for the next [`AHEAD`] pieces each piece while the one before it is on its
/// way to the client, unless so many readers are active that memory is better spent otherwise.
struct Reader {
    disk: Arc<dyn Disk>,
    file: Arc<File>,
    rest: Range<u64>,
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
    /// So many pieces more will be read ahead before the page cache is asked again.
    to_wait_for: u32,
    readers: Readers,
}

impl Reader {
    fn new(disk: Arc<dyn Disk>, file: Arc<File>, rest: Range<u64>, readers: Readers) -> Self {
        readers.0.count.fetch_add(1, Ordering::Relaxed);
        Self { disk, file, rest, ahead: None, to_wait_for: 0, readers }
    }

    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let reading = match self.ahead.take() {
            Some(reading) => reading,
            None if self.rest.is_empty() => return Ok(None),
            None => match self.cached() {
                Some(piece) => return Ok(Some((piece, self))),
                None => {
                    self.to_wait_for = AHEAD;
                    self.start()
                }
            },
        };
        let piece = reading.await.map_err(io::Error::other)??;
        if self.to_wait_for > 0 && !self.rest.is_empty() && !self.readers.are_many() {
            self.to_wait_for -= 1;
            self.ahead = Some(self.start());
        }
        Ok(Some((piece, self)))
    }

    /// As much of the next piece as the page cache has. `None` when it has nothing, or when the file
    /// system cannot tell.
    fn cached(&mut self) -> Option<Bytes> {
        let mut piece = self.readers.piece(SMALL_PIECE);
        let length = self.length(&piece);
        let buffer = &mut piece.buffer[..length];
        // An error, too, is left to the read that waits.
        let read = self.disk.read(&self.file, self.rest.start, buffer, false);
        piece.length = read.ok().filter(|&read| read > 0)?;
        self.rest.start += piece.length as u64;
        Some(Bytes::from_owner(piece))
    }

    /// Starts to read the next piece, of which there must be one.
    fn start(&mut self) -> JoinHandle<io::Result<Bytes>> {
        let size = if self.readers.are_many() { SMALL_PIECE } else { PIECE };
        let mut piece = self.readers.piece(size);
        let disk = Arc::clone(&self.disk);
        let file = Arc::clone(&self.file);
        let offset = self.rest.start;
        piece.length = self.length(&piece);
        self.rest.start += piece.length as u64;
        tokio::task::spawn_blocking(move || {
            // A file that has become shorter is an error, not an end: the length was promised.
            if read_at(&*disk, &file, offset, &mut piece.buffer[..piece.length])? < piece.length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Bytes::from_owner(piece))
        })
    }

    /// How much of what is left goes into `piece`.
    fn length(&self, piece: &Piece) -> usize {
        let rest = usize::try_from(self.rest.end - self.rest.start).unwrap_or(usize::MAX);
        rest.min(piece.buffer.len())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let shared = &self.readers.0;
        // The next reader may come much later, so the last one frees the buffers.
        if shared.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            for size in [PIECE, SMALL_PIECE] {
                drop(mem::take(&mut *shared.idle(size)));
            }
        }
    }
}

/// Fills `buffer` from `offset` on, as far as the file goes, and says how far that was.
pub(super) fn read_at(
    disk: &dyn Disk,
    file: &File,
    offset: u64,
    buffer: &mut [u8],
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match disk.read(file, offset + filled as u64, &mut buffer[filled..], true) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
