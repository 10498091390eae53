//! The time at which a manifest was last pulled, for retention rules with `keeppulledwithin`.
//!
//! The record is the modification time of an empty file beside the revision's link, so it goes with the
//! revision, every process on the tree sees it, and an update writes no content. It is an aid to
//! decide which tags are old, not a promise: a power cut may undo the latest records.

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
    storage::Durability,
};

/// The shortest time between two records of one manifest.
const EVERY: Duration = Duration::from_secs(3600);

/// The cache knows the last record of this many manifests. Pulls of others are recorded again.
const REMEMBERED: u64 = 16_384;

/// How many records are written at a time. A pull beyond that is not recorded, the next one is.
const AT_ONCE: usize = 64;

/// The records that are being written, and the recent ones.
#[derive(Debug)]
pub(in crate::registry) struct LastPulled {
    /// The time of the last record of each manifest.
    recorded: Cache<String, jiff::Timestamp>,
    free: Arc<Semaphore>,
    /// Whether the last attempt failed: repeated failures are logged once.
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
    /// Records that a manifest was pulled just now, where a retention rule needs that. The record is
    /// written later, and a failure does not reach the client.
    pub fn record_pull(self: &Arc<Self>, name: &RepositoryName, digest: &Digest) {
        let Some(pulls) = &self.last_pulled else { return };
        let manifest = format!("{name}@{digest}");
        let now = self.clock.now();
        let is_recent = |recorded| {
            // A record in the future comes from a clock that has been put right.
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
        // Without a revision there is nothing to record, and the record alone would leave a folder.
        let _inside = self.tree.inside(name).await?;
        if self.tree.storage().size(&TreeKey::Revision(name, digest).key()).await?.is_none() {
            return Ok(());
        }
        let key = TreeKey::Pulled(name, digest).key();
        if !self.tree.storage().renew(&key).await? {
            self.tree.storage().put(&key, Bytes::new(), Durability::Lazy).await?;
        }
        Ok(())
    }

    /// The recorded time of the last pull of a manifest.
    pub(in crate::registry) async fn last_pulled(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<SystemTime>, Error> {
        Ok(self.tree.storage().modified(&TreeKey::Pulled(name, digest).key()).await?)
    }
}
