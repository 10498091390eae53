//! Deleting manifests and tags.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Manifests;
use crate::{
    oci::{Digest, References, RepositoryName, Tag},
    registry::{
        Error,
        tree::{Removing, TreeKey},
    },
};

/// How many tags are looked at together when all of them must be.
const BATCH: usize = 1000;

impl Manifests {
    /// Takes a manifest and its tags from a repository (end-9); `false` when it was not there. Where
    /// somebody wants to know, `untagged` is told each tag when it has gone.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete(
        self: &Arc<Self>,
        name: &RepositoryName,
        digest: &Digest,
        untagged: Option<mpsc::Sender<Tag>>,
    ) -> Result<bool, Error> {
        let (manifests, name, digest) = (Arc::clone(self), name.clone(), digest.clone());
        let work = async move { manifests.remove(&name, &digest, untagged).await };
        self.tree.detached(work).await
    }

    async fn remove(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        untagged: Option<mpsc::Sender<Tag>>,
    ) -> Result<bool, Error> {
        let alone = self.tree.closing(name).await?;
        if self.tree.storage().size(&TreeKey::Revision(name, digest).key()).await?.is_none() {
            return Ok(false);
        }
        let subjects = match self.revision(name, digest).await? {
            Some(content) => References::of(&content.bytes).unwrap_or_default().subjects,
            None => Vec::new(),
        };
        self.remove_tags_of(name, digest, untagged.as_ref(), &alone).await?;
        let deleted = alone.delete(&TreeKey::Revision(name, digest).key()).await?;
        alone.delete_all(&TreeKey::RevisionFolder(name, digest).key()).await?;
        for subject in &subjects {
            // Tidying up: an entry without its revision is passed over.
            let place = TreeKey::ReferrerFolder { name, subject, referrer: digest };
            alone.delete_all(&place.key()).await?;
        }
        alone.open().await?;
        Ok(deleted)
    }

    /// Takes a tag from a repository and leaves the manifest (end-9); `false` when it was not
    /// there.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete_tag(
        self: &Arc<Self>,
        name: &RepositoryName,
        tag: &Tag,
    ) -> Result<bool, Error> {
        let (manifests, name, tag) = (Arc::clone(self), name.clone(), tag.clone());
        self.tree
            .detached(async move {
                let alone = manifests.tree.closing(&name).await?;
                let deleted = manifests.remove_tag(&name, &tag, &alone).await?;
                alone.open().await?;
                Ok(deleted)
            })
            .await
    }

    /// Takes every tag from a manifest. The caller has closed the repository.
    async fn remove_tags_of(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        untagged: Option<&mpsc::Sender<Tag>>,
        alone: &Removing<'_>,
    ) -> Result<(), Error> {
        let mut after = None;
        loop {
            let tags = TreeKey::Tags(name).key();
            let entries = self.tree.storage().list(&tags, after.as_deref(), BATCH).await?;
            let Some(last) = entries.last() else {
                return Ok(());
            };
            after = Some(last.name.clone());
            for entry in entries {
                let Ok(tag) = entry.name.parse::<Tag>() else {
                    continue;
                };
                if self.tree.link(TreeKey::TagCurrent(name, &tag)).await?.as_ref() == Some(digest) {
                    self.remove_tag(name, &tag, alone).await?;
                    if let Some(untagged) = untagged {
                        // Whether anybody listens is not our concern.
                        let _ = untagged.send(tag).await;
                    }
                }
            }
        }
    }

    /// Takes a tag away. The caller has closed the repository.
    pub(in crate::registry) async fn remove_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        alone: &Removing<'_>,
    ) -> Result<bool, Error> {
        self.tree.extend_released(name, tag, None).await?;
        // With this link the tag is gone; the rest is tidying up.
        let deleted = alone.delete(&TreeKey::TagCurrent(name, tag).key()).await?;
        alone.delete_all(&TreeKey::TagFolder(name, tag).key()).await?;
        Ok(deleted)
    }
}
