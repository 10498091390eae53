//! The manifests that are asked for most.
//!
//! What lies under a digest never changes, so nothing here can become false, whoever else writes
//! to the tree. Whether a repository *has* a manifest is not kept here: that is looked up each
//! time.

use std::sync::Arc;

use bytes::Bytes;
use moka::sync::Cache;

use crate::oci::{Digest, Manifest};

/// How much is kept together, in bytes.
const MAX_KEPT: u64 = 16 * 1024 * 1024;

/// What an entry takes besides its bytes, roughly.
const OVERHEAD: usize = 256;

/// A manifest's bytes, and what was read from them.
#[derive(Debug)]
pub(in crate::registry) struct Content {
    pub(in crate::registry) bytes: Bytes,
    pub(in crate::registry) media_type: Arc<str>,
}

#[derive(Debug)]
pub(in crate::registry) struct ManifestCache(Cache<Digest, Arc<Content>>);

impl ManifestCache {
    pub(in crate::registry) fn new() -> Self {
        let weight = |_: &Digest, content: &Arc<Content>| {
            u32::try_from(OVERHEAD + content.bytes.len()).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().weigher(weight).max_capacity(MAX_KEPT).build())
    }

    pub(in crate::registry) fn find(&self, digest: &Digest) -> Option<Arc<Content>> {
        self.0.get(digest)
    }

    pub(in crate::registry) fn keep(&self, digest: &Digest, bytes: Bytes) -> Arc<Content> {
        let media_type = Manifest::stored_media_type(&bytes).into();
        let content = Arc::new(Content { bytes, media_type });
        self.0.insert(digest.clone(), Arc::clone(&content));
        content
    }
}
