//! Bytes at keys.
//!
//! A [`Key`] names an object; a [`Storage`] keeps objects. Nothing here knows what a blob or a
//! manifest is. Backends are the [`filesystem`] and, for tests, [`memory`]; both pass the suite in
//! `storage/contract.rs`, and so must any other.

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
pub mod filesystem;
pub mod memory;

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

    /// What it has done since it was opened, where it counts that: a backend that asks no disk need
    /// not.
    fn operations(&self) -> Option<Arc<Operations>> {
        None
    }

    /// Looks whether the storage can be reached at all.
    async fn probe(&self) -> Result<(), Error>;

    /// Opens an object to write at its end; makes it when it is not there. What
    /// [`Appender::sync`] makes durable is its bytes: the object itself may be gone after a power
    /// cut until it is [promoted](Self::promote).
    ///
    /// Two appenders of one object at a time are the caller's fault.
    async fn append(&self, key: &Key) -> Result<Box<dyn Appender>, Error>;

    /// Gives the object `from` the name `to`, durably, and replaces what was there. Only what
    /// [`Appender::sync`] has made durable may be promoted.
    async fn promote(&self, from: &Key, to: &Key) -> Result<(), Error>;

    /// Deletes an object, durably; `false` when it was not there.
    async fn delete(&self, key: &Key) -> Result<bool, Error>;

    /// Deletes every object below a key. Not atomic: a crash leaves some of them.
    async fn delete_all(&self, prefix: &Key) -> Result<(), Error>;

    /// Deletes every object below each of some names directly below a key, together. A crash before
    /// that is durable leaves some of them.
    async fn delete_below(
        &self,
        prefix: &Key,
        names: Vec<String>,
        durability: Durability,
    ) -> Result<(), Error>;

    /// Takes away every object below a key, durably and, where the backend can, all at once; `false`
    /// when there was nothing.
    async fn discard(&self, prefix: &Key) -> Result<bool, Error>;

    /// Removes what is left of a crash in [`discard`](Self::discard).
    async fn empty_trash(&self) -> Result<(), Error>;

    /// Removes what a backend has of a key, and below it, where there is no object: empty folders.
    async fn prune(&self, prefix: &Key) -> Result<(), Error>;

    /// Removes what a backend has of a key, and of each key above it up to `top`, as far as there is
    /// nothing below them: empty folders. `top` stays. What is written below them meanwhile is
    /// written all the same.
    async fn prune_up(&self, prefix: &Key, top: &Key) -> Result<(), Error>;

    /// How many bytes can still be stored, where that is known.
    async fn free(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    /// When an object was last written, promoted from what was [renewed](Self::renew), or renewed.
    async fn modified(&self, key: &Key) -> Result<Option<SystemTime>, Error>;

    /// How long ago an object was last modified, by the clock of this process: not for what has to be
    /// exact.
    async fn age(&self, key: &Key) -> Result<Option<Duration>, Error>;

    /// Makes now the time when an object was last modified; `false` when it is not there. Whoever
    /// asks for that time later sees it, in other processes too; a power cut may undo it.
    async fn renew(&self, key: &Key) -> Result<bool, Error>;

    /// What time it is by the clock that objects are stamped with.
    async fn time(&self) -> Result<SystemTime, Error>;

    /// Waits until nobody holds `name` in a way that excludes this one, here or in another process:
    /// [`Hold::Alone`] excludes all others. It is held until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// Besides failures of the backend: when somebody else has held it for a minute.
    async fn lock(&self, name: &Key, hold: Hold) -> Result<Held, Error>;

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

    /// What is directly below some keys, in no order, in one go: for whoever goes through all there
    /// is. Nothing of it is remembered for others.
    async fn survey(&self, looks: Vec<Look>) -> Result<Vec<Vec<Seen>>, Error>;
}

/// How something is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Together with others who hold it so.
    Shared,
    /// By nobody else.
    Alone,
}

/// What is held until this is dropped.
#[derive(Debug)]
pub struct Held(
    #[expect(dead_code, reason = "what counts is when it is dropped")]
    Box<dyn fmt::Debug + Send + Sync>,
);

impl Held {
    /// What gives it back when it is dropped.
    fn new(guard: impl fmt::Debug + Send + Sync + 'static) -> Self {
        Self(Box::new(guard))
    }
}

/// What is to be looked at in a [survey](Storage::survey).
#[derive(Clone, Debug)]
pub struct Look {
    /// The key below which.
    pub folder: Key,
    /// Only the names below which there is this object; its length and time are told.
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

/// An object opened for writing at its end.
#[async_trait]
pub trait Appender: fmt::Debug + Send {
    /// The length of the object so far, in bytes.
    fn position(&self) -> u64;

    /// Writes `pieces` one behind the other.
    ///
    /// # Errors
    ///
    /// When they could not all be written. The position then tells what is known to be there, and
    /// the next write goes there.
    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), Error>;

    /// Says that `length` bytes may follow.
    ///
    /// # Errors
    ///
    /// When they are more than the backend can take. Nothing has changed in either case.
    async fn announce(&mut self, _length: u64) -> Result<(), Error> {
        Ok(())
    }

    /// Says that about `length` bytes will follow, so that there is room for them. What of it is
    /// not used is given back by [`Appender::truncate`], or when the object goes.
    ///
    /// # Errors
    ///
    /// When there is no room; then nothing has changed.
    async fn reserve(&mut self, length: u64) -> Result<(), Error>;

    /// Cuts the object off at `length`, which is at most the position.
    async fn truncate(&mut self, length: u64) -> Result<(), Error>;

    /// Makes the bytes that were written durable.
    ///
    /// # Errors
    ///
    /// When they are not: then no later call makes them so, for the system may have dropped them
    /// and says so once. What the object has is not to be relied on.
    async fn sync(&mut self) -> Result<(), Error>;
}

/// What [`Storage::list_holders`] has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// The names, in the order of their bytes.
    pub names: Vec<String>,
    /// How many objects, which hold nothing, were come across on the way to the last of them.
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
        Self(format!("{}/{segment}", self.0))
    }

    /// Whether no segment leads elsewhere. Keys are made of parsed names, so a backend that finds
    /// one unsafe refuses it as a fault of ours.
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

/// Why the backend could not do what it was asked to.
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
    fn a_key_that_leads_elsewhere_is_unsafe() {
        for path in ["", "/a", "a/", "a//b", "a/../b", "..", "./a", "a\0b"] {
            assert!(!Key::new(path.to_owned()).is_safe(), "{path:?}");
        }
        assert!(Key::new("a/.b/..c/_d".to_owned()).is_safe());
    }
}
