//! Writing at the end of a file.

use std::{
    fs::File,
    io::{self, IoSlice},
    num::NonZeroU64,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{Advice, fadvise};

use super::{Disk, counted, failed, run};
use crate::{
    storage::{Appender, Error, Key},
    telemetry::operations::{Action, Operations},
};

/// After so many bytes the disk is told to begin: the sync at the end then has little left to wait
/// for.
const WRITE_BACK: u64 = 8 * 1024 * 1024;

/// How many pieces Linux takes in one call (`UIO_MAXIOV`).
const MAX_PIECES: usize = 1024;

#[derive(Debug)]
pub(super) struct FileAppender {
    disk: Arc<dyn Disk>,
    file: Arc<File>,
    position: u64,
    /// Up to here the disk was told to begin.
    begun: u64,
    key: Key,
    operations: Arc<Operations>,
}

impl FileAppender {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        (file, position): (File, u64),
        key: &Key,
        operations: &Arc<Operations>,
    ) -> Self {
        let (file, key, operations) = (Arc::new(file), key.clone(), Arc::clone(operations));
        Self { disk, file, position, begun: position, key, operations }
    }

    /// What a thread that may block needs.
    fn shared(&self) -> (Arc<dyn Disk>, Arc<File>) {
        (Arc::clone(&self.disk), Arc::clone(&self.file))
    }

    fn error(&self, action: &'static str, source: io::Error) -> Error {
        failed(&self.operations, action, &self.key, source)
    }
}

#[async_trait]
impl Appender for FileAppender {
    fn position(&self) -> u64 {
        self.position
    }

    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), Error> {
        let (disk, file) = self.shared();
        let (position, mut begun) = (self.position, self.begun);
        // Positioned writes: one that failed half-way is overwritten by the next, never joined.
        let written = run(move || {
            let end = write_all_at(&*disk, &file, &pieces, position)?;
            if end - begun >= WRITE_BACK {
                write_back(&file, begun, end);
                begun = end;
            }
            Ok((end, begun))
        });
        (self.position, self.begun) =
            written.await.map_err(|source| self.error("write", source))?;
        Ok(())
    }

    async fn announce(&mut self, length: u64) -> Result<(), Error> {
        let disk = Arc::clone(&self.disk);
        let looked = run(move || match disk.free()? {
            free if free < length => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        });
        looked.await.map_err(|source| self.error("make room for", source))
    }

    async fn reserve(&mut self, length: u64) -> Result<(), Error> {
        let ((disk, file), position) = (self.shared(), self.position);
        let reserved = run(move || disk.allocate(&file, position, length));
        reserved.await.map_err(|source| self.error("make room for", source))
    }

    async fn truncate(&mut self, length: u64) -> Result<(), Error> {
        let (disk, file) = self.shared();
        let cut = run(move || disk.truncate(&file, length)).await;
        cut.map_err(|source| self.error("shorten", source))?;
        self.position = length;
        self.begun = self.begun.min(length);
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), Error> {
        let (disk, file) = self.shared();
        let synced = counted(&self.operations, Action::Sync, move || disk.sync(&file)).await;
        synced.map_err(|source| self.error("sync", source))
    }
}

/// Writes pieces one behind the other and says where they end. In one call if it can be: then Linux
/// takes pages for all of them at once.
pub(super) fn write_all_at(
    disk: &dyn Disk,
    file: &File,
    pieces: &[Bytes],
    mut position: u64,
) -> io::Result<u64> {
    for pieces in pieces.chunks(MAX_PIECES) {
        let pieces = pieces.iter().filter(|piece| !piece.is_empty());
        let mut slices: Vec<_> = pieces.map(|piece| IoSlice::new(piece)).collect();
        let mut slices = slices.as_mut_slice();
        while !slices.is_empty() {
            match disk.write(file, position, slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    position += written as u64;
                    IoSlice::advance_slices(&mut slices, written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(position)
}

/// Starts to write a part of a file to the disk and does not wait for it. Linux does so when it is
/// told that the part will not be needed, as far as that has to be written before it can be
/// forgotten (`generic_fadvise`); what is on its way stays in memory.
fn write_back(file: &File, start: u64, end: u64) {
    // Advice: where it is not taken, the sync at the end does all the work.
    let _ = fadvise(file, start, NonZeroU64::new(end - start), Advice::DontNeed);
}
