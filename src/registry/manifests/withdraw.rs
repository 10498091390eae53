//! Withdrawal of a manifest whose put is refused after it was written.
//!
//! A backend without locks lets a put write before it knows whether the content that it verified still
//! exists. When the validation is stale and the second look finds content missing, the put removes its
//! writes again, while the fence of the repository is closed. With a backend that locks this never
//! happens.

use super::Manifests;
use crate::{
    oci::{Digest, ManifestKind, RepositoryName, Tag},
    registry::{
        Error,
        tree::{Removing, TreeKey},
    },
};

/// The writes of a put so far.
#[derive(Debug)]
pub(super) struct Written<'a> {
    name: &'a RepositoryName,
    digest: &'a Digest,
    subject: Option<&'a Digest>,
    tags: Vec<MovedTag<'a>>,
}

/// A tag that the put has moved.
#[derive(Debug)]
struct MovedTag<'a> {
    tag: &'a Tag,
    /// The manifest that it named before.
    previous: Option<Digest>,
}

impl<'a> Written<'a> {
    /// A revision, with its entry among the referrers of its subject.
    pub(super) const fn new(
        name: &'a RepositoryName,
        digest: &'a Digest,
        subject: Option<&'a Digest>,
    ) -> Self {
        Self { name, digest, subject, tags: Vec::new() }
    }

    /// Adds tags, with the manifests that they named before.
    pub(super) fn moved(&mut self, tags: &'a [Tag], previous: Vec<Option<Digest>>) {
        for (tag, previous) in tags.iter().zip(previous) {
            match self.tags.iter_mut().find(|moved| moved.tag == tag) {
                // A tag that was moved by an earlier attempt named this manifest before the next.
                Some(moved) => moved.previous = previous.or_else(|| moved.previous.take()),
                None => self.tags.push(MovedTag { tag, previous }),
            }
        }
    }
}

impl Manifests {
    /// Removes the writes of a put, if content that the manifest requires is still missing: another put
    /// of the same manifest may have succeeded meanwhile. The tags return to their former manifests.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub(super) async fn withdraw(
        &self,
        written: Written<'_>,
        kind: &ManifestKind,
        alone: Removing<'_>,
    ) -> Result<(), Error> {
        let Written { name, digest, subject, tags } = written;
        if !self.presence(name, kind).await?.absent.is_empty() {
            for moved in tags {
                self.restore(name, digest, moved, &alone).await?;
            }
            // A tag from another put was acknowledged, so it stays although the manifest lacks content.
            if self.tags_of(name, digest).await?.is_empty() {
                alone.delete(&TreeKey::Revision(name, digest).key()).await?;
                alone.delete_all(&TreeKey::RevisionFolder(name, digest).key()).await?;
                if let Some(subject) = subject {
                    let place = TreeKey::ReferrerFolder { name, subject, referrer: digest };
                    alone.delete_all(&place.key()).await?;
                }
            }
        }
        alone.open().await
    }

    /// Returns a tag that names `digest` to its former manifest, or deletes it where it had none.
    async fn restore(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        moved: MovedTag<'_>,
        alone: &Removing<'_>,
    ) -> Result<(), Error> {
        let MovedTag { tag, previous } = moved;
        if self.tree.link(TreeKey::TagCurrent(name, tag)).await?.as_ref() != Some(digest) {
            return Ok(());
        }
        if let Some(previous) = previous {
            let revision = TreeKey::Revision(name, &previous).key();
            if self.tree.storage().size(&revision).await?.is_some() {
                return self.tree.set_link(TreeKey::TagCurrent(name, tag), &previous).await;
            }
        }
        self.remove_tag(name, tag, alone).await.map(drop)
    }
}
