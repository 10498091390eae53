//! Objects as files below a root directory.
//!
//! An object is written beside its place under a name ending in `.tmp`, which registry:2 skips
//! too, made durable, and renamed into place. Directories are made durable with the entries that
//! they gain or lose; `directories.rs` has the reasons.
//!
//! Limits: the root is one file system (a rename must not cross a border), and on one without
//! `fsync` for directories the promises of [`Storage`] are those of that file system.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Instant, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;

use self::{
    directories::{Directories, sync_directory},
    disk::{Disk, Metadata, Mode, Os},
    fences::{LOCKS, Locks},
    listing::{Listed, Listings},
    object::{FileObject, Readers, read_at},
    remembered::Remembered,
    staging::write_all_at,
};
use super::{
    Durability, Entry, Error, ErrorKind, Holders, Key, Look, Object, Seen, Staging, Storage,
    fences::Fences,
};
use crate::telemetry::operations::{Action, Failure, Operations};

mod directories;
pub mod disk;
mod fences;
mod listing;
mod object;
mod remembered;
mod removal;
mod staging;
mod survey;
pub mod writable;

/// `storage.filesystem`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The root of the tree.
    pub rootdirectory: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self { rootdirectory: PathBuf::from("data") }
    }
}

/// A directory that keeps objects. Clones share it.
#[derive(Clone, Debug)]
pub struct Filesystem(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    directories: Directories,
    remembered: Remembered,
    listings: Listings,
    holders: Listings,
    readers: Readers,
    locks: Locks,
    operations: Arc<Operations>,
}

impl Filesystem {
    /// Opens the root, and makes it when it is not there.
    ///
    /// # Errors
    ///
    /// When it can neither be found nor made, or is not a directory.
    pub fn open(options: &Options) -> io::Result<Self> {
        let root = &options.rootdirectory;
        make_root(root)?;
        Ok(Self::over(Arc::new(Os::new(root.clone())), root.clone()))
    }

    /// Keeps objects below `root`, which is there, and reaches them through `disk`. Only what was
    /// reached so before is looked at again without it.
    #[must_use]
    pub fn over(disk: Arc<dyn Disk>, root: PathBuf) -> Self {
        let directories = Directories::new(Arc::clone(&disk));
        let remembered = Remembered::new();
        let readers = Readers::default();
        let operations = Arc::new(Operations::new("filesystem"));
        Self(Arc::new(Inner {
            root,
            disk,
            directories,
            remembered,
            listings: Listings::new(),
            holders: Listings::new(),
            readers,
            locks: Locks::default(),
            operations,
        }))
    }

    /// Runs `work` on a thread that may block, with the path of `key`, and counts it as an action.
    async fn blocking<T: Send + 'static>(
        &self,
        action: Action,
        verb: &'static str,
        key: &Key,
        work: impl FnOnce(&Inner, &Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let result = if key.is_safe() {
            let inner = Arc::clone(&self.0);
            let path = PathBuf::from(key.as_str());
            counted(&self.0.operations, action, move || work(&inner, &path)).await
        } else {
            Err(io::Error::from(io::ErrorKind::InvalidFilename))
        };
        result.map_err(|source| failed(&self.0.operations, verb, key, source))
    }

    /// Deletes a file, durably; `false` when it was not there.
    async fn delete(&self, key: &Key) -> Result<bool, Error> {
        self.blocking(Action::Delete, "delete", key, |inner, path| {
            if present(inner.disk.remove_file(path))?.is_none() {
                return Ok(false);
            }
            // The folder may have gone with its last file; then its absence is as good.
            present(sync_directory(&*inner.disk, beside(path).0))?;
            Ok(true)
        })
        .await
    }

    /// Deletes a folder and what is in it.
    async fn delete_all(&self, prefix: &Key) -> Result<(), Error> {
        self.blocking(Action::Delete, "delete all below", prefix, |inner, path| {
            inner.directories.forget(path);
            present(inner.remove_all(path)).map(drop)
        })
        .await
    }
}

/// The folder below the root that discarded folders are moved to before they are removed.
const TRASH: &str = "portcullis-trash";

/// Makes the root, which only the user of this process may read, and the missing folders above it,
/// durably. An existing root keeps its mode, because its owner may allow other users to read it.
fn make_root(root: &Path) -> io::Result<()> {
    make_folder(root, 0o700)
}

fn make_folder(root: &Path, mode: u32) -> io::Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    let parent = match root.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    make_folder(parent, 0o777)?;
    match DirBuilder::new().mode(mode).create(root) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && root.is_dir() => {}
        result => result?,
    }
    File::open(parent)?.sync_all()
}

/// Runs `work` on a thread that may block. A panic in it becomes an error here, so that it ends
/// one request and not the server.
async fn run<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) => Err(io::Error::other(stopped)),
    }
}

