//! Manifests: kept byte for byte, taken only when all they refer to is there.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;

use self::cache::Content;
use super::{Error, Registry, tree::TreeKey};
use crate::{
    oci::{Algorithm, Digest, Manifest, ManifestKind, Reference, References, RepositoryName, Tag},
    storage::{Durability, ErrorKind},
};

mod cache;
mod immutable;
mod last_pulled;
mod policy;

pub(super) use self::{
    cache::ManifestCache, immutable::ImmutableTags, last_pulled::LastPulled, policy::ManifestPolicy,
};
pub use self::{
    immutable::TagImmutable,
    policy::{
        IndexRules, ManifestRules, Pattern, Platforms, PolicyOptions, RepositoryPolicy,
        Unacceptable, UrlRules, Validation,
    },
};

/// Stored manifests longer than this are not served: none was ever accepted, here or by registry:2.
pub(super) const MAX_STORED: usize = 2 * Manifest::MAX_SIZE;

/// How many descriptors of a manifest are looked up at once.
const LOOKUPS: usize = 16;

/// How many tags of a manifest are set at once: syncs that run together share their cost.
const TAGS: usize = 8;

/// A manifest as it was pushed.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// What to send as `Content-Type`.
    pub media_type: Arc<str>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A manifest to be put.
#[derive(Clone, Debug)]
pub struct Put {
    /// What it is put at.
    pub reference: Reference,
    /// Tags that it gets besides (end-7, `?tag=`).
    pub tags: Vec<Tag>,
    /// The `Content-Type` that it came with.
    pub content_type: Option<String>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What was made of a manifest that was put.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its digest.
    pub digest: Digest,
    /// The digest of its subject.
    pub subject: Option<Digest>,
}

impl Registry {
    /// A manifest of a repository (end-3).
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<StoredManifest>, Error> {
        let mut tried = None;
        loop {
            let digest = match reference {
                Reference::Digest(digest) => digest.clone(),
                Reference::Tag(tag) => match self.link(TreeKey::TagCurrent(name, tag)).await? {
                    Some(digest) => digest,
                    None => return Ok(None),
                },
            };
            if tried.as_ref() == Some(&digest) {
                if let Reference::Tag(tag) = reference {
                    let key = TreeKey::TagCurrent(name, tag).key();
                    self.skip(&key, "a tag of a manifest that is not there");
                }
                return Ok(None);
            }
            if let Some(content) = self.revision(name, &digest).await? {
                let Content { bytes, media_type } = &*content;
                let (bytes, media_type) = (bytes.clone(), Arc::clone(media_type));
                return Ok(Some(StoredManifest { digest, media_type, bytes }));
            }
            // Between the two looks the tag may have moved, and its old manifest gone.
            tried = Some(digest);
        }
    }

