//! Deleting manifests and tags.

use std::sync::Arc;

use super::Manifests;
use crate::{
    oci::{Digest, References, RepositoryName, Tag},
    registry::{
        Caller, Error, Occurrence,
        tree::{Removing, TreeKey},
    },
};

/// How many tags a listing reads at a time.
const BATCH: usize = 1000;

impl Manifests {
    /// Deletes a manifest and its tags from a repository (end-9); `false` when the repository has no
    /// such manifest. Emits an event for each tag, and then one for the manifest.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete(
        self: &Arc<Self>,
        caller: &Caller,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let manifests = Arc::clone(self);
        let caller = caller.clone();
        let name = name.clone();
        let digest = digest.clone();
        let work = async move {
            let mut untagged = Vec::new();
            let removed = manifests.remove(&name, &digest, &mut untagged).await;
            for tag in untagged {
                manifests.events.emit(&caller, &name, Occurrence::TagDeleted(tag)).await;
            }
            let deleted = removed?;
            if deleted {
                let occurrence = Occurrence::ManifestDeleted(digest);
                manifests.events.emit(&caller, &name, occurrence).await;
            }
            Ok(deleted)
        };
        self.tree.detached(work).await
    }

    /// Removes a manifest and its tags; `untagged` gets each tag that has gone, also when something
    /// fails then.
    async fn remove(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        untagged: &mut Vec<Tag>,
    ) -> Result<bool, Error> {
        let alone = self.tree.closing(name).await?;
        if self.tree.storage().size(&TreeKey::Revision(name, digest).key()).await?.is_none() {
            return Ok(false);
        }
        let subjects = match self.revision(name, digest).await? {
            Some(content) => References::of(&content.bytes).unwrap_or_default().subjects,
            None => Vec::new(),
        };
        for tag in self.tags_of(name, digest).await? {
            self.remove_tag(name, &tag, &alone).await?;
            untagged.push(tag);
        }
        let deleted = alone.delete(&TreeKey::Revision(name, digest).key()).await?;
        alone.delete_all(&TreeKey::RevisionFolder(name, digest).key()).await?;
        for subject in &subjects {
            // Tidying up: lists leave out an entry without its revision.
            let place = TreeKey::ReferrerFolder { name, subject, referrer: digest };
            alone.delete_all(&place.key()).await?;
        }
        alone.open().await?;
        Ok(deleted)
    }

    /// Deletes a tag and leaves its manifest (end-9); `false` when the repository has no such tag.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete_tag(
        self: &Arc<Self>,
        caller: &Caller,
        name: &RepositoryName,
        tag: &Tag,
    ) -> Result<bool, Error> {
        let manifests = Arc::clone(self);
        let caller = caller.clone();
        let name = name.clone();
        let tag = tag.clone();
        let work = async move {
            let alone = manifests.tree.closing(&name).await?;
            let deleted = manifests.remove_tag(&name, &tag, &alone).await?;
            alone.open().await?;
            if deleted {
                manifests.events.emit(&caller, &name, Occurrence::TagDeleted(tag)).await;
            }
            Ok(deleted)
        };
        self.tree.detached(work).await
    }

    /// The tags that name a manifest. The caller has closed the fence of the repository, so no push adds
    /// one.
    pub(super) async fn tags_of(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Tag>, Error> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let tags = TreeKey::Tags(name).key();
            let entries = self.tree.storage().list(&tags, after.as_deref(), BATCH).await?;
            let Some(last) = entries.last() else {
                return Ok(found);
            };
            after = Some(last.name.clone());
            for entry in entries {
                let Ok(tag) = entry.name.parse::<Tag>() else {
                    continue;
                };
                if self.tree.link(TreeKey::TagCurrent(name, &tag)).await?.as_ref() == Some(digest) {
                    found.push(tag);
                }
            }
        }
    }

    /// Deletes a tag. The caller has closed the fence of the repository.
    pub(in crate::registry) async fn remove_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        alone: &Removing<'_>,
    ) -> Result<bool, Error> {
        self.tree.extend_released(name, tag, None).await?;
        // The tag is gone with this link; the rest is tidying up.
        let deleted = alone.delete(&TreeKey::TagCurrent(name, tag).key()).await?;
        alone.delete_all(&TreeKey::TagFolder(name, tag).key()).await?;
        Ok(deleted)
    }
}
