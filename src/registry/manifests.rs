//! Manifests: stored byte for byte, and accepted only when the repository has everything that they
//! reference.

use std::sync::Arc;

use bytes::Bytes;

use self::{cache::ManifestCache, immutable::ImmutableTags};
use super::{Access, Events, RetentionOptions, TagSelector, pulls::Pulls, tree::Tree};
use crate::oci::{Digest, Manifest, Reference, RepositoryName, Tag};

mod cache;
mod delete;
mod get;
mod immutable;
mod policy;
mod put;
mod required;
mod withdraw;

pub(super) use self::policy::ManifestPolicy;
pub use self::{
    immutable::{TagExists, TagImmutable},
    policy::{
        IndexRules, ManifestRules, Pattern, Platforms, PolicyOptions, RepositoryPolicy,
        Unacceptable, UrlRules, Validation,
    },
};

/// Stored manifests longer than this are not served: neither this registry nor registry:2 accepts such
/// manifests.
pub(super) const MAX_STORED: usize = 2 * Manifest::MAX_SIZE;

/// A manifest as it was pushed.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type, for `Content-Type`.
    pub media_type: Arc<str>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A manifest to be put.
#[derive(Clone, Debug)]
pub struct Put {
    /// The tag or the digest that it is put at.
    pub reference: Reference,
    /// Further tags that it gets (end-7, `?tag=`).
    pub tags: Vec<Tag>,
    /// The `Content-Type` that it came with.
    pub content_type: Option<String>,
    /// Its bytes.
    pub bytes: Bytes,
    /// What becomes of tags that name another manifest.
    pub existing_tags: ExistingTags,
}

/// What a put does to tags that name another manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExistingTags {
    /// It moves them.
    #[default]
    Move,
    /// It is refused: the caller may only add tags.
    Keep,
}

impl Put {
    /// The tags of the put, each once: first the tag of the reference.
    fn distinct_tags(&self) -> Vec<Tag> {
        let by_tag = match &self.reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        };
        let others = self.tags.iter().filter(|tag| by_tag != Some(*tag));
        by_tag.into_iter().chain(others).cloned().collect()
    }
}

/// The result of a put.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its digest.
    pub digest: Digest,
    /// The digest of its subject.
    pub subject: Option<Digest>,
}

/// The keys of `storage` about tags, which registry:2 does not have.
#[derive(Clone, Debug, Default)]
pub struct TagRules {
    /// `storage.immutabletags`: tags that keep their first manifest until they are deleted.
    pub immutabletags: Vec<TagSelector>,
    /// `storage.retention`: tags that the server deletes.
    pub retention: RetentionOptions,
}

/// The rules for manifests and tags.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) policy: ManifestPolicy,
    pub(super) immutabletags: Vec<TagSelector>,
}

/// The manifests and tags of all repositories.
#[derive(Debug)]
pub struct Manifests {
    tree: Arc<Tree>,
    events: Events,
    cache: ManifestCache,
    policy: ManifestPolicy,
    immutable: ImmutableTags,
    /// The records of pulls, where retention or garbage collection needs them.
    pulls: Option<Arc<Pulls>>,
}

impl Manifests {
    pub(super) fn new(
        tree: Arc<Tree>,
        events: Events,
        rules: Rules,
        pulls: Option<Arc<Pulls>>,
    ) -> Self {
        let Rules { policy, immutabletags } = rules;
        Self {
            tree,
            events,
            cache: ManifestCache::new(),
            policy,
            immutable: ImmutableTags::new(immutabletags),
            pulls,
        }
    }

    /// Records that a client pulled a manifest just now, where retention or garbage collection needs that.
    /// The record is written later, and a failure does not reach the client.
    pub fn record_pull(&self, name: &RepositoryName, digest: &Digest, access: Access) {
        if let Some(pulls) = &self.pulls {
            pulls.record(name, digest, access);
        }
    }
}
