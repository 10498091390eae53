//! The tags of a damaged manifest, by which users know it.

use std::sync::atomic::Ordering;

use super::{
    Verifier,
    finding::{Finding, Kind, MAX_TAGS},
    target::Target,
};
use crate::{
    oci::{Digest, RepositoryName, Tag},
    registry::{
        Error,
        tree::{CURRENT, TreeKey},
    },
};

/// How many tags a listing reads at a time.
const BATCH: usize = 1000;

/// The limit of searches for tags, each of which reads all tags of a repository.
const SEARCHES: usize = 1000;

impl Verifier<'_> {
    /// Adds the tags of an incomplete manifest to its finding, so that users know which image to push
    /// again.
    pub(super) async fn name_image(&self, target: &Target, finding: &mut Finding) {
        let Target::Manifest(name, digest) = target else { return };
        if finding.kind != Kind::ManifestIncomplete
            || self.searches.fetch_add(1, Ordering::Relaxed) >= SEARCHES
        {
            return;
        }
        // The finding holds without tags too, and unreadable tags have findings of their own.
        finding.tags = self.tags_of(name, digest).await.unwrap_or_default();
    }

    async fn tags_of(&self, name: &RepositoryName, digest: &Digest) -> Result<Vec<Tag>, Error> {
        let folder = TreeKey::Tags(name).key();
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let held = self.storage().list_holders(&folder, CURRENT, after.as_deref(), BATCH);
            let names = held.await?.names;
            let Some(last) = names.last() else { return Ok(found) };
            after = Some(last.clone());
            for tag in names.iter().filter_map(|name| name.parse::<Tag>().ok()) {
                if self.tree.link(TreeKey::TagCurrent(name, &tag)).await?.as_ref() == Some(digest) {
                    found.push(tag);
                }
                if found.len() == MAX_TAGS {
                    return Ok(found);
                }
            }
        }
    }
}
