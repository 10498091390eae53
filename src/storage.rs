//! Bytes at keys: the boundary that a backend implements.
//!
//! A [`Key`] names an object; a [`Storage`] keeps objects. Nothing here knows what a blob or a
//! manifest is. The author of a backend implements three traits:
//!
//! - [`Storage`]: objects are written whole, read, listed and looked at.
//! - [`Staging`]: bytes arrive piece by piece and get a name at the end. Only here do objects grow.
//! - [`Fences`]: a process that takes objects away waits for processes that rely on
//!   them, or makes these look again. Only here is anything deleted that has its name.
//!
//! Nothing asks for a rename of a folder, for a lock or for an append to an object that has its
//! name, for a store of objects has none of these. The core may be run by several processes over one
//! storage, so what it promises rests on these traits alone, and on nothing that a process keeps in
//! memory.
//!
//! Backends are the [`filesystem`] and, for tests, [`memory`]; both pass the suite in
//! `storage/contract.rs`, and so must any other. A wrapper implements every method, those with
//! defaults as well: `#[deny(clippy::missing_trait_methods)]` says so when it forgets one.

use std::{
    fmt, io,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::telemetry::operations::Operations;

#[cfg(test)]
mod contract;
pub mod fences;
pub mod filesystem;
pub mod memory;
mod staging;

use self::fences::Fences;
pub use self::staging::{Appender, Note, STARTED_AT, Staged, Staging};

/// Which backend keeps the bytes: the one driver named below `storage`.
#[derive(Clone, Debug)]
pub enum Options {
    /// A directory (`storage.filesystem`).
    Filesystem(filesystem::Options),
    /// This process's memory (`storage.inmemory`): for tests, gone when the server stops.
    Memory,
}

impl Default for Options {
    fn default() -> Self {
        Self::Filesystem(filesystem::Options::default())
    }
}

/// The bytes of an object, piece by piece.
pub type ByteStream = BoxStream<'static, Result<Bytes, Error>>;

/// A place that keeps objects.
///
/// What is absent is `None` or `false`, never an error. After a method that is documented as
/// durable has returned, its effect survives a power cut; a reader sees the state before it or the
/// state after it, nothing between.
#[async_trait]
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// The bytes of a small object.
    ///
    /// # Errors
    ///
    /// Besides failures of the backend: when the object is longer than `limit` bytes.
    async fn read(&self, key: &Key, limit: usize) -> Result<Option<Bytes>, Error>;

    /// The length of an object in bytes, without reading it.
    async fn size(&self, key: &Key) -> Result<Option<u64>, Error>;

    /// Opens an object for reading. It can be read to its end even when it is deleted or replaced
    /// meanwhile.
    async fn open(&self, key: &Key) -> Result<Option<Box<dyn Object>>, Error>;

    /// Makes `bytes` the content of an object, whether or not it was there. Readers see the old
    /// content or the new one.
    async fn put(&self, key: &Key, bytes: Bytes, durability: Durability) -> Result<(), Error>;

    /// The operations since the storage was opened; `None` from a backend that counts none, as one in
    /// memory.
    fn operations(&self) -> Option<Arc<Operations>> {
        None
    }

    /// Checks that the storage can be reached.
    async fn probe(&self) -> Result<(), Error>;

    /// The staging area, where objects lie until they get their names.
    fn staging(&self) -> &dyn Staging;

    /// The fences, which keep processes that remove objects apart from processes that rely on them.
    fn fences(&self) -> &dyn Fences;

    /// Gives a durable object the name `to`, durably, and replaces what was there. Not atomic: a
    /// crash may leave the object at both keys.
    async fn relocate(&self, from: &Key, to: &Key) -> Result<(), Error>;

    /// How many bytes can still be stored, where that is known.
    async fn free(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    /// When an object was last written, [committed](Staged::commit) or [renewed](Self::renew). To
    /// relocate it changes nothing.
    async fn modified(&self, key: &Key) -> Result<Option<SystemTime>, Error>;

    /// How long ago an object was last modified, by the clock of this process: not for what has to be
    /// exact.
    async fn age(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let modified = self.modified(key).await?;
        Ok(modified.map(|time| SystemTime::now().duration_since(time).unwrap_or_default()))
    }

    /// Makes now the time when an object was last modified; `false` when it is not there. Every later call
    /// of [`modified`](Self::modified) sees it, in other processes too; a power cut may undo it.
    async fn renew(&self, key: &Key) -> Result<bool, Error>;

    /// What time it is by the clock that objects are stamped with.
    async fn time(&self) -> Result<SystemTime, Error>;

    /// The names directly below a key that are greater than `after`: the least `limit` of them, in
    /// the order of their bytes. What other programs put there under names that are not UTF-8 is
    /// left out.
    async fn list(
        &self,
        prefix: &Key,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>, Error>;

    /// Like [`list`](Self::list), the names below which there is an object at `object`: of
    /// `a/current/link` and `b/c`, the holders of `current/link` are `a`.
    async fn list_holders(
        &self,
        prefix: &Key,
        object: &'static str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Holders, Error>;

    /// The names directly below some keys, in no order, all in one call: for a caller that goes through the
    /// whole storage. Nothing of it enters a cache.
    async fn survey(&self, looks: Vec<Look>) -> Result<Vec<Vec<Seen>>, Error>;
}

/// A key whose names a [survey](Storage::survey) returns.
#[derive(Clone, Debug)]
pub struct Look {
    /// The key.
    pub folder: Key,
    /// Restricts the survey to the names below which this object lies, and asks for its length and time.
    pub object: Option<&'static str>,
}

/// A name that was seen in a [survey](Storage::survey).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// The last segment of the key.
    pub name: String,
    /// Whether there are further keys below it.
    pub is_prefix: bool,
    /// The length in bytes, and the time of the last change, of the object that was asked for.
    pub object: Option<(u64, SystemTime)>,
}

/// An object opened for reading.
pub trait Object: fmt::Debug + Send {
    /// Its length in bytes when it was opened.
    fn size(&self) -> u64;

    /// Streams the bytes of a range that lies within the object. Memory in use does not depend on
    /// the range's length.
    fn stream(self: Box<Self>, range: Range<u64>) -> ByteStream;

    /// The same object, as it was opened, for another [`stream`](Self::stream) of it.
    fn again(&self) -> Box<dyn Object>;
}

/// What [`Storage::list_holders`] has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// The names, in the order of their bytes.
    pub names: Vec<String>,
    /// How many objects lie among the names up to the last of them; an object holds nothing.
    pub objects: usize,
}

/// Whether a write must survive a power cut when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It must.
    Synced,
    /// It need not; its readers cope with it being absent, empty or cut off.
    Lazy,
}