    /// The content of a manifest that belongs to a repository.
    pub(super) async fn revision(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Arc<Content>>, Error> {
        let place = TreeKey::Revision(name, digest);
        let Some(target) = self.link(place).await? else {
            return Ok(None);
        };
        if let Some(content) = self.0.contents.find(&target) {
            return Ok(Some(content));
        }
        let why = match self.storage().read(&TreeKey::Data(&target).key(), MAX_STORED).await {
            Ok(Some(bytes)) => return Ok(Some(self.0.contents.keep(&target, bytes))),
            Ok(None) => "a link to a manifest whose bytes are not there",
            Err(error) if error.kind() == ErrorKind::TooLong => {
                "a link to something longer than a manifest may be"
            }
            Err(error) => return Err(error.into()),
        };
        self.skip(&place.key(), why);
        Ok(None)
    }

    /// Puts a manifest at a tag or at its digest (end-7). It is done to its end even when the
    /// caller goes away.
    ///
    /// # Errors
    ///
    /// When the bytes are no manifest, are not what the digest says, or refer to something that
    /// the repository does not have; when a tag is immutable and names something else; when storage
    /// fails. Then nothing has changed that a client
    /// can see.
    pub async fn put_manifest(&self, name: &RepositoryName, put: Put) -> Result<Accepted, Error> {
        let (registry, name) = (self.clone(), name.clone());
        self.detached(async move { registry.accept_manifest(&name, put).await }).await
    }

    async fn accept_manifest(&self, name: &RepositoryName, put: Put) -> Result<Accepted, Error> {
        let Put { reference, mut tags, content_type, bytes } = put;
        let digest = match reference {
            Reference::Digest(claimed) => {
                let computed = Digest::of(claimed.algorithm(), &bytes);
                if computed != claimed {
                    return Err(Error::DigestMismatch { claimed, computed });
                }
                computed
            }
            Reference::Tag(tag) => {
                tags.push(tag);
                Digest::of(Algorithm::default(), &bytes)
            }
        };
        let manifest = Manifest::parse(&bytes, content_type.as_deref())?;
        self.0.acceptance.judge(&manifest)?;
        let subject = manifest.subject().map(|subject| subject.digest.clone());

        let (_claimed, _shared);
        if self.0.immutable.are_among(name, &tags) {
            _claimed = self.claiming(name).await?;
            self.refuse_moved(name, &tags, (&digest, &bytes)).await?;
        } else {
            _shared = self.adding(name).await?;
        }
        let _bytes = self.linking(&digest).await?;
        self.refuse_incomplete(name, manifest.kind()).await?;
        self.storage().put(&TreeKey::Data(&digest).key(), bytes, Durability::Synced).await?;
        if let Some(subject) = &subject {
            // Before the revision: an entry whose revision is missing is passed over, a revision
            // whose entry is missing would never be found.
            let place = TreeKey::Referrer { name, subject, referrer: &digest };
            self.enter(place, &digest).await?;
        }
        self.set_link(TreeKey::Revision(name, &digest), &digest).await?;
        let target = &digest;
        stream::iter(tags)
            .map(|tag| async move { self.set_tag(name, &tag, target).await })
            .buffer_unordered(TAGS)
            .try_collect::<()>()
            .await?;
        Ok(Accepted { digest, subject })
    }

    /// Refuses a manifest that refers to something the repository does not have.
    async fn refuse_incomplete(
        &self,
        name: &RepositoryName,
        kind: &ManifestKind,
    ) -> Result<(), Error> {
        let missing = self.missing(name, kind).await?;
        if missing.is_empty() { Ok(()) } else { Err(Error::ManifestBlobUnknown(missing)) }
    }

    /// What a manifest needs and the repository does not have.
    pub(super) async fn missing(
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
    pub(super) async fn absent_blobs(
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
    pub(super) async fn absent_children(
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
        match self.link(place).await? {
            Some(target) => Ok(self.storage().size(&TreeKey::Data(&target).key()).await?.is_some()),
            None => Ok(false),
        }
    }

    /// Takes a manifest and its tags from a repository (end-9); `false` when it was not there. Where
    /// somebody wants to know, `untagged` is told each tag when it has gone.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        untagged: Option<mpsc::Sender<Tag>>,
    ) -> Result<bool, Error> {
        let (registry, name, digest) = (self.clone(), name.clone(), digest.clone());
        let work = async move { registry.remove_manifest(&name, &digest, untagged).await };
        self.detached(work).await
    }

    async fn remove_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        untagged: Option<mpsc::Sender<Tag>>,
    ) -> Result<bool, Error> {
        let _guard = self.deleting(name).await?;
        if self.storage().size(&TreeKey::Revision(name, digest).key()).await?.is_none() {
            return Ok(false);
        }
        let subjects = match self.revision(name, digest).await? {
            Some(content) => References::of(&content.bytes).unwrap_or_default().subjects,
            None => Vec::new(),
        };
        self.remove_tags_of(name, digest, untagged.as_ref()).await?;
        let deleted = self.storage().delete(&TreeKey::Revision(name, digest).key()).await?;
        self.storage().delete_all(&TreeKey::RevisionFolder(name, digest).key()).await?;
        for subject in &subjects {
            // Tidying up: an entry without its revision is passed over.
            let place = TreeKey::ReferrerFolder { name, subject, referrer: digest };
            self.storage().delete_all(&place.key()).await?;
        }
        Ok(deleted)
    }

    /// What a manifest needs the repository to have. Its subject may be absent, and so may layers
    /// that say where else they can be had (distribution-spec, "Pushing Manifests").
    pub(super) fn needed(&self, kind: &ManifestKind) -> BTreeSet<Digest> {
        match kind {
            ManifestKind::Image { config, layers } => std::iter::once(config)
                .chain(layers.iter().filter(|layer| !layer.is_foreign()))
                .map(|descriptor| descriptor.digest.clone())
                .collect(),
            ManifestKind::Index { manifests } => manifests
                .iter()
                .filter(|child| self.0.acceptance.needs(child))
                .map(|descriptor| descriptor.digest.clone())
                .collect(),
            ManifestKind::Artifact { blobs } => {
                blobs.iter().map(|descriptor| descriptor.digest.clone()).collect()
            }
        }
    }
}
