//! Leases: an object whose existence was reported to a client is kept for the grace period.
//!
//! A client asks for the layers of an image before it pushes them, leaves out the existing ones, and
//! pushes the manifest at last. Garbage collection in between must not remove a layer whose existence
//! was reported. The modification time of the link is the lease, so it holds in this process, in
//! others, and after a restart. An answer *extends* the lease: it renews the modification time.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use moka::sync::Cache;

use super::{Tree, TreeKey};
use crate::{
    oci::{Digest, RepositoryName, Tag},
    registry::Error,
    storage::{Key, fences::Part},
};

/// How many leases the cache knows; for others a request reads the modification time.
const REMEMBERED: u64 = 50_000;

/// How much older than the last answer a lease may be, so that not every request has to write. Garbage
/// collection adds this to the grace period.
pub(in crate::registry) fn slack(grace: Duration) -> Duration {
    grace / 4
}

/// A cache of leases that are young enough.
#[derive(Debug)]
pub(super) struct Leases {
    slack: Duration,
    lately: Cache<Key, ()>,
    has_failed: AtomicBool,
}

impl Leases {
    /// Leases for a garbage collection with this grace period.
    pub(in crate::registry) fn new(grace: Duration) -> Self {
        let slack = slack(grace);
        // A link enters the cache when it is at most half the slack old and stays for half the slack,
        // so a cached lease never exceeds the slack.
        let lately = Cache::builder().max_capacity(REMEMBERED).time_to_live(slack / 2).build();
        Self { slack, lately, has_failed: AtomicBool::new(false) }
    }

    /// Logs once that leases cannot be extended.
    fn failed(&self, key: &Key, error: &Error) {
        if !self.has_failed.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %key, error = %error,
                "cannot extend the lease of content that a client was told exists; garbage collection \
                 could remove it before the client pushes a manifest that references it"
            );
        }
    }
}

impl Tree {
    /// Extends the lease of a link of a repository, and so of its target; `false` when the link has
    /// gone.
    pub(in crate::registry) async fn touch(
        &self,
        name: &RepositoryName,
        link: TreeKey<'_>,
    ) -> Result<bool, Error> {
        let Leases { slack, lately, .. } = &self.leases;
        let key = link.key();
        if slack.is_zero() || lately.contains_key(&key) {
            return Ok(true);
        }
        let Some(age) = self.storage().age(&key).await? else { return Ok(false) };
        if age > *slack / 2 {
            match self.extend(name, &key).await {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => {
                    // Garbage collection of a tree that cannot be written to is not likely.
                    self.leases.failed(&key, &error);
                    return Ok(true);
                }
            }
        }
        lately.insert(key, ());
        Ok(true)
    }

    /// Renews a link inside the fence of the repository, so that no garbage collection decides
    /// meanwhile.
    async fn extend(&self, name: &RepositoryName, link: &Key) -> Result<bool, Error> {
        let mut relying = self.relying(name, None);
        loop {
            let addition = relying.enter().await?;
            let renewed = self.storage().renew(link).await?;
            if !renewed || addition.end(Part::Repository).await? {
                return Ok(renewed);
            }
        }
    }

    /// Renews the manifest that a tag names before the tag moves or goes, so that the grace period of
    /// that manifest begins now, and returns its digest. The caller is inside the fence of the
    /// repository, or has closed it.
    pub(in crate::registry) async fn extend_released(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        next: Option<&Digest>,
    ) -> Result<Option<Digest>, Error> {
        let named = self.link(TreeKey::TagCurrent(name, tag)).await?;
        let released = named.filter(|named| Some(named) != next);
        if let Some(released) = &released {
            let key = TreeKey::Revision(name, released).key();
            if let Err(error) = self.storage().renew(&key).await {
                self.leases.failed(&key, &error.into());
            }
        }
        Ok(released)
    }
}
