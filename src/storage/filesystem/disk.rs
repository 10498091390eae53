//! The system calls of the backend.
//!
//! Every call that can fail, and every call whose order decides what a power cut leaves, goes
//! through [`Disk`], one system call a method. So a test can implement the trait: it counts the
//! calls, fails any of them, or works out what the disk has when the power fails after one.
//! [`Os`] calls the operating system.
//!
//! Paths are relative to the root. No path leads out of the root: a symbolic link that leads out is an
//! error, and a symbolic link that stays within is followed (`openat2`, `RESOLVE_BENEATH`; an operator
//! mounts a disk in place of a link to it).

use std::{
    ffi::OsString,
    fmt,
    fs::{File, TryLockError},
    io::{self, IoSlice, IoSliceMut},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use cap_std::{
    ambient_authority,
    fs::{Dir, MetadataExt as _, OpenOptions, OpenOptionsExt as _},
};
use rustix::{
    fs::{FallocateFlags, OFlags, Timespec, Timestamps, UTIME_NOW, fallocate, futimens},
    io::{Errno, ReadWriteFlags, preadv2, pwritev},
};

use crate::stamp::Stamp;

/// The calls that the backend makes.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Opens a file, or for reading a directory.
    ///
    /// # Errors
    ///
    /// Those of `open`.
    fn open(&self, path: &Path, mode: Mode) -> io::Result<File>;

    /// Looks at a file or a directory.
    ///
    /// # Errors
    ///
    /// Those of `stat`.
    fn stat(&self, path: &Path) -> io::Result<Metadata>;

    /// Looks at an open file.
    ///
    /// # Errors
    ///
    /// Those of `fstat`.
    fn fstat(&self, file: &File) -> io::Result<Metadata>;

    /// Reads up to `buffer.len()` bytes from `offset`. Where `wait` is not set, only what is in
    /// memory.
    ///
    /// # Errors
    ///
    /// Those of `pread`, and of `preadv2` where `wait` is not set.
    fn read(&self, file: &File, offset: u64, buffer: &mut [u8], wait: bool) -> io::Result<usize>;

    /// Writes up to all of `pieces` at `offset`.
    ///
    /// # Errors
    ///
    /// Those of `pwritev`.
    fn write(&self, file: &File, offset: u64, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Makes room for `length` bytes from `offset`; the file is as long as before.
    ///
    /// # Errors
    ///
    /// Those of `fallocate`, but for its absence in the file system, which is no error.
    fn allocate(&self, file: &File, offset: u64, length: u64) -> io::Result<()>;

    /// How many bytes the file system has left for this process.
    ///
    /// # Errors
    ///
    /// Those of `statvfs`.
    fn free(&self) -> io::Result<u64>;

    /// Cuts a file off, with the room that was made for it.
    ///
    /// # Errors
    ///
    /// Those of `ftruncate`.
    fn truncate(&self, file: &File, length: u64) -> io::Result<()>;

    /// Makes the bytes of a file durable, or the entries of a directory.
    ///
    /// # Errors
    ///
    /// Those of `fsync`.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Makes a directory.
    ///
    /// # Errors
    ///
    /// Those of `mkdir`.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// What is in a directory, in no order.
    ///
    /// # Errors
    ///
    /// Those of `open`.
    fn read_dir(&self, path: &Path) -> io::Result<Entries>;

    /// Gives a file another name, in place of what had it.
    ///
    /// # Errors
    ///
    /// Those of `rename`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// Those of `unlink`.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// Those of `rmdir`.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Says that a file was modified just now, and tells how it looks then.
    ///
    /// # Errors
    ///
    /// Those of `open` and `futimens`.
    fn renew(&self, path: &Path) -> io::Result<Metadata>;

    /// Locks a file that serves as a lock only, and makes the file and its folder when they are missing:
    /// exclusively when `alone`, else shared. `None` when another holder excludes this lock. The lock
    /// ends when the file is dropped, or when the process ends.
    ///
    /// # Errors
    ///
    /// Those of `open`, `mkdir` and `flock`.
    fn lock(&self, path: &Path, alone: bool) -> io::Result<Option<File>>;
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To be read.
    Read,
    /// To be written; it is made when it is not there.
    Write,
    /// To be written; it must not be there.
    CreateNew,
}

/// What a file looks like from outside.
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    is_file: bool,
    length: u64,
    stamp: Stamp,
}