/// A name below a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The last segment of the key.
    pub name: String,
    /// Whether there are further keys below it, rather than an object at it.
    pub is_prefix: bool,
}

/// The name of an object: segments joined by `/`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// A key of these segments.
    #[must_use]
    pub const fn new(path: String) -> Self {
        Self(path)
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A key below this one.
    #[must_use]
    pub fn child(&self, segment: &str) -> Self {
        Self([&self.0, "/", segment].concat())
    }

    /// The key above this one.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// Whether no segment leads elsewhere. Keys are made of parsed names, so a backend that finds
    /// one unsafe refuses it: the caller has a bug.
    fn is_safe(&self) -> bool {
        self.0.split('/').all(|s| !matches!(s, "" | "." | "..")) && !self.0.contains('\0')
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A failure of a backend.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {key}")]
pub struct Error {
    action: &'static str,
    key: String,
    source: io::Error,
}

/// The failures that a caller may tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The disk or the quota is full.
    NoSpace,
    /// An object is longer than its reader takes.
    TooLong,
    /// The process or the system has no file descriptor left.
    TooManyFiles,
    /// Anything else.
    Other,
}

impl Error {
    fn new(action: &'static str, key: &Key, source: io::Error) -> Self {
        Self { action, key: key.to_string(), source }
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        use rustix::io::Errno;
        match self.source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => ErrorKind::NoSpace,
            io::ErrorKind::InvalidData => ErrorKind::TooLong,
            _ => match Errno::from_io_error(&self.source) {
                Some(Errno::MFILE | Errno::NFILE) => ErrorKind::TooManyFiles,
                _ => ErrorKind::Other,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_that_leads_elsewhere_is_unsafe() {
        for path in ["", "/a", "a/", "a//b", "a/../b", "..", "./a", "a\0b"] {
            assert!(!Key::new(path.to_owned()).is_safe(), "{path:?}");
        }
        assert!(Key::new("a/.b/..c/_d".to_owned()).is_safe());
    }
}
