//! Usage: the blobs that each repository holds, and their bytes.
//!
//! A repository holds a blob when it has a link to it, whether or not a manifest references the blob, and
//! it holds its manifests, which are stored as blobs too. A blob counts once in a repository.

use std::{collections::HashSet, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Error,
    tree::{LINK, Tree, TreeKey, link},
    walk::{Folders, RepositoryFolder},
};
use crate::{
    oci::{Algorithm, Digest, RepositoryName},
    storage::{ErrorKind, Key, Look},
};

/// How many sizes are asked for at once.
const LOOKS: usize = 16;

const LAYERS: &str = "_layers";
const REVISIONS: &str = "_manifests/revisions";

/// What a repository holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Its blobs, manifests included.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Receives the usage of all repositories while it is counted.
pub trait UsageObserver: Send {
    /// Receives a blob of the next repository, once, with its size.
    fn blob(&mut self, digest: &Digest, bytes: u64);

    /// Receives the repository whose blobs came before: its folder, which another registry may have given
    /// a name that is invalid here, and its usage.
    fn repository(&mut self, folder: &str, used: Used);
}

/// Counts the usage of repositories, from storage. The memory that a count takes grows with the blobs of
/// one repository.
#[derive(Debug)]
pub struct Usage {
    tree: Arc<Tree>,
}

impl Usage {
    pub(super) const fn new(tree: Arc<Tree>) -> Self {
        Self { tree }
    }

    /// Counts the usage of every repository.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn of_all(&self, observer: &mut dyn UsageObserver) -> Result<(), Error> {
        let mut folders = Folders::new();
        while let Some(batch) = folders.next(&self.tree).await? {
            for place in batch {
                let mut blob = |digest: &Digest, bytes| observer.blob(digest, bytes);
                let used = self.count(&place.folder, &mut blob).await?;
                if used.blobs > 0 {
                    observer.repository(&place.text, used);
                }
            }
        }
        Ok(())
    }

    /// The usage of one repository.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn of(&self, name: &RepositoryName) -> Result<Used, Error> {
        self.count(&RepositoryFolder::of(name).folder, &mut |_, _| {}).await
    }

    async fn count(
        &self,
        repository: &Key,
        blob: &mut (dyn FnMut(&Digest, u64) + Send),
    ) -> Result<Used, Error> {
        let digests = self.digests(repository).await?;
        let sizes = stream::iter(digests).map(|digest| async move {
            let size = self.tree.storage().size(&TreeKey::Data(&digest).key()).await?;
            Ok::<_, Error>((digest, size))
        });
        let mut sizes = sizes.buffer_unordered(LOOKS);
        let mut used = Used::default();
        while let Some((digest, size)) = sizes.try_next().await? {
            // A link whose bytes are missing holds nothing.
            let Some(bytes) = size else { continue };
            used.blobs += 1;
            used.bytes += bytes;
            blob(&digest, bytes);
        }
        Ok(used)
    }

    /// The digests that the links of a repository lead to.
    async fn digests(&self, repository: &Key) -> Result<HashSet<Digest>, Error> {
        let folder =
            |part: &str, algorithm: Algorithm| repository.child(part).child(algorithm.as_str());
        let places = Algorithm::ALL.into_iter().flat_map(|algorithm| {
            [LAYERS, REVISIONS].map(|part| (part, algorithm, folder(part, algorithm)))
        });
        let places: Vec<_> = places.collect();
        let look =
            |(_, _, folder): &(_, _, Key)| Look { folder: folder.clone(), object: Some(LINK) };
        let seen = self.tree.storage().survey(places.iter().map(look).collect()).await?;
        let mut digests = HashSet::new();
        for ((part, algorithm, folder), seen) in places.into_iter().zip(seen) {
            for name in seen.into_iter().map(|seen| seen.name) {
                let Ok(digest) = Digest::from_parts(algorithm.as_str(), &name) else { continue };
                // registry:2 links a sha512 name to sha256 content.
                let is_alias = part == LAYERS && algorithm != Algorithm::Sha256;
                digests.extend(match is_alias {
                    true => self.target(&folder.child(&name).child(LINK)).await?,
                    false => Some(digest),
                });
            }
        }
        Ok(digests)
    }

    async fn target(&self, link: &Key) -> Result<Option<Digest>, Error> {
        match self.tree.storage().read(link, link::MAX_LEN).await {
            Ok(content) => Ok(content.and_then(|content| link::parse(&content))),
            Err(error) if error.kind() == ErrorKind::TooLong => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        registry::{Options, Registry, SystemClock},
        storage::{Durability, Storage as _, memory::Memory},
    };

    #[tokio::test]
    async fn blob_under_two_digests_counts_once() {
        let memory = Memory::default();
        let put = async |key: Key, bytes: String| {
            memory.put(&key, Bytes::from(bytes), Durability::Lazy).await.unwrap();
        };
        let name: RepositoryName = "app".parse().unwrap();
        let sha256 = Digest::of(Algorithm::Sha256, b"abc");
        let sha512 = Digest::of(Algorithm::Sha512, b"abc");
        put(TreeKey::Data(&sha256).key(), "abc".to_owned()).await;
        put(TreeKey::Layer(&name, &sha256).key(), sha256.to_string()).await;
        // As registry:2 links it.
        put(TreeKey::Layer(&name, &sha512).key(), sha256.to_string()).await;
        // A manifest that is also a blob, and a link without bytes.
        put(TreeKey::Revision(&name, &sha256).key(), sha256.to_string()).await;
        let missing = Digest::of(Algorithm::Sha256, b"missing");
        put(TreeKey::Layer(&name, &missing).key(), missing.to_string()).await;
        let storage = Arc::new(memory.clone());
        let registry = Registry::new(storage, Arc::new(SystemClock), Options::default());
        assert_eq!(registry.usage().of(&name).await.unwrap(), Used { blobs: 1, bytes: 3 });
        let absent = "absent".parse().unwrap();
        assert_eq!(registry.usage().of(&absent).await.unwrap(), Used::default());
    }
}
