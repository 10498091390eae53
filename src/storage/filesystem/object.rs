//! Reading a file from end to end or in part.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::task::JoinHandle;

use crate::storage::{ByteStream, Error, Key, Object};

/// How much is read at once. Measured with TLS behind it: less costs a hop between threads too
/// often, more falls out of the processor's cache before it is encrypted.
const PIECE: u64 = 256 * 1024;

#[derive(Debug)]
pub(super) struct FileObject {
    file: Arc<File>,
    size: u64,
    key: Key,
}

impl FileObject {
    pub(super) fn new(file: File, size: u64, key: &Key) -> Self {
        Self { file: Arc::new(file), size, key: key.clone() }
    }
}

impl Object for FileObject {
    fn size(&self) -> u64 {
        self.size
    }

    fn stream(self: Box<Self>, range: Range<u64>) -> ByteStream {
        let Self { file, key, .. } = *self;
        let reader = Reader { file, rest: range, ahead: None };
        stream::try_unfold(reader, Reader::next)
            .map(move |piece| piece.map_err(|source| Error::new("read", &key, source)))
            .boxed()
    }
}

/// Reads a piece while the one before it is on its way to the client.
struct Reader {
    file: Arc<File>,
    rest: Range<u64>,
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Reader {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let Some(reading) = self.ahead.take().or_else(|| self.start()) else {
            return Ok(None);
        };
        let piece = reading.await.map_err(io::Error::other)??;
        self.ahead = self.start();
        Ok(Some((piece, self)))
    }

    /// Starts to read the next piece; `None` at the end.
    fn start(&mut self) -> Option<JoinHandle<io::Result<Bytes>>> {
        let offset = self.rest.start;
        let length = usize::try_from((self.rest.end - offset).min(PIECE)).ok()?;
        if length == 0 {
            return None;
        }
        self.rest.start += length as u64;
        let file = Arc::clone(&self.file);
        Some(tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; length];
            // A file that has become shorter is an error, not an end: the length was promised.
            file.read_exact_at(&mut piece, offset)?;
            Ok(piece.into())
        }))
    }
}
