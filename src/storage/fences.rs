//! Fences: they keep processes that take objects away apart from processes that rely on objects.
//!
//! Two kinds of things are fenced. A *repository* is a key with what lies below it. *Bytes* are an
//! object to which keys in any repository may lead.
//!
//! - A process that relies on something [enters](Fences::enter), verifies, writes, and then
//!   [validates](Entered::validate). Only when that says [`Validity::Valid`] may it tell a client that
//!   its work is done; else it begins again. This is the read, write and validate of optimistic
//!   concurrency control. A backend with locks keeps others out from the entry on and always
//!   validates; a backend without them looks again.
//! - A process that takes something away from a repository [closes](Fences::close) its fence, looks,
//!   and deletes through what that returns. While a fence is closed, nothing validates that entered
//!   before, and nothing enters.
//! - A garbage collection [begins a run](Fences::begin_run), looks through all repositories, and then
//!   takes bytes away [stripe](Stripe) by stripe. Bytes that anything came to rely on since the run
//!   began are younger than [`Run::began`], or [`Sweep::is_relied_on`] says so.
//!
//! A process that needs the fence of a repository and of bytes takes that of the repository first,
//! and a sweep closes one fence at a time: no two processes wait for each other.

use std::{fmt, time::SystemTime};

use async_trait::async_trait;

use super::{Durability, Error, Key};

/// The number of stripes. All processes that share a storage use the same number.
pub const STRIPES: usize = 64;

/// One of the [`STRIPES`]. A backend that cannot have a lock for each repository and each digest has one
/// for each stripe, so that processes at different keys of one stripe wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stripe(usize);

impl Stripe {
    /// The stripe of a number, which may be any.
    #[must_use]
    pub const fn of(number: usize) -> Self {
        Self(number % STRIPES)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..STRIPES).map(Self)
    }

    /// Its number, which is less than [`STRIPES`].
    #[must_use]
    pub const fn number(self) -> usize {
        self.0
    }
}

/// Something that has a fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fenced {
    /// Where it lies: a repository with all that is below the key, bytes at the key.
    pub key: Key,
    /// Its stripe, which follows from the key.
    pub stripe: Stripe,
}

/// The repository and the bytes that a process is about to rely on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reliance {
    /// The repository that it adds to; `None` when it has [closed](Fences::close) that itself.
    pub repository: Option<Fenced>,
    /// The bytes that it makes a key lead to.
    pub bytes: Option<Fenced>,
}

/// The fences of a storage.
#[async_trait]
pub trait Fences: fmt::Debug + Send + Sync + 'static {
    /// Waits until what it relies on is not closed, and enters.
    ///
    /// # Errors
    ///
    /// Besides failures of the backend: when it was closed for a minute.
    async fn enter(&self, on: Reliance) -> Result<Box<dyn Entered>, Error>;

    /// Closes the fence of a repository. Waits until it is open, and, where the backend has locks, for the
    /// processes inside.
    ///
    /// # Errors
    ///
    /// As [`enter`](Self::enter).
    async fn close(&self, repository: Fenced) -> Result<Box<dyn Closed>, Error>;

    /// Begins a garbage collection. A process that entered before and has not validated yet has been
    /// waited for when this returns, or its validation tells the run which bytes it relies on.
    ///
    /// # Errors
    ///
    /// As [`enter`](Self::enter); and when another run is under way that the backend cannot be beside.
    async fn begin_run(&self) -> Result<Box<dyn Run>, Error>;
}

/// What a validation covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    All,
    /// The repository alone: the bytes have validated since they were last used.
    Repository,
}

/// The result of a validation.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Nothing was taken away since the entry, and what is taken away from now on sees what was
    /// written since then.
    Valid,
    /// Something may have been taken away: the caller enters again, and verifies all anew.
    Stale,
}

/// The presence of a process inside a fence, until it is dropped.
#[async_trait]
pub trait Entered: fmt::Debug + Send + Sync {
    /// Adds bytes to what this relies on: the caller has found them since the entry, where a key of
    /// the repository leads to them already.
    ///
    /// Such a key does not prove that the process that made it validated, so a backend without locks
    /// includes them in [`validate`](Self::validate). A backend with locks has nothing to do: where it
    /// has a key, the bytes were [renewed](Self::renew).
    fn add_needed(&mut self, bytes: Vec<Fenced>);

    /// Makes bytes that this relies on young, so that a run that is under way leaves them; `false`
    /// when they are not there.
    async fn renew(&self, bytes: &Key) -> Result<bool, Error>;

    /// Whether everything that was verified and written since the entry holds.
    async fn validate(&mut self, part: Part) -> Result<Validity, Error>;
}

/// A closed fence: what takes away objects that others may rely on. It is open again when
/// [`open`](Self::open) has returned, or some time after it was dropped.
#[async_trait]
pub trait Closed: fmt::Debug + Send + Sync {
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

    /// Removes what the backend has of a key and below it where there is no object: empty folders.
    async fn prune(&self, prefix: &Key) -> Result<(), Error>;

    /// As [`prune`](Self::prune) for a key below which there is no object, and for the keys above it
    /// below `top` of which the same is true; `false` when there is an object below the key.
    async fn prune_up(&self, prefix: &Key, top: &Key) -> Result<bool, Error>;

    /// Opens the fence.
    ///
    /// # Errors
    ///
    /// When another process has waited too long and has broken the fence: then the objects may have changed
    /// between this process's look and its deletions.
    async fn open(self: Box<Self>) -> Result<(), Error>;
}

/// A garbage collection that is under way.
#[async_trait]
pub trait Run: fmt::Debug + Send + Sync {
    /// When it began, by the clock of the [storage](super::Storage::time).
    fn began(&self) -> SystemTime;

    /// Closes the fence of the bytes of a stripe.
    ///
    /// # Errors
    ///
    /// As [`Fences::close`].
    async fn sweep(&self, stripe: Stripe) -> Result<Box<dyn Sweep>, Error>;

    /// Ends it, and removes what crashes in [`Closed::discard`] have left.
    async fn end(self: Box<Self>) -> Result<(), Error>;
}

/// The closed fence of the bytes of one stripe.
pub trait Sweep: Closed {
    /// Whether anything came to rely on bytes since the run began whose time does not tell it.
    fn is_relied_on(&self, bytes: &Key) -> bool;
}
