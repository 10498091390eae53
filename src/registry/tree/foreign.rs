//! Links by digests of algorithms that are unknown here, such as sha384, which registry:2 accepts. Their
//! use is unknown, so garbage collection keeps them and their targets.

use super::{LINK, Tree};
use crate::{
    oci::Algorithm,
    registry::Error,
    storage::{Entry, Key},
};

/// How many names a listing reads at a time.
const BATCH: usize = 1000;

/// A link by a digest of an unknown algorithm.
#[derive(Clone, Debug)]
pub(in crate::registry) struct ForeignLink {
    /// The digest, from the names of the folders.
    pub(in crate::registry) digest: String,
    /// The key of the link file. The file is missing where the name of the algorithm has several parts,
    /// each of which is a folder.
    pub(in crate::registry) key: Key,
}

impl Tree {
    /// The links in a folder of links (`_layers`, `_manifests/revisions`) by digests of unknown
    /// algorithms, without empty folders.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub(in crate::registry) async fn foreign_links(
        &self,
        folder: &Key,
    ) -> Result<Vec<ForeignLink>, Error> {
        let mut found = Vec::new();
        for algorithm in self.folders_in(folder).await? {
            if algorithm.parse::<Algorithm>().is_ok() {
                continue;
            }
            let links = folder.child(&algorithm);
            for hex in self.folders_in(&links).await? {
                let folder = links.child(&hex);
                if !self.storage().list(&folder, None, 1).await?.is_empty() {
                    let digest = format!("{algorithm}:{hex}");
                    found.push(ForeignLink { digest, key: folder.child(LINK) });
                }
            }
        }
        Ok(found)
    }

    async fn folders_in(&self, folder: &Key) -> Result<Vec<String>, Error> {
        let mut folders = Vec::new();
        let mut after = None;
        loop {
            let entries = self.storage().list(folder, after.as_deref(), BATCH).await?;
            let Some(last) = entries.last() else { return Ok(folders) };
            after = Some(last.name.clone());
            let is_folder = |entry: &Entry| entry.is_prefix;
            folders.extend(entries.into_iter().filter(is_folder).map(|entry| entry.name));
        }
    }
}
