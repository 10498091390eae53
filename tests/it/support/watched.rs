//! A disk that a test observes: the test sees each call before and after, and may make it fail.

use std::{
    fmt,
    fs::File,
    io::{self, IoSlice},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use portcullis::storage::filesystem::disk::{Disk, Entries, Metadata, Mode, Os};
use rustix::io::Errno;

/// A call that the backend makes.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    Open(&'a Path),
    Stat,
    Fstat,
    Read { wait: bool },
    Write(&'a File, u64, &'a [IoSlice<'a>]),
    Allocate,
    Truncate(&'a File, u64),
    Sync(&'a File),
    CreateDir(&'a Path),
    ReadDir,
    Rename(&'a Path, &'a Path),
    RemoveFile(&'a Path),
    RemoveDir(&'a Path),
    Renew,
    Lock,
}

/// The fate of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Go,
    /// It fails without an effect.
    Fail(Errno),
    /// A write is short; any other call succeeds.
    Short,
}

/// The result of a successful call.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    File(&'a File),
    Bytes(usize),
    Nothing,
}

/// Watches a disk. Calls come one at a time.
pub trait Watch: fmt::Debug + Send + Sync + 'static {
    fn before(&self, _: Call<'_>) -> Verdict {
        Verdict::Go
    }

    fn after(&self, _: Call<'_>, _: Given<'_>) {}
}

/// The observed files below a root.
#[derive(Debug)]
pub struct Watched<W> {
    os: Os,
    watch: W,
    one: Mutex<()>,
}

impl<W: Watch> Watched<W> {
    pub fn new(root: &Path, watch: W) -> Self {
        Self { os: Os::new(root.to_owned()), watch, one: Mutex::default() }
    }

    pub fn watch(&self) -> &W {
        &self.watch
    }

    /// Makes a call whose result the test observes.
    fn call<T>(
        &self,
        call: Call<'_>,
        work: impl FnOnce(Verdict) -> io::Result<T>,
        given: impl for<'a> Fn(&'a T) -> Given<'a>,
    ) -> io::Result<T> {
        let _one: MutexGuard<'_, ()> = self.one.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = self.watch.before(call);
        if let Verdict::Fail(errno) = verdict {
            return Err(errno.into());
        }
        let result = work(verdict)?;
        self.watch.after(call, given(&result));
        Ok(result)
    }

    fn plain<T>(&self, call: Call<'_>, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.call(call, |_| work(), |_| Given::Nothing)
    }
}

impl<W: Watch> Disk for Watched<W> {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<File> {
        self.call(Call::Open(path), |_| self.os.open(path, mode), |file| Given::File(file))
    }

    fn stat(&self, path: &Path) -> io::Result<Metadata> {
        self.plain(Call::Stat, || self.os.stat(path))
    }

    fn fstat(&self, file: &File) -> io::Result<Metadata> {
        self.plain(Call::Fstat, || self.os.fstat(file))
    }

    fn read(&self, file: &File, offset: u64, buffer: &mut [u8], wait: bool) -> io::Result<usize> {
        self.plain(Call::Read { wait }, || self.os.read(file, offset, buffer, wait))
    }

    fn write(&self, file: &File, offset: u64, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let work = |verdict| match (verdict, pieces) {
            (Verdict::Short, [first, ..]) if first.len() > 1 => {
                self.os.write(file, offset, &[IoSlice::new(&first[..first.len() / 2])])
            }
            _ => self.os.write(file, offset, pieces),
        };
        self.call(Call::Write(file, offset, pieces), work, |written| Given::Bytes(*written))
    }

    fn allocate(&self, file: &File, offset: u64, length: u64) -> io::Result<()> {
        self.plain(Call::Allocate, || self.os.allocate(file, offset, length))
    }

    fn free(&self) -> io::Result<u64> {
        self.plain(Call::Stat, || self.os.free())
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        self.plain(Call::Truncate(file, length), || self.os.truncate(file, length))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.plain(Call::Sync(file), || self.os.sync(file))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.plain(Call::CreateDir(path), || self.os.create_dir(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Entries> {
        self.plain(Call::ReadDir, || self.os.read_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plain(Call::Rename(from, to), || self.os.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.plain(Call::RemoveFile(path), || self.os.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.plain(Call::RemoveDir(path), || self.os.remove_dir(path))
    }

    fn renew(&self, path: &Path) -> io::Result<Metadata> {
        self.plain(Call::Renew, || self.os.renew(path))
    }

    fn lock(&self, path: &Path, alone: bool) -> io::Result<Option<File>> {
        self.plain(Call::Lock, || self.os.lock(path, alone))
    }
}
