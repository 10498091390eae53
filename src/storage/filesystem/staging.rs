//! Staged objects as files: the bytes in `data`, each note in a file of its name, all in the folder
//! that the key names. A commit renames `data`.

use std::{
    fs::File,
    io::{self, IoSlice},
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{Advice, fadvise};

use super::{Disk, Filesystem, Inner, Mode, beside, counted, failed, run};
use crate::{
    storage::{
        Appender, Durability, Error, Key, Note, Object, STARTED_AT, Staged, Staging, Storage,
    },
    telemetry::operations::Action,
};

/// The file of the bytes.
const DATA: &str = "data";

/// After so many bytes the disk is told to begin: the sync at the end then has little left to wait
/// for.
const WRITE_BACK: u64 = 8 * 1024 * 1024;

/// How many pieces Linux takes in one call (`UIO_MAXIOV`).
const MAX_PIECES: usize = 1024;

#[async_trait]
impl Staging for Filesystem {
    async fn begin(&self, at: &Key, notes: Vec<Note>) -> Result<(), Error> {
        for Note { name, text } in notes {
            self.put(&at.child(name), text, Durability::Lazy).await?;
        }
        Ok(())
    }

    async fn note(
        &self,
        at: &Key,
        name: &'static str,
        limit: usize,
    ) -> Result<Option<Bytes>, Error> {
        self.read(&at.child(name), limit).await
    }

    async fn delete_note(&self, at: &Key, name: &'static str) -> Result<(), Error> {
        self.delete(&at.child(name)).await.map(drop)
    }

    async fn length(&self, at: &Key) -> Result<Option<u64>, Error> {
        match self.size(&at.child(DATA)).await? {
            Some(length) => Ok(Some(length)),
            None => Ok(self.size(&at.child(STARTED_AT)).await?.map(|_| 0)),
        }
    }

    async fn written(&self, at: &Key) -> Result<Option<SystemTime>, Error> {
        self.modified(&at.child(DATA)).await
    }

    async fn exists(&self, at: &Key) -> Result<bool, Error> {
        Ok(!Storage::list(self, at, None, 1).await?.is_empty())
    }

    async fn list(
        &self,
        folder: &Key,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        let entries = Storage::list(self, folder, after, limit).await?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    async fn open(&self, at: &Key) -> Result<Option<Box<dyn Object>>, Error> {
        Storage::open(self, &at.child(DATA)).await
    }

    async fn resume(&self, at: &Key) -> Result<Option<Box<dyn Staged>>, Error> {
        if self.length(at).await?.is_none() {
            return Ok(None);
        }
        let data = at.child(DATA);
        let open = self.blocking(Action::Writer, "open", &data, |inner, path| {
            let (folder, _) = beside(path);
            inner.directories.within(folder, Durability::Lazy, || {
                let file = inner.disk.open(path, Mode::Write)?;
                let position = inner.disk.fstat(&file)?.len();
                Ok((file, position))
            })
        });
        let (file, position) = open.await?;
        Ok(Some(Box::new(FileStaged {
            filesystem: self.clone(),
            at: at.clone(),
            data,
            file: Arc::new(file),
            position,
            begun: position,
        })))
    }

    async fn clear(&self, at: &Key) -> Result<(), Error> {
        self.delete_all(at).await
    }

    async fn abort(&self, at: &Key, top: &Key, durability: Durability) -> Result<(), Error> {
        if durability == Durability::Synced {
            for file in [DATA, STARTED_AT] {
                self.delete(&at.child(file)).await?;
            }
        }
        self.delete_all(at).await?;
        let Some(folder) = at.parent() else { return Ok(()) };
        let top = PathBuf::from(top.as_str());
        let verb = "remove empty folders of";
        let prune = move |inner: &Inner, path: &Path| inner.prune_up(path, &top);
        if let Err(error) = self.blocking(Action::Delete, verb, &folder, prune).await {
            // The object has gone; the folders go with the next collection.
            tracing::warn!(%folder, %error, "empty folders of an upload are left over");
        }
        Ok(())
    }
}

#[derive(Debug)]
struct FileStaged {
    filesystem: Filesystem,
    at: Key,
    data: Key,
    file: Arc<File>,
    position: u64,
    /// Up to here the disk was told to begin.
    begun: u64,
}

impl FileStaged {
    /// What a thread that may block needs.
    fn shared(&self) -> (Arc<dyn Disk>, Arc<File>) {
        (Arc::clone(&self.filesystem.0.disk), Arc::clone(&self.file))
    }

    fn error(&self, action: &'static str, source: io::Error) -> Error {
        failed(&self.filesystem.0.operations, action, &self.data, source)
    }
}

#[async_trait]
impl Appender for FileStaged {
    fn position(&self) -> u64 {
        self.position
    }

    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), Error> {
        let (disk, file) = self.shared();
        let position = self.position;
        let mut begun = self.begun;
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
        let disk = Arc::clone(&self.filesystem.0.disk);
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
        let synced =
            counted(&self.filesystem.0.operations, Action::Sync, move || disk.sync(&file)).await;
        synced.map_err(|source| self.error("sync", source))
    }
}

#[async_trait]
impl Staged for FileStaged {
    async fn rest(&mut self, notes: Vec<Note>) -> Result<bool, Error> {
        if let Ok(None) = self.filesystem.length(&self.at).await {
            return Ok(false);
        }
        self.filesystem.begin(&self.at, notes).await?;
        Ok(true)
    }

    async fn commit(&mut self, to: &Key) -> Result<bool, Error> {
        // A collection compares the time of the commit, not the times at which the bytes arrived.
        if !self.filesystem.renew(&self.data).await? {
            return Ok(false);
        }
        self.filesystem.relocate(&self.data, to).await?;
        Ok(true)
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
