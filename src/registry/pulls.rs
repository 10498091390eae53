//! The time at which a manifest was last pulled, for retention rules with `keeppulledwithin` and for the
//! collection of untagged manifests.
//!
//! The record is the modification time of an empty file beside the revision's link, so it goes with the
//! revision, every process on the tree sees it, and an update writes no content. A pull looks into a
//! bounded memory of the pulls of the last hour; only a pull that is not among them enters the queue,
//! which one task writes. `watch.rs` keeps untagged manifests from going where records may be missing.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use moka::sync::Cache;

use super::{
    Clock, Error,
    tree::{Tree, TreeKey},
};
use crate::{
    oci::{Digest, RepositoryName},
    storage::{Durability, ErrorKind},
};

mod watch;

pub(super) use self::watch::{PullWatch, held_until};

/// The shortest time between two records of one manifest.
const EVERY: Duration = Duration::from_secs(3600);

/// The memory knows the last record of this many manifests. Pulls of others are recorded again.
const REMEMBERED: u64 = 16_384;

/// How many pulls wait to be recorded.
const QUEUED: usize = 16_384;

/// How many records are written at a time.
const AT_ONCE: usize = 16;

/// How a client pulled a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// It read the manifest.
    Get,
    /// It asked for the headers. A client that has the image may do nothing else, and so may one that runs
    /// none: this keeps an untagged manifest, whose link is renewed, and no tag by `keeppulledwithin`.
    Head,
}

/// The records of pulls.
#[derive(Debug)]
pub(super) struct Pulls {
    tree: Arc<Tree>,
    clock: Arc<dyn Clock>,
    /// The time of the last record of each manifest.
    recorded: Cache<Id, jiff::Timestamp>,
    hashers: [RandomState; 2],
    /// Whether `HEAD` requests are recorded as well.
    counts_heads: bool,
    queue: Mutex<Queue>,
    /// Whether the last attempt failed: repeated failures are logged once.
    failing: AtomicBool,
    /// Whether a pull could not be recorded since [`take_lost`](Self::take_lost) was called.
    lost: AtomicBool,
}

/// Two keyed hashes of the name of a repository, a digest and the access: unlike the names, they cost no allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Id([u64; 2]);

/// A pull that is not recorded yet.
#[derive(Debug)]
struct Pull {
    name: RepositoryName,
    digest: Digest,
    access: Access,
}

/// The pulls that wait for the task that writes.
#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Pull>,
    is_writing: bool,
}

impl Pulls {
    pub(super) fn new(tree: Arc<Tree>, clock: Arc<dyn Clock>, counts_heads: bool) -> Self {
        Self {
            tree,
            clock,
            recorded: Cache::new(REMEMBERED),
            hashers: [RandomState::new(), RandomState::new()],
            counts_heads,
            queue: Mutex::default(),
            failing: AtomicBool::new(false),
            lost: AtomicBool::new(false),
        }
    }

    /// Records that a manifest was pulled just now. The record is written later.
    pub(super) fn record(self: &Arc<Self>, name: &RepositoryName, digest: &Digest, access: Access) {
        if access == Access::Head && !self.counts_heads {
            return;
        }
        let id = self.id(name, digest, access);
        let now = self.clock.now();
        if self.is_recent(id, now) {
            return;
        }
        let mut queue = self.queue();
        if queue.waiting.len() == QUEUED {
            self.lost.store(true, Ordering::Relaxed);
            return;
        }
        self.recorded.insert(id, now);
        queue.waiting.push(Pull { name: name.clone(), digest: digest.clone(), access });
        if !std::mem::replace(&mut queue.is_writing, true) {
            let pulls = Arc::clone(self);
            self.tree.spawn(async move { pulls.write_queue().await });
        }
    }

    /// Whether this process has seen a pull of the manifest within the last hour, recorded or not yet.
    pub(super) fn has_seen(&self, name: &RepositoryName, digest: &Digest) -> bool {
        let now = self.clock.now();
        let accesses = [Access::Get, Access::Head];
        accesses.into_iter().any(|access| self.is_recent(self.id(name, digest, access), now))
    }

    /// The recorded time of the last pull of a manifest.
    pub(super) async fn last(
        tree: &Tree,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<SystemTime>, Error> {
        Ok(tree.storage().modified(&TreeKey::Pulled(name, digest).key()).await?)
    }

    /// Whether a pull could not be recorded since the last call.
    fn take_lost(&self) -> bool {
        self.lost.swap(false, Ordering::Relaxed)
    }

    fn id(&self, name: &RepositoryName, digest: &Digest, access: Access) -> Id {
        let Self { hashers: [one, other], .. } = self;
        let of = (name.as_str(), digest.hex(), access);
        Id([one.hash_one(of), other.hash_one(of)])
    }

    fn is_recent(&self, id: Id, now: jiff::Timestamp) -> bool {
        // A record in the future comes from a clock that has been put right.
        let recorded = self.recorded.get(&id);
        recorded.is_some_and(|time| {
            Duration::try_from(now.duration_since(time)).is_ok_and(|t| t < EVERY)
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The waiting pulls; none ends the task that writes.
    fn take_waiting(&self) -> Vec<Pull> {
        let mut queue = self.queue();
        queue.is_writing = !queue.waiting.is_empty();
        std::mem::take(&mut queue.waiting)
    }

    async fn write_queue(&self) {
        loop {
            let waiting = self.take_waiting();
            if waiting.is_empty() {
                return;
            }
            let writing = |pull: Pull| async move {
                let written = self.write(&pull).await;
                self.note_outcome(&pull, written);
            };
            stream::iter(waiting).for_each_concurrent(AT_ONCE, writing).await;
        }
    }

    fn note_outcome(&self, pull: &Pull, written: Result<(), Error>) {
        let Pull { name, digest, access } = pull;
        let failed_before = self.failing.swap(written.is_err(), Ordering::Relaxed);
        let Err(error) = written else { return };
        // The next pull tries again.
        self.recorded.invalidate(&self.id(name, digest, *access));
        self.lost.store(true, Ordering::Relaxed);
        if !failed_before {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(repository = %name, %digest, error, "a pull could not be recorded");
        }
    }

    async fn write(&self, pull: &Pull) -> Result<(), Error> {
        let Pull { name, digest, access } = pull;
        let storage = self.tree.storage();
        // Without a revision there is nothing to record, and the record alone would leave a folder.
        let _inside = self.tree.inside(name).await?;
        let link = TreeKey::Revision(name, digest).key();
        if *access == Access::Head {
            storage.renew(&link).await?;
            return Ok(());
        }
        if storage.size(&link).await?.is_none() {
            return Ok(());
        }
        let key = TreeKey::Pulled(name, digest).key();
        if storage.renew(&key).await? {
            return Ok(());
        }
        match storage.put(&key, Bytes::new(), Durability::Lazy).await {
            // A full disk has no room for a file, and still takes a new time for the link.
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                storage.renew(&link).await?;
                Ok(())
            }
            put => Ok(put?),
        }
    }
}
