//! Directories that are there and will still be there after a power cut.
//!
//! A new directory is an entry of its parent, and is lost with it unless the parent is synced. It
//! is not enough that whoever makes a directory syncs the parent: another thread may find it,
//! write into it and acknowledge before that sync, and a process killed before the sync leaves a
//! directory that no later process would sync. So what counts is not who made a directory but
//! whether this process knows it to be durable; where it does not know, it syncs.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// More names than this are not remembered. A forgotten one costs a sync, nothing else.
const MAX_KNOWN: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Directories {
    root: PathBuf,
    /// Directories whose entries, and those of all their parents, are durable.
    known: Mutex<HashSet<PathBuf>>,
}

impl Directories {
    /// Takes the root as given: it is never made here, so that a volume that is not mounted is an
    /// error and not a new, empty registry on the disk below.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, known: Mutex::default() }
    }

    /// Does `work` in a folder that is there and durable. When somebody removes the folder in
    /// between, it is made again and the work is done again.
    pub(super) fn within<T>(
        &self,
        folder: &Path,
        work: impl Fn() -> io::Result<T>,
    ) -> io::Result<T> {
        for _ in 0..3 {
            self.ensure(folder)?;
            match work() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.forget(folder),
                result => return result,
            }
        }
        work()
    }

    /// Drops what is known of a folder, of everything below it and of its parents.
    pub(super) fn forget(&self, folder: &Path) {
        self.known().retain(|known| !known.starts_with(folder) && !folder.starts_with(known));
    }

    fn ensure(&self, folder: &Path) -> io::Result<()> {
        if folder == self.root || self.known().contains(folder) {
            return Ok(());
        }
        let Some(parent) = folder.parent() else {
            return Err(io::ErrorKind::InvalidFilename.into());
        };
        self.ensure(parent)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result?,
        }
        sync_directory(parent)?;
        let mut known = self.known();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(folder.to_owned());
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the entries of a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