/// Runs `work` as [`run`] does, and records its duration from here on: the wait for a thread is part of
/// it. The thread records it, because the caller may have gone meanwhile.
async fn counted<T: Send + 'static>(
    operations: &Arc<Operations>,
    action: Action,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let operations = Arc::clone(operations);
    let asked = Instant::now();
    run(move || {
        let result = work();
        operations.done(action, asked.elapsed());
        result
    })
    .await
}

/// Counts a failure, and names the action and the key.
fn failed(operations: &Operations, verb: &'static str, key: &Key, source: io::Error) -> Error {
    let error = Error::new(verb, key, source);
    match error.kind() {
        ErrorKind::NoSpace => operations.failed(Failure::NoSpace),
        ErrorKind::TooManyFiles => operations.failed(Failure::TooManyFiles),
        ErrorKind::Other => operations.failed(Failure::Other),
        // The disk did not fail.
        ErrorKind::TooLong => {}
    }
    error
}

/// Turns the absence of a file into `None`. A path through a file counts as absence too, because other
/// programs may leave a file where this one expects a folder.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A regular file that is open, and how it looked then.
struct OpenFile {
    file: File,
    metadata: Metadata,
}

impl Inner {
    /// Opens a regular file; `None` when the path has no file, or a folder.
    fn open_file(&self, path: &Path) -> io::Result<Option<OpenFile>> {
        let Some(file) = present(self.disk.open(path, Mode::Read))? else {
            return Ok(None);
        };
        let metadata = self.disk.fstat(&file)?;
        Ok(metadata.is_file().then_some(OpenFile { file, metadata }))
    }

    fn write_new(&self, path: &Path, bytes: Bytes, durability: Durability) -> io::Result<()> {
        let file = self.disk.open(path, Mode::CreateNew)?;
        write_all_at(&*self.disk, &file, &[bytes], 0)?;
        match durability {
            Durability::Synced => self.disk.sync(&file),
            Durability::Lazy => Ok(()),
        }
    }
}

#[async_trait]
impl Storage for Filesystem {
    async fn read(&self, key: &Key, limit: usize) -> Result<Option<Bytes>, Error> {
        let Inner { root, remembered, operations, .. } = &*self.0;
        if let Some(bytes) = remembered.content(key, &root.join(key.as_str()))
            && bytes.len() <= limit
        {
            operations.hit();
            return Ok(Some(bytes));
        }
        operations.miss();
        let read = self.blocking(Action::GetContent, "read", key, move |inner, path| {
            let Some(OpenFile { file, metadata }) = inner.open_file(path)? else {
                return Ok(None);
            };
            if metadata.len() > limit as u64 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than it may be"));
            }
            // Another program writes to a file that grows meanwhile; its new bytes are not read.
            let mut bytes = vec![0; usize::try_from(metadata.len()).unwrap_or(limit)];
            let length = read_at(&*inner.disk, &file, 0, &mut bytes)?;
            bytes.truncate(length);
            Ok(Some((metadata.stamp(), Bytes::from(bytes))))
        });
        let Some((stamp, bytes)) = read.await? else {
            return Ok(None);
        };
        remembered.keep(key, stamp, &bytes, SystemTime::now());
        Ok(Some(bytes))
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>, Error> {
        let Inner { root, remembered, operations, .. } = &*self.0;
        if let Some(length) = remembered.length(key, &root.join(key.as_str())) {
            operations.hit();
            return Ok(Some(length));
        }
        operations.miss();
        let looked = self
            .blocking(Action::Stat, "look at", key, |inner, path| present(inner.disk.stat(path)));
        let Some(found) = looked.await?.filter(Metadata::is_file) else { return Ok(None) };
        remembered.saw(key, found.stamp());
        Ok(Some(found.len()))
    }

    async fn open(&self, key: &Key) -> Result<Option<Box<dyn Object>>, Error> {
        let opened = self.blocking(Action::Reader, "open", key, Inner::open_file).await?;
        let object = |opened| FileObject::new(&self.0, key, opened);
        Ok(opened.map(|opened| Box::new(object(opened)) as Box<dyn Object>))
    }

    async fn put(&self, key: &Key, bytes: Bytes, durability: Durability) -> Result<(), Error> {
        self.blocking(Action::PutContent, "write", key, move |inner, path| {
            let (folder, temporary) = beside(path);
            inner.directories.within(folder, durability, || {
                let written = inner
                    .write_new(&temporary, bytes.clone(), durability)
                    .and_then(|()| inner.disk.rename(&temporary, path));
                if written.is_err() {
                    // If this fails too, the name of the file shows that it is incomplete.
                    let _ = inner.disk.remove_file(&temporary);
                }
                written
            })?;
            match durability {
                Durability::Synced => sync_directory(&*inner.disk, folder),
                Durability::Lazy => Ok(()),
            }
        })
        .await
    }

    fn operations(&self) -> Option<Arc<Operations>> {
        Some(Arc::clone(&self.0.operations))
    }

    fn staging(&self) -> &dyn Staging {
        self
    }

