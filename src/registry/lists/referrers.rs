//! Referrers: the manifests whose `subject` is a given digest (distribution-spec, "Listing
//! Referrers").
//!
//! A put enters a manifest under its subject. The entry is a hint: a list reads the manifest of each
//! entry and leaves out deleted ones. Manifests that registry:2 stored have no entry; the first list of
//! a repository enters them.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use moka::sync::Cache;

use super::Lists;
use crate::{
    oci::{Algorithm, Digest, Manifest, RepositoryName},
    registry::{
        Error,
        tree::{LINK, TreeKey},
    },
};

/// How many entries a listing reads at a time.
const BATCH: usize = 100;

/// How many manifests are read at once.
const LOOKUPS: usize = 16;

/// The repositories whose referrers are all entered.
///
/// The tree cannot record this, because registry:2 may store more manifests while this server is
/// stopped. A repository that this cache drops is looked through once more.
#[derive(Debug)]
pub(super) struct Entered(Cache<RepositoryName, ()>);

impl Default for Entered {
    fn default() -> Self {
        Self(Cache::new(100_000))
    }
}

impl Entered {
    /// Drops a repository that has been deleted.
    pub(super) fn forget(&self, name: &RepositoryName) {
        self.0.invalidate(name);
    }
}

/// The limit for the descriptors of a page: a client may refuse an index larger than the largest
/// manifest.
const MAX_PAGE_BYTES: usize = Manifest::MAX_SIZE - 1024;

/// A page of a list of referrers.
#[derive(Clone, Debug, Default)]
pub struct Referrers {
    /// The descriptors, as JSON.
    pub descriptors: Vec<String>,
    /// The referrer behind which the next page begins, if there is a next page.
    pub next: Option<Digest>,
}

impl Lists {
    /// The manifests of a repository that refer to `subject`, behind `after`, of one artifact type
    /// where the client names one (end-12). Empty for a subject without referrers.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Digest>,
    ) -> Result<Referrers, Error> {
        self.complete_referrers(name).await?;
        let mut page = Referrers::default();
        let mut length = 0;
        let mut last = after.cloned();
        for algorithm in Algorithm::ALL {
            if after.is_some_and(|after| after.algorithm() > algorithm) {
                continue;
            }
            let folder = TreeKey::ReferrersOf(name, subject, algorithm).key();
            let mut behind = after
                .filter(|after| after.algorithm() == algorithm)
                .map(|after| after.hex().to_owned());
            loop {
                let held =
                    self.tree.storage().list_holders(&folder, LINK, behind.as_deref(), BATCH);
                let entries = held.await?.names;
                let Some(end) = entries.last() else { break };
                behind = Some(end.clone());
                for hex in entries {
                    let Ok(digest) = Digest::from_parts(algorithm.as_str(), &hex) else {
                        continue;
                    };
                    let Some(json) = self.referrer(name, &digest, artifact_type).await? else {
                        continue;
                    };
                    length += json.len() + 1;
                    if length > MAX_PAGE_BYTES && !page.descriptors.is_empty() {
                        page.next = last;
                        return Ok(page);
                    }
                    page.descriptors.push(json);
                    last = Some(digest);
                }
            }
        }
        Ok(page)
    }

    /// The descriptor of a referrer, if the manifest exists and has the wanted type.
    async fn referrer(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<String>, Error> {
        let Some(content) = self.manifests.revision(name, digest).await? else {
            return Ok(None);
        };
        let Ok(manifest) = Manifest::parse(&content.bytes, None) else {
            return Ok(None);
        };
        if artifact_type.is_some() && manifest.artifact_type() != artifact_type {
            return Ok(None);
        }
        let json = serde_json::to_string(&manifest.referrer(digest, content.bytes.len()));
        Ok(json.ok())
    }

    /// Enters the revisions that another registry stored, once per repository and process.
    async fn complete_referrers(&self, name: &RepositoryName) -> Result<(), Error> {
        let Entered(entered) = &self.entered;
        if entered.contains_key(name) {
            return Ok(());
        }
        let mut found = false;
        for algorithm in Algorithm::ALL {
            let folder = TreeKey::Revisions(name, algorithm).key();
            let mut after = None;
            loop {
                let entries = self.tree.storage().list(&folder, after.as_deref(), BATCH).await?;
                let Some(last) = entries.last() else { break };
                after = Some(last.name.clone());
                let digests: Vec<Digest> = entries
                    .iter()
                    .filter_map(|entry| Digest::from_parts(algorithm.as_str(), &entry.name).ok())
                    .collect();
                found |= !digests.is_empty();
                stream::iter(digests)
                    .map(|digest| async move { self.enter_referrer(name, &digest).await })
                    .buffer_unordered(LOOKUPS)
                    .try_collect::<()>()
                    .await?;
            }
        }
        // Clients may ask about repositories that do not exist; the cache does not record those.
        if found {
            entered.insert(name.clone(), ());
        }
        Ok(())
    }

    async fn enter_referrer(&self, name: &RepositoryName, digest: &Digest) -> Result<(), Error> {
        let Some(content) = self.manifests.revision(name, digest).await? else {
            return Ok(());
        };
        let Ok(manifest) = Manifest::parse(&content.bytes, None) else {
            return Ok(());
        };
        let Some(subject) = manifest.subject().map(|subject| &subject.digest) else {
            return Ok(());
        };
        let place = TreeKey::Referrer { name, subject, referrer: digest };
        if self.tree.storage().size(&place.key()).await?.is_some() {
            return Ok(());
        }
        // A revision that has gone since it was read must not be entered any more.
        let revision = TreeKey::Revision(name, digest).key();
        let _inside = self.tree.inside(name).await?;
        if self.tree.storage().size(&revision).await?.is_some() {
            self.tree.enter(place, digest).await?;
        }
        Ok(())
    }
}
