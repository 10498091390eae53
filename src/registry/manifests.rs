//! Manifests: kept byte for byte, taken only when all they refer to is there.

use std::sync::Arc;

use bytes::Bytes;

use self::{cache::ManifestCache, immutable::ImmutableTags, last_pulled::LastPulled};
use super::{Clock, Events, RetentionOptions, TagSelector, tree::Tree};
use crate::oci::{Digest, Manifest, Reference, Tag};

mod cache;
mod delete;
mod get;
mod immutable;
mod last_pulled;
mod policy;
mod put;
mod required;
mod withdraw;

pub(super) use self::policy::ManifestPolicy;
pub use self::{
    immutable::TagImmutable,
    policy::{
        IndexRules, ManifestRules, Pattern, Platforms, PolicyOptions, RepositoryPolicy,
        Unacceptable, UrlRules, Validation,
    },
};

/// Stored manifests longer than this are not served: none was ever accepted, here or by registry:2.
pub(super) const MAX_STORED: usize = 2 * Manifest::MAX_SIZE;

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

impl Put {
    /// The tags that the manifest is put at, the one of the reference first, each once where a client
    /// repeats that.
    fn distinct_tags(&self) -> Vec<Tag> {
        let by_tag = match &self.reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        };
        let others = self.tags.iter().filter(|tag| by_tag != Some(*tag));
        by_tag.into_iter().chain(others).cloned().collect()
    }
}

/// What was made of a manifest that was put.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its digest.
    pub digest: Digest,
    /// The digest of its subject.
    pub subject: Option<Digest>,
}

/// What `storage` says about tags. The keys are ours.
#[derive(Clone, Debug, Default)]
pub struct TagRules {
    /// `storage.immutabletags`: tags that stay what they were first pushed as, until they are
    /// deleted.
    pub immutabletags: Vec<TagSelector>,
    /// `storage.retention`: tags that go by themselves.
    pub retention: RetentionOptions,
}

/// Which manifests are accepted, and what tags may do.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) policy: ManifestPolicy,
    pub(super) tags: TagRules,
}

/// The manifests and tags of all repositories.
#[derive(Debug)]
pub struct Manifests {
    tree: Arc<Tree>,
    clock: Arc<dyn Clock>,
    events: Events,
    cache: ManifestCache,
    policy: ManifestPolicy,
    immutable: ImmutableTags,
    /// Where a retention rule asks when manifests were last pulled.
    last_pulled: Option<LastPulled>,
}

impl Manifests {
    pub(super) fn new(
        tree: Arc<Tree>,
        clock: Arc<dyn Clock>,
        events: Events,
        rules: Rules,
    ) -> Self {
        let Rules { policy, tags } = rules;
        Self {
            tree,
            clock,
            events,
            cache: ManifestCache::new(),
            policy,
            immutable: ImmutableTags::new(tags.immutabletags),
            last_pulled: tags.retention.asks_for_pulls().then(LastPulled::new),
        }
    }
}
