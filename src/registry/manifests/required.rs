//! What a manifest requires its repository to have.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Manifests;
use crate::{
    oci::{Digest, ManifestKind, RepositoryName},
    registry::{Error, tree::TreeKey},
};

/// How many descriptors of a manifest are looked up at once.
const LOOKUPS: usize = 16;

impl Manifests {
    /// Refuses a manifest that refers to something the repository does not have.
    pub(super) async fn refuse_incomplete(
        &self,
        name: &RepositoryName,
        kind: &ManifestKind,
    ) -> Result<(), Error> {
        let missing = self.missing(name, kind).await?;
        if missing.is_empty() { Ok(()) } else { Err(Error::ManifestBlobUnknown(missing)) }
    }

    /// What a manifest needs and the repository does not have.
    pub(in crate::registry) async fn missing(
        &self,
        name: &RepositoryName,
        kind: &ManifestKind,
    ) -> Result<Vec<Digest>, Error> {
        let needed = self.needed(kind);
        match kind {
            ManifestKind::Index { .. } => self.absent_children(name, needed).await,
            ManifestKind::Image { .. } | ManifestKind::Artifact { .. } => {
                self.absent_blobs(name, needed).await
            }
        }
    }

    /// Those of some blobs that a repository does not have.
    pub(in crate::registry) async fn absent_blobs(
        &self,
        name: &RepositoryName,
        blobs: BTreeSet<Digest>,
    ) -> Result<Vec<Digest>, Error> {
        let absent: Vec<Option<Digest>> = stream::iter(blobs)
            .map(|digest| async move {
                let is_here = self.is_here(TreeKey::Layer(name, &digest)).await?;
                Ok::<_, Error>((!is_here).then_some(digest))
            })
            .buffered(LOOKUPS)
            .try_collect()
            .await?;
        Ok(absent.into_iter().flatten().collect())
    }

    /// Those of some children of an index that a repository does not have. A blob is a child as well
    /// as a manifest is: `BuildKit` exports build caches as indexes of layers. registry:2 looks in the
    /// same two places.
    pub(in crate::registry) async fn absent_children(
        &self,
        name: &RepositoryName,
        children: BTreeSet<Digest>,
    ) -> Result<Vec<Digest>, Error> {
        let absent: Vec<Option<Digest>> = stream::iter(children)
            .map(|digest| async move {
                let is_here = self.is_here(TreeKey::Revision(name, &digest)).await?
                    || self.is_here(TreeKey::Layer(name, &digest)).await?;
                Ok::<_, Error>((!is_here).then_some(digest))
            })
            .buffered(LOOKUPS)
            .try_collect()
            .await?;
        Ok(absent.into_iter().flatten().collect())
    }

    /// Whether there is a link at a place, and the bytes that it leads to.
    async fn is_here(&self, place: TreeKey<'_>) -> Result<bool, Error> {
        match self.tree.link(place).await? {
            Some(target) => {
                Ok(self.tree.storage().size(&TreeKey::Data(&target).key()).await?.is_some())
            }
            None => Ok(false),
        }
    }

    /// What a manifest needs the repository to have. Its subject may be absent, and so may layers
    /// that say where else they can be had (distribution-spec, "Pushing Manifests").
    pub(in crate::registry) fn needed(&self, kind: &ManifestKind) -> BTreeSet<Digest> {
        match kind {
            ManifestKind::Image { config, layers } => std::iter::once(config)
                .chain(layers.iter().filter(|layer| !layer.is_foreign()))
                .map(|descriptor| descriptor.digest.clone())
                .collect(),
            ManifestKind::Index { manifests } => manifests
                .iter()
                .filter(|child| self.policy.needs(child))
                .map(|descriptor| descriptor.digest.clone())
                .collect(),
            ManifestKind::Artifact { blobs } => {
                blobs.iter().map(|descriptor| descriptor.digest.clone()).collect()
            }
        }
    }
}
