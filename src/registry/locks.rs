//! Keeps what deletes in a repository apart from what adds to it.
//!
//! Deleting a manifest reads each tag to find those that name it. A tag moved between that look
//! and the deletion would be lost although its push was acknowledged; a manifest checked for its
//! blobs just before one of them is unlinked would be incomplete. So additions share the lock and
//! deletions hold it alone.

use std::hash::{BuildHasher as _, RandomState};

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::oci::RepositoryName;

/// Two repositories may share a lock; then they wait for each other now and then.
const STRIPES: usize = 256;

#[derive(Debug)]
pub(super) struct RepositoryLocks {
    stripes: Vec<RwLock<()>>,
    hasher: RandomState,
}

impl Default for RepositoryLocks {
    fn default() -> Self {
        let stripes = std::iter::repeat_with(RwLock::default).take(STRIPES).collect();
        Self { stripes, hasher: RandomState::new() }
    }
}

impl RepositoryLocks {
    /// Held while something is added.
    pub(super) async fn adding(&self, name: &RepositoryName) -> RwLockReadGuard<'_, ()> {
        self.stripe(name).read().await
    }

    /// Held while something is deleted.
    pub(super) async fn deleting(&self, name: &RepositoryName) -> RwLockWriteGuard<'_, ()> {
        self.stripe(name).write().await
    }

    fn stripe(&self, name: &RepositoryName) -> &RwLock<()> {
        let hash = self.hasher.hash_one(name);
        &self.stripes[usize::try_from(hash % STRIPES as u64).unwrap_or_default()]
    }
}
