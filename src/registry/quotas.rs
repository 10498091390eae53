//! Quotas: how many bytes a repository may hold.
//!
//! The usage of a repository is its last count from storage, and what this process has linked since. Nothing
//! of it is kept in storage, so that no counter drifts away from the truth for good: a repository is counted
//! when the first upload since the start needs it, after each garbage collection and each hour, and at once
//! when an upload would be refused and the count may be too high (`quotas/count.rs`).
//!
//! An upload reserves the bytes that arrive while its request runs, and the whole blob before it becomes part
//! of the repository. So uploads at the same time never pass a quota together. Without a quota for its
//! repository an upload costs a look at an empty list.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;

use self::count::{Count, Full};
pub use self::rule::{InvalidQuota, Quota, UselessQuota, useless};
use super::{Error, tree::Tree, usage::Usage};
use crate::{
    byte_size::ByteSize,
    oci::{Digest, RepositoryName},
    registry::tree::TreeKey,
};

mod count;
mod rule;
#[cfg(test)]
mod tests;

/// How many repositories have a count in memory. Behind that number those go that no upload needs.
const MOST: usize = 10_000;

/// A blob for which its repository has no room.
#[derive(Debug, thiserror::Error)]
#[error("{repository} may hold {most}: {}", self.usage())]
pub struct QuotaExceeded {
    /// The repository.
    pub repository: RepositoryName,
    /// Its quota.
    pub most: ByteSize,
    /// The bytes that it holds.
    pub used: u64,
    /// The bytes of other uploads that are under way.
    pub reserved: u64,
    /// The bytes of the blob, where they are known.
    pub bytes: Option<u64>,
}

impl QuotaExceeded {
    fn usage(&self) -> String {
        let most = self.most;
        let used = most.beside(self.used);
        let others = match self.reserved {
            0 => String::new(),
            bytes => format!(", {} more are being pushed", most.beside(bytes)),
        };
        match self.bytes {
            Some(bytes) => format!("{used} are used{others}, this blob has {}", most.beside(bytes)),
            None => format!("{used} are used{others}, and this blob needs more than is left"),
        }
    }
}

/// The quotas in force, and the counts of the repositories that they are for.
#[derive(Debug)]
pub(super) struct Quotas {
    rules: ArcSwap<Vec<Quota>>,
    tree: Arc<Tree>,
    usage: Usage,
    counts: Mutex<HashMap<RepositoryName, Arc<Count>>>,
}

impl Quotas {
    pub(super) fn new(tree: Arc<Tree>, rules: Vec<Quota>) -> Self {
        let usage = Usage::new(Arc::clone(&tree));
        Self { rules: ArcSwap::from_pointee(rules), tree, usage, counts: Mutex::default() }
    }

    /// Puts other quotas in force. Uploads that are under way keep theirs until their request ends.
    pub(super) fn set(&self, rules: Vec<Quota>) {
        self.rules.store(Arc::new(rules));
    }

    /// A claim to room for an upload into a repository; `None` where there is no quota for it, and where it
    /// holds the blob `digest` already.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub(super) async fn claim(
        self: &Arc<Self>,
        name: &RepositoryName,
        digest: Option<&Digest>,
    ) -> Result<Option<Claim>, Error> {
        let Some(most) = Quota::least(&self.rules.load(), name) else { return Ok(None) };
        if let Some(digest) = digest
            && self.holds(name, digest).await?
        {
            return Ok(None);
        }
        let (quotas, name) = (Arc::clone(self), name.clone());
        Ok(Some(Claim { count: self.count_of(&name), quotas, name, most, bytes: 0 }))
    }

    async fn holds(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        Ok(self.tree.link(TreeKey::Layer(name, digest)).await?.is_some())
    }

    /// Notes that a repository lost blobs, so that its count is too high.
    pub(super) fn removed_from(&self, name: &RepositoryName) {
        if let Some(count) = self.counts().get(name) {
            count.note_deletion();
        }
    }

    /// Notes that every count may be wrong in either direction: a garbage collection has ended.
    pub(super) fn forget_counts(&self) {
        self.counts().values().for_each(|count| count.forget());
    }

    fn count_of(&self, name: &RepositoryName) -> Arc<Count> {
        let mut counts = self.counts();
        if counts.len() >= MOST && !counts.contains_key(name) {
            counts.retain(|_, count| Arc::strong_count(count) > 1);
        }
        Arc::clone(counts.entry(name.clone()).or_default())
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<RepositoryName, Arc<Count>>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The room that an upload has reserved in its repository. What it has not [used](Self::linked) when it is
/// dropped is free again.
#[derive(Debug)]
pub(super) struct Claim {
    quotas: Arc<Quotas>,
    name: RepositoryName,
    most: ByteSize,
    count: Arc<Count>,
    bytes: u64,
}

impl Claim {
    /// Reserves room for so many bytes in all. `announced` is the length of the blob, where it is known.
    ///
    /// # Errors
    ///
    /// When the repository has no room for them, or storage fails.
    pub(super) async fn reach(&mut self, bytes: u64, announced: Option<u64>) -> Result<(), Error> {
        if self.count.is_unknown() {
            self.count.anew(&self.quotas.usage, &self.name).await?;
        }
        let mut is_counted_anew = false;
        loop {
            match self.count.reserve(self.bytes, bytes, self.most.get()) {
                Ok(()) => {
                    self.bytes = self.bytes.max(bytes);
                    return Ok(());
                }
                Err(Full { used, reserved })
                    if is_counted_anew || !self.count.may_be_too_high() =>
                {
                    return Err(QuotaExceeded {
                        repository: self.name.clone(),
                        most: self.most,
                        used,
                        reserved,
                        bytes: announced,
                    }
                    .into());
                }
                Err(_) => {
                    self.count.anew(&self.quotas.usage, &self.name).await?;
                    is_counted_anew = true;
                }
            }
        }
    }

    /// Counts the reserved bytes as used: the repository has a link to the blob now.
    pub(super) fn linked(mut self) {
        self.count.linked(std::mem::take(&mut self.bytes));
    }

    /// Whether the repository got the blob from another upload meanwhile.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub(super) async fn is_needless(&self, digest: &Digest) -> Result<bool, Error> {
        self.quotas.holds(&self.name, digest).await
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.count.release(self.bytes);
    }
}
