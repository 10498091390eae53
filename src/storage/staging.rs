//! Objects on their way in: bytes that arrive piece by piece, and get a name at the end.
//!
//! A *staged* object lies at a key of its own until it is [committed](Staged::commit) under its name.
//! It survives the process that stages it, so that another one can go on with it. Beside its bytes it
//! has *notes*: small texts by name, which the caller writes and reads and the backend only keeps.
//!
//! Two writers of one staged object at a time are the caller's fault. A repository may be deleted with what is
//! staged below it at any time. A backend whose [fences](super::fences) are locks keeps that out while
//! the caller is inside; one without locks does each of [`begin`](Staging::begin),
//! [`resume`](Staging::resume), [`rest`](Staged::rest) and [`commit`](Staged::commit) at once.

use std::{fmt, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Durability, Error, Key, Object};

/// The note that every staged object is begun with. One that has this note and no bytes has the
/// length 0.
pub const STARTED_AT: &str = "startedat";

/// A note beside the bytes of a staged object.
#[derive(Clone, Debug)]
pub struct Note {
    /// Its name: a segment of a key.
    pub name: &'static str,
    /// What it says.
    pub text: Bytes,
}

/// Where objects are staged. `at` is the key of a staged object in every method.
#[async_trait]
pub trait Staging: fmt::Debug + Send + Sync + 'static {
    /// Writes notes, and so begins the object when it is not there. A power cut may undo it.
    async fn begin(&self, at: &Key, notes: Vec<Note>) -> Result<(), Error>;

    /// The content of a note; `None` when the note is absent. A power cut may have emptied it or cut
    /// it off.
    ///
    /// # Errors
    ///
    /// Besides failures of the backend: when it is longer than `limit` bytes.
    async fn note(
        &self,
        at: &Key,
        name: &'static str,
        limit: usize,
    ) -> Result<Option<Bytes>, Error>;

    /// Deletes a note, durably.
    async fn delete_note(&self, at: &Key, name: &'static str) -> Result<(), Error>;

    /// How many bytes have arrived; `None` when the object was not begun, or has gone.
    async fn length(&self, at: &Key) -> Result<Option<u64>, Error>;

    /// When bytes arrived last, by the clock of the [storage](super::Storage::time); `None` when
    /// none have.
    async fn written(&self, at: &Key) -> Result<Option<SystemTime>, Error>;

    /// Whether anything is left at the key, be it only a note.
    async fn exists(&self, at: &Key) -> Result<bool, Error>;

    /// The last segments of the keys directly below `folder` at which objects are staged and that
    /// are greater than `after`: the least `limit` of them, in the order of their bytes.
    async fn list(
        &self,
        folder: &Key,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Error>;

    /// Opens the bytes that have arrived for reading.
    async fn open(&self, at: &Key) -> Result<Option<Box<dyn Object>>, Error>;

    /// Goes on with an object where it ended; `None` when it was not begun, or has gone.
    async fn resume(&self, at: &Key) -> Result<Option<Box<dyn Staged>>, Error>;

    /// Removes what a [commit](Staged::commit) leaves of an object: its notes. Not atomic.
    async fn clear(&self, at: &Key) -> Result<(), Error>;

    /// Removes an object with its notes, and what the backend has of the keys above it below `top`
    /// as far as nothing else is below them. After [`Durability::Synced`] no power cut brings it back.
    async fn abort(&self, at: &Key, top: &Key, durability: Durability) -> Result<(), Error>;
}

/// Bytes that are written at the end of what has arrived.
#[async_trait]
pub trait Appender: fmt::Debug + Send {
    /// How many bytes have arrived.
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

    /// Cuts the object off at `length`, which is at most the position and at least what it was when
    /// the object was resumed.
    async fn truncate(&mut self, length: u64) -> Result<(), Error>;

    /// Makes the bytes that were written durable.
    ///
    /// # Errors
    ///
    /// When they are not: then no later call makes them so, for the system may have dropped them
    /// and says so once. The caller must not rely on what the object has.
    async fn sync(&mut self) -> Result<(), Error>;
}

/// A staged object that was [resumed](Staging::resume), and the two ends of writing to it.
#[async_trait]
pub trait Staged: Appender {
    /// Writes notes about what has arrived, and leaves the object for the caller who resumes it
    /// next; `false` when it has gone, and then writes nothing. A power cut may undo it.
    async fn rest(&mut self, notes: Vec<Note>) -> Result<bool, Error>;

    /// Gives the bytes the name `to`, durably, and replaces what was there; `false` when the object
    /// has gone. A reader of the replaced object reads on. A backend whose fences are locks makes the
    /// object at `to` [modified](super::Storage::modified) no earlier than this call began; over one
    /// without locks the validation of the entry tells a collection of it. The caller has called
    /// [`sync`](Appender::sync) and holds an [entry](super::fences::Entered) that names `to`.
    async fn commit(&mut self, to: &Key) -> Result<bool, Error>;
}
