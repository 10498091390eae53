//! When a manifest was last pulled, for the rules of retention that ask.
//!
//! It is the time of an empty file beside the revision's link, so it goes with the revision, every
//! process on the tree sees it, and nothing has to be written anew when it is read. It is a record
//! for deciding what is old, not a promise: a power cut may undo the latest of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use moka::sync::Cache;
use tokio::sync::Semaphore;

use super::Manifests;
use crate::{
    oci::{Digest, RepositoryName},
    registry::{Error, tree::TreeKey},
    storage::{Durability, fences::Part},
};

/// A manifest that is pulled all the time is written about no more often.
const EVERY: Duration = Duration::from_secs(3600);

/// Of so many manifests it is remembered that they were recorded. Of others it is written again.
const REMEMBERED: u64 = 16_384;

/// So many are recorded at a time. Of those that come meanwhile the next pull is recorded.
const AT_ONCE: usize = 64;

/// What is being recorded.
#[derive(Debug)]
pub(in crate::registry) struct LastPulled {
    /// When each manifest was recorded last.
    recorded: Cache<String, jiff::Timestamp>,
    free: Arc<Semaphore>,
    /// Whether the last attempt failed: what goes on failing is logged once.
    failing: AtomicBool,
}

impl LastPulled {
    pub(in crate::registry) fn new() -> Self {
        let recorded = Cache::new(REMEMBERED);
        let free = Arc::new(Semaphore::new(AT_ONCE));
        Self { recorded, free, failing: AtomicBool::new(false) }
    }
}

impl Manifests {
    /// Records that a manifest was pulled just now, where a rule of retention asks for that. It is
    /// done later, and whoever pulls never learns whether it could be.
    pub fn record_pull(self: &Arc<Self>, name: &RepositoryName, digest: &Digest) {
        let Some(pulls) = &self.last_pulled else { return };
        let manifest = format!("{name}@{digest}");
        let now = self.clock.now();
        let is_recent = |recorded| {
            // One of the future was recorded by a clock that has been put right.
            Duration::try_from(now.duration_since(recorded)).is_ok_and(|since| since < EVERY)
        };
        if pulls.recorded.get(&manifest).is_some_and(is_recent) {
            return;
        }
        let Ok(permit) = Arc::clone(&pulls.free).try_acquire_owned() else { return };
        pulls.recorded.insert(manifest, now);
        let manifests = Arc::clone(self);
        let name = name.clone();
        let digest = digest.clone();
        self.tree.spawn(async move {
            let recorded = manifests.write_pull(&name, &digest).await;
            drop(permit);
            let Some(LastPulled { failing, .. }) = &manifests.last_pulled else { return };
            if let (Err(error), false) =
                (&recorded, failing.swap(recorded.is_err(), Ordering::Relaxed))
            {
                let error = error as &dyn std::error::Error;
                let repository = &name;
                tracing::warn!(%repository, %digest, error, "a pull could not be recorded");
            }
        });
    }

    async fn write_pull(&self, name: &RepositoryName, digest: &Digest) -> Result<(), Error> {
        // Without a revision there is nothing to record, and no folder is to be left that holds
        // nothing else.
        let mut relying = self.tree.relying(name, None);
        loop {
            let addition = relying.enter().await?;
            if self.tree.storage().size(&TreeKey::Revision(name, digest).key()).await?.is_none() {
                return Ok(());
            }
            let key = TreeKey::Pulled(name, digest).key();
            if !self.tree.storage().renew(&key).await? {
                self.tree.storage().put(&key, Bytes::new(), Durability::Lazy).await?;
            }
            if addition.end(Part::Repository).await? {
                return Ok(());
            }
        }
    }

    /// When a manifest was last pulled, as far as that was recorded.
    pub(in crate::registry) async fn last_pulled(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<SystemTime>, Error> {
        Ok(self.tree.storage().modified(&TreeKey::Pulled(name, digest).key()).await?)
    }
}
