//! The storage tree: its keys, links, fences and leases, and the log of its damage.
//!
//! Every part of the registry reads and writes through [`Tree`]. It knows repositories and digests,
//! and nothing of manifests, uploads or lists.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::task::TaskTracker;

use self::{damage::DamageLog, lease::Leases};
use super::Error;
use crate::storage::{Staging, Storage};

mod damage;
mod foreign;
mod key;
pub(super) mod lease;
pub(super) mod link;
mod locks;

pub(super) use self::{
    key::{
        CURRENT, HASHER, LINK, OWNER, PULLED, TreeKey, UNTAGGED, blobs, pulls, quarantine,
        repositories,
    },
    locks::{Relying, Removing, stripe},
};

/// The storage with the rules by which this process and others change it.
#[derive(Debug)]
pub(super) struct Tree {
    storage: Arc<dyn Storage>,
    leases: Leases,
    damage: DamageLog,
    /// How many times this process may have added a repository to the catalog or removed one.
    catalog_changes: AtomicU64,
    /// Changes that run to their end after their caller has gone.
    tasks: TaskTracker,
}

impl Tree {
    /// The tree in `storage`; `grace` is the age below which garbage collection removes nothing.
    pub(super) fn new(storage: Arc<dyn Storage>, grace: Duration) -> Self {
        Self {
            storage,
            leases: Leases::new(grace),
            damage: DamageLog::default(),
            catalog_changes: AtomicU64::new(0),
            tasks: TaskTracker::new(),
        }
    }

    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    pub(super) fn staging(&self) -> &dyn Staging {
        self.storage.staging()
    }

    /// The storage, for writers that hold it for as long as an upload lasts.
    pub(super) fn shared_storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// How many times this process may have changed the catalog.
    pub(super) fn catalog_changes(&self) -> u64 {
        self.catalog_changes.load(Ordering::Acquire)
    }

    /// Counts a change of the catalog: after the change is durable, and before its caller learns of
    /// it.
    fn catalog_changed(&self) {
        self.catalog_changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Runs `work` to its end, even when the caller stops waiting for it: a client that hangs up
    /// must not stop a sequence of writes half-way. [`settle`](Self::settle) waits for it.
    ///
    /// # Errors
    ///
    /// As `work`; when it panics.
    pub(super) async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        match self.tasks.spawn(work).await {
            Ok(result) => result,
            Err(panicked) => Err(Error::Panicked(panicked)),
        }
    }

    /// As [`detached`](Self::detached), without a caller that waits.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Waits for all detached work. The caller starts none meanwhile.
    pub(super) async fn settle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Counts a change of the catalog when it is dropped.
#[derive(Debug)]
struct CatalogChange<'a>(&'a Tree);

impl Drop for CatalogChange<'_> {
    fn drop(&mut self) {
        self.0.catalog_changed();
    }
}
