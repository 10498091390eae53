//! The catalog: the repositories that have a manifest.

use super::{
    Error, Page, Registry,
    layout::{Place, repositories},
};
use crate::{
    oci::{Algorithm, RepositoryName},
    storage::Key,
};

impl Registry {
    /// Up to `limit` repositories behind `after` whose name contains `term`, in the order of their
    /// bytes. A repository whose last manifest was deleted is not among them.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn repositories(
        &self,
        after: Option<&str>,
        term: &str,
        limit: usize,
    ) -> Result<Page<RepositoryName>, Error> {
        let mut names = Vec::new();
        let mut walk = Walk { registry: self, after: after.unwrap_or_default(), pending: vec![] };
        walk.enter("", &repositories()).await?;
        while names.len() <= limit {
            let Some(name) = walk.next().await? else {
                break;
            };
            if name.as_str().contains(term) && self.has_manifest(&name).await? {
                names.push(name);
            }
        }
        Ok(Page::cut(names, limit))
    }

    async fn has_manifest(&self, name: &RepositoryName) -> Result<bool, Error> {
        for algorithm in Algorithm::ALL {
            let revisions = Place::Revisions(name, algorithm).key();
            let mut after = None;
            loop {
                let entries = self.storage().list(&revisions, after.as_deref(), 100).await?;
                let Some(last) = entries.last() else { break };
                after = Some(last.name.clone());
                for entry in entries {
                    // registry:2 leaves the folder of a manifest that it deleted.
                    let link = revisions.child(&entry.name).child("link");
                    if self.storage().size(&link).await?.is_some() {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }
}

/// Goes through the folders of repositories so that names come out in the order of their bytes.
struct Walk<'a> {
    registry: &'a Registry,
    after: &'a str,
    /// What is left to visit, the next one last: names, and prefixes that end in `/`.
    pending: Vec<String>,
}

impl Walk<'_> {
    async fn next(&mut self) -> Result<Option<RepositoryName>, Error> {
        while let Some(next) = self.pending.pop() {
            if next.ends_with('/') {
                let key = repositories().child(next.trim_end_matches('/'));
                self.enter(&next, &key).await?;
            } else if next.as_str() > self.after
                && let Ok(name) = next.parse()
            {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Adds what is in a folder. Each child stands there twice, as a repository and as a folder of
    /// repositories, for `a-b` belongs between `a` and `a/b`.
    async fn enter(&mut self, prefix: &str, folder: &Key) -> Result<(), Error> {
        let entries = self.registry.storage().list(folder, None, usize::MAX).await?;
        let mut found: Vec<String> = entries
            .into_iter()
            .filter(|entry| entry.is_prefix && !entry.name.starts_with('_'))
            .flat_map(|entry| {
                let name = format!("{prefix}{}", entry.name);
                [format!("{name}/"), name]
            })
            // All that begins with a prefix is before `after` when the prefix is, unless `after`
            // begins with it too.
            .filter(|name| name.as_str() > self.after || self.after.starts_with(name.as_str()))
            .collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        self.pending.append(&mut found);
        Ok(())
    }
}
