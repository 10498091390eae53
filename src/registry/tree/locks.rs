//! Keeps what takes away apart from what adds, here and in other processes on the same tree.
//!
//! Two things are held. A *repository*: deleting a manifest reads each tag to find those that name
//! it, and a tag moved between that look and the deletion would be lost although its push was
//! acknowledged; a manifest checked for its blobs just before one of them is unlinked would be
//! incomplete. The *bytes* of a digest: a collector that has found no link to them must not remove
//! them while somebody makes one. What adds shares a lock, what takes away holds it alone; and so does
//! what gives an immutable tag its content, for of two who find it free only one may.
//!
//! Whoever needs both takes the repository's first; a collector holds one at a time. So nobody
//! waits for somebody who waits for them.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{CatalogChange, Tree};
use crate::{
    oci::{Algorithm, Digest, RepositoryName},
    registry::Error,
    storage::{Held, Hold, Key},
};

/// Two repositories may share a lock, or two digests; then they wait for each other now and then.
/// All processes have to agree on it.
pub(in crate::registry) const STRIPES: usize = 64;

#[derive(Debug)]
pub(in crate::registry) struct Locks {
    repositories: Vec<RwLock<()>>,
    bytes: Vec<RwLock<()>>,
}

impl Default for Locks {
    fn default() -> Self {
        let stripes = || std::iter::repeat_with(RwLock::default).take(STRIPES).collect();
        Self { repositories: stripes(), bytes: stripes() }
    }
}

/// What adds.
#[must_use]
#[expect(dead_code, reason = "what counts is when they are dropped")]
pub(in crate::registry) struct Adding<'a>(Held, RwLockReadGuard<'a, ()>);

/// What takes away. What may be taken from a repository is its last manifest: the catalog hears of it
/// before others may go on.
#[must_use]
#[expect(dead_code, reason = "what counts is when they are dropped")]
pub(in crate::registry) struct Removing<'a>(
    Option<CatalogChange<'a>>,
    Held,
    RwLockWriteGuard<'a, ()>,
);

impl Tree {
    /// Held while something is added to a repository.
    pub(in crate::registry) async fn adding(
        &self,
        name: &RepositoryName,
    ) -> Result<Adding<'_>, Error> {
        let stripe = of_repository(name);
        // Those of this process first: they queue, and whoever comes to the storage asks again.
        let here = self.locks.repositories[stripe].read().await;
        let everywhere = self.storage().lock(&called("repository", stripe), Hold::Shared).await?;
        Ok(Adding(everywhere, here))
    }

    /// Held while something is taken from a repository.
    pub(in crate::registry) async fn deleting(
        &self,
        name: &RepositoryName,
    ) -> Result<Removing<'_>, Error> {
        let stripe = of_repository(name);
        let here = self.locks.repositories[stripe].write().await;
        let everywhere = self.storage().lock(&called("repository", stripe), Hold::Alone).await?;
        Ok(Removing(Some(CatalogChange(self)), everywhere, here))
    }

    /// Held from before it is looked whether a tag is free until it is not.
    pub(in crate::registry) async fn claiming(
        &self,
        name: &RepositoryName,
    ) -> Result<Removing<'_>, Error> {
        self.deleting(name).await
    }

    /// Held while something is made to lead to the bytes of a digest, from before they are looked at
    /// until it is made.
    pub(in crate::registry) async fn linking(&self, digest: &Digest) -> Result<Adding<'_>, Error> {
        let stripe = of_bytes(digest.hex());
        let here = self.locks.bytes[stripe].read().await;
        let everywhere = self.storage().lock(&called("bytes", stripe), Hold::Shared).await?;
        Ok(Adding(everywhere, here))
    }
}

impl Tree {
    /// Held while bytes are removed whose digests begin with these two digits.
    pub(in crate::registry) async fn sweeping(&self, start: &str) -> Result<Removing<'_>, Error> {
        self.sweeping_stripe(of_bytes(start)).await
    }

    /// Waits until those have ended who are making something lead to bytes now.
    pub(in crate::registry) async fn links_are_made(&self) -> Result<(), Error> {
        for stripe in 0..STRIPES {
            drop(self.sweeping_stripe(stripe).await?);
        }
        Ok(())
    }

    async fn sweeping_stripe(&self, stripe: usize) -> Result<Removing<'_>, Error> {
        let here = self.locks.bytes[stripe].write().await;
        let everywhere = self.storage().lock(&called("bytes", stripe), Hold::Alone).await?;
        Ok(Removing(None, everywhere, here))
    }
}

fn of_repository(name: &RepositoryName) -> usize {
    of_bytes(Digest::of(Algorithm::Sha256, name.as_str().as_bytes()).hex())
}

/// By the first two digits, so that what lies in one folder has one lock.
fn of_bytes(hex: &str) -> usize {
    hex.get(..2).and_then(|start| usize::from_str_radix(start, 16).ok()).unwrap_or(0) % STRIPES
}

fn called(what: &str, stripe: usize) -> Key {
    Key::new(format!("{what}-{stripe:02}"))
}