impl Metadata {
    /// Whether it is a regular file.
    #[must_use]
    pub const fn is_file(&self) -> bool {
        self.is_file
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.length
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What tells its state from another.
    pub(super) const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// When it was last written, or [renewed](Disk::renew).
    pub(super) fn modified(&self) -> SystemTime {
        let (seconds, nanoseconds) = self.stamp.modified;
        let fraction = Duration::from_nanos(nanoseconds.unsigned_abs());
        let whole = Duration::from_secs(seconds.unsigned_abs());
        // A time before 1970 counts as 1970.
        let since = if seconds < 0 { Duration::ZERO } else { whole + fraction };
        SystemTime::UNIX_EPOCH + since
    }
}

/// What is in a directory.
pub type Entries = Box<dyn Iterator<Item = io::Result<DirEntry>> + Send>;

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: OsString,
    /// Whether it is that of a directory.
    pub is_dir: bool,
}

/// The operating system's files below a root.
///
/// The root is opened for each call: when something else is mounted there, it counts from then on,
/// and nothing keeps it from being unmounted.
#[derive(Clone, Debug)]
pub struct Os {
    root: PathBuf,
}

impl Os {
    /// The files below `root`.
    #[must_use]
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn root(&self) -> io::Result<Dir> {
        Dir::open_ambient_dir(&self.root, ambient_authority())
    }

    /// Opens a lock file, and makes it when it is missing.
    fn lock_file(&self, path: &Path) -> io::Result<File> {
        match self.open(path, Mode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let mut made = false;
        if let Some(folder) = path.parent() {
            made = self.make_folder(folder)?;
        }
        let file = match self.open(path, Mode::CreateNew) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return self.open(path, Mode::Read);
            }
            opened => opened?,
        };
        self.give(&file)?;
        if made && let Some(folder) = path.parent() {
            self.give(&self.open(folder, Mode::Read)?)?;
        }
        Ok(file)
    }

    fn make_folder(&self, folder: &Path) -> io::Result<bool> {
        match self.create_dir(folder) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives what root has made to the owner of the root of the tree: a command that root runs must
    /// not keep the server out.
    fn give(&self, file: &File) -> io::Result<()> {
        let root = self.root()?.dir_metadata()?;
        if rustix::process::geteuid().is_root() && root.uid() != 0 {
            std::os::unix::fs::fchown(file, Some(root.uid()), Some(root.gid()))?;
        }
        Ok(())
    }
}

impl Disk for Os {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<File> {
        let mut options = OpenOptions::new();
        match mode {
            // Opening a pipe must not wait for its writer.
            Mode::Read => options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()),
            Mode::Write => options.write(true).create(true),
            Mode::CreateNew => options.write(true).create_new(true),
        };
        Ok(self.root()?.open_with(path, &options)?.into_std())
    }

    fn stat(&self, path: &Path) -> io::Result<Metadata> {
        let found = self.root()?.metadata(path)?;
        let stamp = Stamp {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        };
        Ok(Metadata { is_file: found.is_file(), length: found.len(), stamp })
    }

    fn fstat(&self, file: &File) -> io::Result<Metadata> {
        let found = file.metadata()?;
        let stamp = Stamp::from(&found);
        Ok(Metadata { is_file: found.is_file(), length: found.len(), stamp })
    }

    fn read(&self, file: &File, offset: u64, buffer: &mut [u8], wait: bool) -> io::Result<usize> {
        let flags = if wait { ReadWriteFlags::empty() } else { ReadWriteFlags::NOWAIT };
        Ok(preadv2(file, &mut [IoSliceMut::new(buffer)], offset, flags)?)
    }

    fn write(&self, file: &File, offset: u64, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(pwritev(file, pieces, offset)?)
    }

    fn allocate(&self, file: &File, offset: u64, length: u64) -> io::Result<()> {
        match fallocate(file, FallocateFlags::KEEP_SIZE, offset, length) {
            // Some file systems cannot.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn free(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.root)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.root()?.create_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Entries> {
        let found = self.root()?.read_dir(path)?;
        Ok(Box::new(found.filter_map(|entry| {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            match entry.file_type() {
                Ok(kind) => Some(Ok(DirEntry { name: entry.file_name(), is_dir: kind.is_dir() })),
                // It is gone already.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => Some(Err(error)),
            }
        })))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let root = self.root()?;
        root.rename(from, &root, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.root()?.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.root()?.remove_dir(path)
    }

    fn renew(&self, path: &Path) -> io::Result<Metadata> {
        let file = self.open(path, Mode::Read)?;
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        futimens(&file, &Timestamps { last_access: now, last_modification: now })?;
        self.fstat(&file)
    }

    fn lock(&self, path: &Path, alone: bool) -> io::Result<Option<File>> {
        let file = self.lock_file(path)?;
        let locked = if alone { file.try_lock() } else { file.try_lock_shared() };
        match locked {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
