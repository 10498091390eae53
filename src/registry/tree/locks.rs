//! Keeps what takes away apart from what adds, here and in other processes on the same storage.
//!
//! Two things have [fences](crate::storage::fences). A *repository*: deleting a manifest reads each tag
//! to find those that name it, and a tag moved between that look and the deletion would be lost although
//! its push was acknowledged; a manifest checked for its blobs just before one of them is unlinked would
//! be incomplete. The *bytes* of a digest: a collector that has found no link to them must not remove
//! them while a push makes one. What adds enters, verifies, writes and validates; what takes away closes;
//! and so does what gives an immutable tag its content, for of two pushes that find it free only one may.

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

/// After this many stale validations a caller closes the repository itself, so that others who close
/// it again and again cannot keep it from its end.
const STALE: u32 = 2;

/// After this many attempts a caller gives up: each time the stripe of its bytes was swept meanwhile.
const ATTEMPTS: u32 = 16;

/// What a caller relies on while it adds something.
///
/// It [enters](Self::enter), verifies, writes, and [ends](Addition::end) the attempt; when that says
/// `false` it begins anew. Its work counts only when it says `true`.
#[derive(Debug)]
pub(in crate::registry) struct Relying<'a> {
    tree: &'a Tree,
    on: Reliance,
    attempts: u32,
    /// The repository, when this has closed it.
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

    /// Closes the repository, or gives what has closed it.
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

/// An attempt to add something.
#[must_use]
#[derive(Debug)]
pub(in crate::registry) struct Addition<'r, 'a> {
    relying: &'r mut Relying<'a>,
    entered: Box<dyn Entered>,
}

impl Addition<'_, '_> {
    /// Adds the bytes of blobs and manifests that the repository has and that what is written needs.
    pub(in crate::registry) fn add_needed(&mut self, digests: &[Digest]) {
        self.entered.add_needed(digests.iter().map(bytes).collect());
    }

    /// See [`Entered::renew`].
    pub(in crate::registry) async fn renew(&self, bytes: &Key) -> Result<bool, Error> {
        Ok(self.entered.renew(bytes).await?)
    }

    /// Whether what was verified and written since the entry holds so far.
    pub(in crate::registry) async fn holds(&mut self, part: Part) -> Result<bool, Error> {
        Ok(self.entered.validate(part).await? == Validity::Valid)
    }

    /// Ends the attempt: whether what was verified and written since the entry holds for good.
    pub(in crate::registry) async fn end(mut self, part: Part) -> Result<bool, Error> {
        let holds = self.holds(part).await?;
        if holds && let Some(alone) = self.relying.alone.take() {
            drop(self.entered);
            alone.open().await?;
        }
        Ok(holds)
    }
}

/// A repository whose fence is closed. What may be taken from it is its last manifest: the catalog
/// hears of it before others may go on.
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
    /// Lets others go on. What was taken away counts only when this succeeds.
    pub(in crate::registry) async fn open(self) -> Result<(), Error> {
        let Self { changed, closed } = self;
        drop(changed);
        Ok(closed.open().await?)
    }
}

impl Tree {
    /// For a caller that adds to a repository, and makes something lead to the `bytes` where it says so.
    pub(in crate::registry) fn relying(
        &self,
        name: &RepositoryName,
        bytes: Option<&Digest>,
    ) -> Relying<'_> {
        let on = Reliance { repository: Some(repository(name)), bytes: bytes.map(self::bytes) };
        Relying { tree: self, on, attempts: 0, alone: None }
    }

    /// As [`relying`](Self::relying), for a caller that has closed the repository: the end of its
    /// addition opens it.
    pub(in crate::registry) fn relying_alone<'a>(
        &'a self,
        alone: Removing<'a>,
        bytes: &Digest,
    ) -> Relying<'a> {
        let on = Reliance { repository: None, bytes: Some(self::bytes(bytes)) };
        Relying { tree: self, on, attempts: 0, alone: Some(alone) }
    }

    /// Closes a repository: for a caller that takes something from it, or claims a tag of it.
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

/// By the first two digits of a digest, so that what lies in one folder has one stripe.
pub(in crate::registry) fn stripe(hex: &str) -> Stripe {
    let start = hex.get(..2).and_then(|start| usize::from_str_radix(start, 16).ok());
    Stripe::of(start.unwrap_or(0))
}
