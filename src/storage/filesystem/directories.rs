//! Directories that exist and survive a power cut.
//!
//! A new directory is an entry of its parent, and a power cut removes it unless the parent is synced. A
//! sync by the thread that makes the directory is not enough: another thread may find the directory,
//! write into it and acknowledge before that sync, and a process killed before the sync leaves a
//! directory that no later process would sync. So this process remembers which directories it knows to
//! be durable, and syncs the parents of all others.
//!
//! One thread may remove an empty directory while another is about to write into it. Threads of this
//! process exclude each other: a directory in use, and those above it, are not removed. Another process
//! may still remove it, and then this process makes it again.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::disk::{Disk, Mode};
use crate::storage::Durability;

/// More names than this are not remembered. A forgotten one costs a sync, nothing else.
const MAX_KNOWN: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Directories {
    disk: Arc<dyn Disk>,
    /// Directories whose entries, and those of all their parents, are durable.
    known: Mutex<HashSet<PathBuf>>,
    /// How many times something was forgotten.
    forgotten: AtomicU64,
    /// Where work goes on: as many as there are threads that write.
    in_use: Mutex<Vec<PathBuf>>,
}

/// Keeps a directory, and those above it, from being removed as empty.
struct InUse<'a> {
    directories: &'a Directories,
    folder: &'a Path,
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        let mut all = self.directories.in_use();
        if let Some(at) = all.iter().position(|folder| folder == self.folder) {
            all.swap_remove(at);
        }
    }
}

impl Directories {
    /// Below the root, which is taken as given: it is never made here, so that a volume that is not mounted is an
    /// error and not a new, empty registry on the disk below.
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            known: Mutex::default(),
            forgotten: AtomicU64::new(0),
            in_use: Mutex::default(),
        }
    }

    /// Does `work` in a folder that exists, and that is durable where the work must be. When another
    /// process has removed the folder, or one above it, makes it again and does the work again.
    pub(super) fn within<T>(
        &self,
        folder: &Path,
        durability: Durability,
        work: impl Fn() -> io::Result<T>,
    ) -> io::Result<T> {
        let attempt = || {
            if durability == Durability::Lazy {
                self.make(folder)?;
                return work();
            }
            let forgotten = self.forgotten.load(Ordering::Acquire);
            self.make_durable(folder)?;
            let done = work()?;
            // A thread has removed the folder since it was known, and another may have made it again and
            // not have synced it yet.
            if self.forgotten.load(Ordering::Acquire) != forgotten {
                self.make_durable(folder)?;
            }
            Ok(done)
        };
        self.in_use().push(folder.to_owned());
        let _in_use = InUse { directories: self, folder };
        for _ in 0..3 {
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // The folders above it may have gone too.
                    self.drop_known(|known| folder.starts_with(known));
                    self.forget(folder);
                }
                result => return result,
            }
        }
        attempt()
    }

    /// Removes a directory if it is empty and no thread of this process works in it or below it. Returns
    /// whether the directory is absent now.
    pub(super) fn remove_empty(&self, folder: &Path) -> io::Result<bool> {
        // Held over the call, so that no thread begins to work there between the check and the removal.
        // The call does not wait for the disk: the system removes an empty directory in memory.
        let in_use = self.in_use();
        if in_use.iter().any(|used| used.starts_with(folder)) {
            return Ok(false);
        }
        match self.disk.remove_dir(folder) {
            Ok(()) => {}
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound => {}
                // Others may have put a link here, or mounted something.
                io::ErrorKind::DirectoryNotEmpty
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::ResourceBusy => return Ok(false),
                _ => return Err(error),
            },
        }
        // It was empty, so the directories below it have been forgotten before, or the next thread that
        // works there finds them missing.
        if self.known().remove(folder) {
            self.forgotten.fetch_add(1, Ordering::Release);
        }
        Ok(true)
    }

    /// Drops what is known of a folder and of everything below it.
    pub(super) fn forget(&self, folder: &Path) {
        self.drop_known(|known| known.starts_with(folder));
    }

    fn drop_known(&self, is_dropped: impl Fn(&Path) -> bool) {
        let mut all = self.known();
        let before = all.len();
        all.retain(|known| !is_dropped(known));
        if all.len() < before {
            self.forgotten.fetch_add(1, Ordering::Release);
        }
    }

    fn make_durable(&self, folder: &Path) -> io::Result<()> {
        if self.is_known(folder) {
            return Ok(());
        }
        let parent = parent(folder)?;
        self.make_durable(parent)?;
        self.create(folder)?;
        sync_directory(&*self.disk, parent)?;
        let mut known = self.known();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(folder.to_owned());
        Ok(())
    }

    fn make(&self, folder: &Path) -> io::Result<()> {
        if self.is_known(folder) {
            return Ok(());
        }
        match self.create(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make(parent(folder)?)?;
                self.create(folder)
            }
            result => result,
        }
    }

    fn create(&self, folder: &Path) -> io::Result<()> {
        match self.disk.create_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    fn is_known(&self, folder: &Path) -> bool {
        folder == Path::new("") || self.known().contains(folder)
    }

    fn in_use(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parent(folder: &Path) -> io::Result<&Path> {
    folder.parent().ok_or_else(|| io::ErrorKind::InvalidFilename.into())
}

/// Makes the entries of a directory durable.
pub(super) fn sync_directory(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    // The root has no name below itself.
    let path = if path == Path::new("") { Path::new(".") } else { path };
    disk.sync(&disk.open(path, Mode::Read)?)
}
