//! What somebody was told is there stays there for a while.
//!
//! A client asks for the layers of an image before it pushes them, leaves out those that are there,
//! and pushes the manifest at last. A collector in between must not take away what it was told of.
//! The time at which a link was last modified is what holds it: in this process and in others, and
//! after a restart.

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

/// So many promises are remembered; of others it is looked how old they are.
const REMEMBERED: u64 = 50_000;

/// How much older than its last promise something may be: not every request has to write. A
/// collector adds it to the grace.
pub(in crate::registry) fn slack(grace: Duration) -> Duration {
    grace / 4
}

/// What was promised lately.
#[derive(Debug)]
pub(super) struct Leases {
    slack: Duration,
    lately: Cache<Key, ()>,
    has_failed: AtomicBool,
}

impl Leases {
    /// For a collector with this grace.
    pub(in crate::registry) fn new(grace: Duration) -> Self {
        let slack = slack(grace);
        // What is not older than half of it now is not older than all of it by then.
        let lately = Cache::builder().max_capacity(REMEMBERED).time_to_live(slack / 2).build();
        Self { slack, lately, has_failed: AtomicBool::new(false) }
    }

    /// Says once that promises are not kept.
    fn failed(&self, key: &Key, error: &Error) {
        if !self.has_failed.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %key, error = %error,
                "what clients are told of cannot be renewed; a collection could take it before they \
                 push what needs it"
            );
        }
    }
}

impl Tree {
    /// Lets a link of a repository stay, and so what it leads to; `false` when it is not there any
    /// more.
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
                    // On a tree that cannot be written to nobody collects, or so it is to be hoped.
                    self.leases.failed(&key, &error);
                    return Ok(true);
                }
            }
        }
        lately.insert(key, ());
        Ok(true)
    }

    /// Renews a link while no collector judges the repository.
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

    /// Renews the manifest that a tag names, which is to name another one or none: the grace of what
    /// has lost its tag begins now. The caller is inside the fence of the repository, or has closed it,
    /// and gets the manifest.
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
