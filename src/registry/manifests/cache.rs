//! A cache of manifests by their digest.
//!
//! Content under a digest never changes, so no entry can become stale, even when other processes write
//! to the tree. The cache does not record whether a repository *has* a manifest: each request looks
//! that up.

use std::sync::Arc;

use bytes::Bytes;
use moka::sync::Cache;

use crate::oci::{Digest, Manifest};

/// The size of all entries together, in bytes.
const MAX_KEPT: u64 = 16 * 1024 * 1024;

/// The rough memory overhead of an entry, in bytes.
const OVERHEAD: usize = 256;

/// The bytes of a manifest, and its media type.
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
