//! The tags of a repository.

use super::Lists;
use crate::{
    oci::{RepositoryName, Tag},
    registry::{
        Error, Page,
        tree::{CURRENT, TreeKey},
    },
};

impl Lists {
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
        // One tag more than `limit` shows whether the list goes on.
        while tags.len() <= limit {
            let wanted = limit + 1 - tags.len();
            let folder = TreeKey::Tags(name).key();
            // A deletion that a crash cut short leaves a folder without a link.
            let held = self.tree.storage().list_holders(&folder, CURRENT, after.as_deref(), wanted);
            let held = held.await?;
            if held.objects > 0 {
                self.tree.skip(&folder, "files among the tags of a repository");
            }
            let Some(last) = held.names.last() else { break };
            after = Some(last.clone());
            for name in held.names {
                match name.parse::<Tag>() {
                    Ok(tag) => tags.push(tag),
                    Err(_) => {
                        self.tree.skip(&folder.child(&name), "a folder that no tag can be called")
                    }
                }
            }
        }
        if tags.is_empty() && !self.repository_exists(name).await? {
            return Ok(None);
        }
        Ok(Some(Page::cut(tags, limit)))
    }

    /// Whether a repository has content or folders of former content.
    async fn repository_exists(&self, name: &RepositoryName) -> Result<bool, Error> {
        for place in [TreeKey::Manifests(name), TreeKey::Layers(name)] {
            if !self.tree.storage().list(&place.key(), None, 1).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
