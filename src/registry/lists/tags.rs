//! Tags: names for manifests, which can be moved.

use serde::Deserialize;
use tokio::sync::mpsc;

use crate::{
    oci::{Digest, RepositoryName, Tag},
    registry::{
        Error, Page, Registry, RetentionOptions, TagSelector,
        tree::{CURRENT, TreeKey},
    },
};

/// What `storage` says about tags. The keys are ours.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TagRules {
    /// `storage.immutabletags`: tags that stay what they were first pushed as, until they are
    /// deleted.
    pub immutabletags: Vec<TagSelector>,
    /// `storage.retention`: tags that go by themselves.
    pub retention: RetentionOptions,
}

/// How many tags are looked at together when all of them must be.
const BATCH: usize = 1000;

impl Registry {
    /// Up to `limit` tags of a repository behind `after` (end-8); `None` when there is no such
    /// repository.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn tags(
        &self,
        name: &RepositoryName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page<Tag>>, Error> {
        let mut tags = Vec::new();
        let mut after = after.map(str::to_owned);
        // One more than asked for tells whether there are more.
        while tags.len() <= limit {
            let wanted = limit + 1 - tags.len();
            let folder = TreeKey::Tags(name).key();
            // A deletion that a crash cut short leaves a folder without a link.
            let held = self.storage().list_holders(&folder, CURRENT, after.as_deref(), wanted);
            let held = held.await?;
            if held.objects > 0 {
                self.skip(&folder, "files among the tags of a repository");
            }
            let Some(last) = held.names.last() else { break };
            after = Some(last.clone());
            for name in held.names {
                match name.parse::<Tag>() {
                    Ok(tag) => tags.push(tag),
                    Err(_) => self.skip(&folder.child(&name), "a folder that no tag can be called"),
                }
            }
        }
        if tags.is_empty() && !self.repository_exists(name).await? {
            return Ok(None);
        }
        Ok(Some(Page::cut(tags, limit)))
    }

    /// Whether anything was ever pushed to a repository that has not been removed altogether.
    async fn repository_exists(&self, name: &RepositoryName) -> Result<bool, Error> {
        for place in [TreeKey::Manifests(name), TreeKey::Layers(name)] {
            if !self.storage().list(&place.key(), None, 1).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes a tag from a repository and leaves the manifest (end-9); `false` when it was not
    /// there.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<bool, Error> {
        let (registry, name, tag) = (self.clone(), name.clone(), tag.clone());
        self.detached(async move {
            let _guard = registry.deleting(&name).await?;
            registry.remove_tag(&name, &tag).await
        })
        .await
    }

    /// Makes a tag name a manifest that is there. The caller holds the lock for adding.
    pub(in crate::registry) async fn set_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<(), Error> {
        // registry:2 keeps what a tag ever named; its collector may delete a revision that the
        // index of no tag names, so the index comes first.
        self.set_link(TreeKey::TagIndex(name, tag, digest), digest).await?;
        self.extend_released(name, tag, Some(digest)).await?;
        self.set_link(TreeKey::TagCurrent(name, tag), digest).await
    }

    /// Takes every tag from a manifest. The caller holds the lock for deleting.
    pub(in crate::registry) async fn remove_tags_of(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        untagged: Option<&mpsc::Sender<Tag>>,
    ) -> Result<(), Error> {
        let mut after = None;
        loop {
            let tags = TreeKey::Tags(name).key();
            let entries = self.storage().list(&tags, after.as_deref(), BATCH).await?;
            let Some(last) = entries.last() else {
                return Ok(());
            };
            after = Some(last.name.clone());
            for entry in entries {
                let Ok(tag) = entry.name.parse::<Tag>() else {
                    continue;
                };
                if self.link(TreeKey::TagCurrent(name, &tag)).await?.as_ref() == Some(digest) {
                    self.remove_tag(name, &tag).await?;
                    if let Some(untagged) = untagged {
                        // Whether anybody listens is not our concern.
                        let _ = untagged.send(tag).await;
                    }
                }
            }
        }
    }

    /// Takes a tag away. The caller holds the lock for deleting.
    pub(in crate::registry) async fn remove_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
    ) -> Result<bool, Error> {
        self.extend_released(name, tag, None).await?;
        // With this link the tag is gone; the rest is tidying up.
        let deleted = self.storage().delete(&TreeKey::TagCurrent(name, tag).key()).await?;
        self.storage().delete_all(&TreeKey::TagFolder(name, tag).key()).await?;
        Ok(deleted)
    }
}
