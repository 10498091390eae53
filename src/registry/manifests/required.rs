//! Completeness: the content that a manifest requires its repository to have.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Manifests;
use crate::{
    oci::{Digest, ManifestKind, RepositoryName},
    registry::{Error, tree::TreeKey},
};

/// How many descriptors of a manifest are looked up at once.
const LOOKUPS: usize = 16;

/// The result of a look for digests in a repository.
#[derive(Debug, Default)]
pub(in crate::registry) struct Presence {
    /// The digests that the repository does not have.
    pub(in crate::registry) absent: Vec<Digest>,
    /// The targets of the links of the others.
    pub(in crate::registry) bytes: Vec<Digest>,
}

impl Presence {
    fn add(&mut self, found: Found) {
        match found {
            Found::Bytes(digest) => self.bytes.push(digest),
            Found::Nothing(digest) => self.absent.push(digest),
        }
    }
}

enum Found {
    Bytes(Digest),
    Nothing(Digest),
}

impl Manifests {
    /// Refuses a manifest that requires content the repository does not have; else returns the digests
    /// of the bytes of that content.
    pub(super) async fn refuse_incomplete(
        &self,
        name: &RepositoryName,
        kind: &ManifestKind,
    ) -> Result<Vec<Digest>, Error> {
        let Presence { absent, bytes } = self.presence(name, kind).await?;
        if absent.is_empty() { Ok(bytes) } else { Err(Error::ManifestBlobUnknown(absent)) }
    }

    /// Looks for the content that a manifest requires.
    pub(in crate::registry) async fn presence(
        &self,
        name: &RepositoryName,
        kind: &ManifestKind,
    ) -> Result<Presence, Error> {
        let needed = self.needed(kind);
        match kind {
            ManifestKind::Index { .. } => self.presence_of_children(name, needed).await,
            ManifestKind::Image { .. } | ManifestKind::Artifact { .. } => {
                self.presence_of_blobs(name, needed).await
            }
        }
    }

    /// Looks for blobs in a repository.
    pub(in crate::registry) async fn presence_of_blobs(
        &self,
        name: &RepositoryName,
        blobs: BTreeSet<Digest>,
    ) -> Result<Presence, Error> {
        let mut found = stream::iter(blobs)
            .map(|digest| async move {
                let bytes = self.bytes_at(TreeKey::Layer(name, &digest)).await?;
                Ok::<_, Error>(bytes.map_or(Found::Nothing(digest), Found::Bytes))
            })
            .buffered(LOOKUPS);
        let mut presence = Presence::default();
        while let Some(found) = found.try_next().await? {
            presence.add(found);
        }
        Ok(presence)
    }

    /// Looks for the children of an index in a repository. A child may be a manifest or a blob:
    /// `BuildKit` exports build caches as indexes of layers. registry:2 looks in the same two places.
    pub(in crate::registry) async fn presence_of_children(
        &self,
        name: &RepositoryName,
        children: BTreeSet<Digest>,
    ) -> Result<Presence, Error> {
        let mut found = stream::iter(children)
            .map(|digest| async move {
                let bytes = match self.bytes_at(TreeKey::Revision(name, &digest)).await? {
                    Some(bytes) => Some(bytes),
                    None => self.bytes_at(TreeKey::Layer(name, &digest)).await?,
                };
                Ok::<_, Error>(bytes.map_or(Found::Nothing(digest), Found::Bytes))
            })
            .buffered(LOOKUPS);
        let mut presence = Presence::default();
        while let Some(found) = found.try_next().await? {
            presence.add(found);
        }
        Ok(presence)
    }

    /// The target of a link, if its bytes exist.
    async fn bytes_at(&self, place: TreeKey<'_>) -> Result<Option<Digest>, Error> {
        let Some(target) = self.tree.link(place).await? else { return Ok(None) };
        let size = self.tree.storage().size(&TreeKey::Data(&target).key()).await?;
        Ok(size.map(|_| target))
    }

    /// The digests that a manifest requires the repository to have. Its subject may be absent, and so
    /// may layers with an address elsewhere (distribution-spec, "Pushing Manifests").
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