    fn fences(&self) -> &dyn Fences {
        self
    }

    async fn probe(&self) -> Result<(), Error> {
        let inner = Arc::clone(&self.0);
        let look = move || inner.disk.stat(Path::new(".")).map(drop);
        let operations = &self.0.operations;
        let looked = counted(operations, Action::Stat, look).await;
        looked.map_err(|source| failed(operations, "look at", &Key::new(".".to_owned()), source))
    }

    async fn relocate(&self, from: &Key, to: &Key) -> Result<(), Error> {
        if !from.is_safe() {
            let source = io::ErrorKind::InvalidFilename.into();
            return Err(failed(&self.0.operations, "rename", from, source));
        }
        let from = PathBuf::from(from.as_str());
        self.blocking(Action::Move, "rename a file to", to, move |inner, to| {
            let (folder, _) = beside(to);
            inner
                .directories
                .within(folder, Durability::Synced, || inner.disk.rename(&from, to))?;
            sync_directory(&*inner.disk, folder)
        })
        .await
    }

    async fn free(&self) -> Result<Option<u64>, Error> {
        let inner = Arc::clone(&self.0);
        let look = move || inner.disk.free().map(Some);
        let looked = counted(&self.0.operations, Action::Stat, look).await;
        let operations = &self.0.operations;
        looked.map_err(|source| failed(operations, "look at", &Key::new(".".to_owned()), source))
    }

    async fn modified(&self, key: &Key) -> Result<Option<SystemTime>, Error> {
        let looked = self
            .blocking(Action::Stat, "look at", key, |inner, path| present(inner.disk.stat(path)));
        Ok(looked.await?.filter(Metadata::is_file).map(|found| found.modified()))
    }

    async fn renew(&self, key: &Key) -> Result<bool, Error> {
        let renewed = self.blocking(Action::PutContent, "renew", key, |inner, path| {
            present(inner.disk.renew(path))
        });
        Ok(renewed.await?.is_some())
    }

    async fn time(&self) -> Result<SystemTime, Error> {
        let clock = Key::new(format!("{LOCKS}/clock"));
        self.blocking(Action::Stat, "look at", &clock, |inner, path| {
            // Makes the file when it is missing, as for every lock file.
            drop(inner.disk.lock(path, false)?);
            Ok(inner.disk.renew(path)?.modified())
        })
        .await
    }

    async fn survey(&self, looks: Vec<Look>) -> Result<Vec<Vec<Seen>>, Error> {
        let Some(first) = looks.first() else { return Ok(Vec::new()) };
        let first = first.folder.clone();
        self.blocking(Action::List, "survey", &first, move |inner, _| {
            looks.iter().map(|look| survey::look(&*inner.disk, look)).collect()
        })
        .await
    }

    async fn list(
        &self,
        prefix: &Key,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let Inner { root, listings, operations, .. } = &*self.0;
        if let Some(page) = listings.page(prefix, &root.join(prefix.as_str()), after, limit) {
            operations.hit();
            return Ok(page);
        }
        operations.miss();
        let behind = after.map(str::to_owned);
        let listed = self.blocking(Action::List, "list", prefix, move |inner, path| {
            listing::read(&*inner.disk, path, behind.as_deref(), limit)
        });
        Ok(match listed.await? {
            None => Vec::new(),
            Some(Listed::Page(page)) => page,
            Some(Listed::All(all)) => {
                let page = all.page(after, limit);
                listings.keep(prefix, all, SystemTime::now());
                page
            }
        })
    }

    async fn list_holders(
        &self,
        prefix: &Key,
        object: &'static str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Holders, Error> {
        let Inner { root, holders, operations, .. } = &*self.0;
        let key = prefix.child(object);
        let found = |page: Vec<Entry>, objects| {
            let names = page.into_iter().map(|entry| entry.name).collect();
            Holders { names, objects }
        };
        // Only folders in which every entry is a holder are kept.
        if let Some(page) = holders.page(&key, &root.join(prefix.as_str()), after, limit) {
            operations.hit();
            return Ok(found(page, 0));
        }
        operations.miss();
        let behind = after.map(str::to_owned);
        let listed = self.blocking(Action::List, "list", prefix, move |inner, path| {
            listing::read_holders(&*inner.disk, path, object, behind.as_deref(), limit)
        });
        Ok(match listed.await? {
            None => Holders::default(),
            Some((Listed::Page(page), files)) => found(page, files),
            Some((Listed::All(all), files)) => {
                let page = all.page(after, limit);
                holders.keep(&key, all, SystemTime::now());
                found(page, files)
            }
        })
    }
}

/// The folder of a file, and an unused name in it for a temporary file.
fn beside(path: &Path) -> (&Path, PathBuf) {
    let folder = path.parent().unwrap_or(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    (folder, folder.join(format!("{name}.{}.tmp", uuid::Uuid::new_v4())))
}

#[cfg(test)]
mod tests;
