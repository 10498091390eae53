//! Keeps deletions apart from pushes, in this process and in others on the same storage.
//!
//! Two kinds of things have [fences](crate::storage::fences). A *repository*: the deletion of a manifest
//! reads each tag to find those that name it, and a tag moved between that look and the deletion would be
//! lost although its push was acknowledged; and a manifest whose blobs are verified just before one of
//! them is unlinked would be incomplete. The *bytes* of a digest: a sweep that has found no link to them
//! must not remove them while a push links them. A push enters the fence, verifies, writes and validates.
//! A deletion closes the fence. A push to an immutable tag closes the fence too, because only one of two
//! pushes that find the tag free may set it.

use std::ops::Deref;

use super::{CatalogChange, Tree, TreeKey, repositories};
use crate::{
    oci::{Algorithm, Digest, RepositoryName},
    registry::Error,
    storage::{
        Key,
        fences::{Closed, Entered, Fenced, Part, Reliance, Stripe, Validity},
    },
};

#[cfg(test)]
mod tests;

/// After this many stale validations a caller closes the fence of the repository itself, so that repeated
/// deletions by others cannot keep it from its end.
const STALE: u32 = 2;

/// After this many attempts a caller gives up: a sweep of the stripe of its bytes made each one stale.
const ATTEMPTS: u32 = 16;

/// The fences that a caller relies on while it adds content.
///
/// The caller [enters](Self::enter), verifies that the content it relies on exists, writes, and
/// [ends](Addition::end) the attempt. When the end returns `false`, the caller begins anew; its work
/// counts only when the end returns `true`.
#[derive(Debug)]
pub(in crate::registry) struct Relying<'a> {
    tree: &'a Tree,
    on: Reliance,
    attempts: u32,
    /// The closed fence of the repository, where this caller has closed it.
    alone: Option<Removing<'a>>,
}

impl<'a> Relying<'a> {
    /// Begins an attempt.
    ///
    /// # Errors
    ///
    /// When storage fails, or too many attempts were stale.
    pub(in crate::registry) async fn enter<'r>(&'r mut self) -> Result<Addition<'r, 'a>, Error> {
        if self.attempts == ATTEMPTS {
            return Err(Error::Overtaken);
        }
        if self.attempts == STALE
            && let Some(repository) = self.on.repository.take()
        {
            self.alone = Some(self.tree.close(repository).await?);
        }
        self.attempts += 1;
        let entered = self.tree.storage().fences().enter(self.on.clone()).await?;
        Ok(Addition { relying: self, entered })
    }

    /// Returns the closed fence of the repository, and closes it where it is still open.
    pub(in crate::registry) async fn close(
        self,
        name: &RepositoryName,
    ) -> Result<Removing<'a>, Error> {
        match self.alone {
            Some(alone) => Ok(alone),
            None => self.tree.closing(name).await,
        }
    }
}

/// An attempt to add content.
#[must_use]
#[derive(Debug)]
pub(in crate::registry) struct Addition<'r, 'a> {
    relying: &'r mut Relying<'a>,
    entered: Box<dyn Entered>,
}

impl Addition<'_, '_> {
    /// Adds the blobs and manifests of the repository that the written manifest references.
    pub(in crate::registry) fn add_needed(&mut self, digests: &[Digest]) {
        self.entered.add_needed(digests.iter().map(bytes).collect());
    }

    /// See [`Entered::renew`].
    pub(in crate::registry) async fn renew(&self, bytes: &Key) -> Result<bool, Error> {
        Ok(self.entered.renew(bytes).await?)
    }

    /// Whether everything verified and written since the entry holds so far.
    pub(in crate::registry) async fn holds(&mut self, part: Part) -> Result<bool, Error> {
        Ok(self.entered.validate(part).await? == Validity::Valid)
    }

    /// Ends the attempt. Returns whether everything verified and written since the entry holds for good.
    pub(in crate::registry) async fn end(mut self, part: Part) -> Result<bool, Error> {
        let holds = self.holds(part).await?;
        if holds && let Some(alone) = self.relying.alone.take() {
            drop(self.entered);
            alone.open().await?;
        }
        Ok(holds)
    }
}

/// A repository whose fence is closed. The caller may delete its last manifest, so the catalog learns of
/// a change before the fence opens.
#[must_use]
#[derive(Debug)]
pub(in crate::registry) struct Removing<'a> {
    changed: CatalogChange<'a>,
    closed: Box<dyn Closed>,
}

impl<'a> Deref for Removing<'a> {
    type Target = dyn Closed + 'a;

    fn deref(&self) -> &Self::Target {
        &*self.closed
    }
}

impl Removing<'_> {
    /// Opens the fence. Deletions count only when this succeeds.
    pub(in crate::registry) async fn open(self) -> Result<(), Error> {
        let Self { changed, closed } = self;
        drop(changed);
        Ok(closed.open().await?)
    }
}

impl Tree {
    /// The fences for a caller that adds to a repository, and links the `bytes` where it names them.
    pub(in crate::registry) fn relying(
        &self,
        name: &RepositoryName,
        bytes: Option<&Digest>,
    ) -> Relying<'_> {
        let on = Reliance { repository: Some(repository(name)), bytes: bytes.map(self::bytes) };
        Relying { tree: self, on, attempts: 0, alone: None }
    }

    /// As [`relying`](Self::relying), for a caller that has closed the fence of the repository. The end of
    /// its addition opens that fence.
    pub(in crate::registry) fn relying_alone<'a>(
        &'a self,
        alone: Removing<'a>,
        bytes: &Digest,
    ) -> Relying<'a> {
        let on = Reliance { repository: None, bytes: Some(self::bytes(bytes)) };
        Relying { tree: self, on, attempts: 0, alone: Some(alone) }
    }

    /// Enters a repository, for a caller that has nothing to validate: a backend with locks keeps its
    /// deletion out until what this returns is dropped. Over one without locks what the caller writes may
    /// outlive a deletion, as an upload that began after it, or as an entry that readers pass over.
    pub(in crate::registry) async fn inside(
        &self,
        name: &RepositoryName,
    ) -> Result<Box<dyn Entered>, Error> {
        let on = Reliance { repository: Some(repository(name)), bytes: None };
        Ok(self.storage().fences().enter(on).await?)
    }

    /// Closes the fence of a repository, for a deletion or for a push to an immutable tag.
    pub(in crate::registry) async fn closing(
        &self,
        name: &RepositoryName,
    ) -> Result<Removing<'_>, Error> {
        self.close(repository(name)).await
    }

    async fn close(&self, repository: Fenced) -> Result<Removing<'_>, Error> {
        let closed = self.storage().fences().close(repository).await?;
        Ok(Removing { changed: CatalogChange(self), closed })
    }
}

fn repository(name: &RepositoryName) -> Fenced {
    let digest = Digest::of(Algorithm::Sha256, name.as_str().as_bytes());
    Fenced { key: repositories().child(name.as_str()), stripe: stripe(digest.hex()) }
}

fn bytes(digest: &Digest) -> Fenced {
    Fenced { key: TreeKey::Data(digest).key(), stripe: stripe(digest.hex()) }
}

/// The stripe of a digest, by its first two digits, so that all bytes in one folder have one stripe.
pub(in crate::registry) fn stripe(hex: &str) -> Stripe {
    let start = hex.get(..2).and_then(|start| usize::from_str_radix(start, 16).ok());
    Stripe::of(start.unwrap_or(0))
}
