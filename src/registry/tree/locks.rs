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
    storage::fences::{Closed, Entered, Fenced, Reliance, Stripe},
};

/// What a caller relies on while it adds something.
#[derive(Debug)]
pub(in crate::registry) struct Relying<'a> {
    tree: &'a Tree,
    on: Reliance,
}

impl Relying<'_> {
    /// Enters. The caller verifies what it relies on, writes, and validates; when that says stale,
    /// it enters again and begins anew, and its work counts only when it is valid.
    pub(in crate::registry) async fn enter(&self) -> Result<Box<dyn Entered>, Error> {
        Ok(self.tree.storage().fences().enter(self.on.clone()).await?)
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
        Relying { tree: self, on }
    }

    /// As [`relying`](Self::relying), for a caller that has closed the repository.
    pub(in crate::registry) fn relying_alone(&self, bytes: &Digest) -> Relying<'_> {
        let on = Reliance { repository: None, bytes: Some(self::bytes(bytes)) };
        Relying { tree: self, on }
    }

    /// Closes a repository: for a caller that takes something from it, or claims a tag of it.
    pub(in crate::registry) async fn closing(
        &self,
        name: &RepositoryName,
    ) -> Result<Removing<'_>, Error> {
        let closed = self.storage().fences().close(repository(name)).await?;
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
