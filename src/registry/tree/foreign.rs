//! Links by digests of algorithms that are unknown here, such as sha384, which registry:2 takes: what
//! they are needed for is not known, so they stay, and what they lead to.

use super::{LINK, Tree};
use crate::{
    oci::Algorithm,
    registry::Error,
    storage::{Entry, Key},
};

/// How many names are looked at together.
const BATCH: usize = 1000;

/// A link by a digest of an unknown algorithm.
#[derive(Clone, Debug)]
pub(in crate::registry) struct ForeignLink {
    /// The digest, as the folders are called.
    pub(in crate::registry) digest: String,
    /// Where the link file would be. It is not there where the algorithm has a name of several parts,
    /// each of which is a folder.
    pub(in crate::registry) key: Key,
}

impl Tree {
    /// The links in a folder of links (`_layers`, `_manifests/revisions`) by digests of unknown
    /// algorithms. Folders in which nothing is left are none.
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
