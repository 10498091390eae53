//! Bytes and their digests, as the suites that put load on a server push and compare them.

use std::{fmt, io, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use reqwest::Body;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::random::Random;

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// How large the pieces of a streamed body are.
const PIECE: usize = 16 << 10;

/// A digest as text: `sha256:<hex>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Digest(Arc<str>);

impl Digest {
    /// Takes what the registry wrote as it is: whoever compares it finds what is wrong with it.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Some bytes and their name.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
}

impl Blob {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { digest: digest(&bytes), bytes }
    }

    pub(crate) fn descriptor(&self, media_type: &str) -> Value {
        descriptor(media_type, &self.digest, &self.bytes)
    }
}

/// How a manifest names some bytes.
pub(crate) fn descriptor(media_type: &str, digest: &Digest, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest.as_str(), "size": bytes.len() })
}

/// The digest of bytes.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Digest::new(&format!("sha256:{hex}"))
}

/// So many bytes, more or less eight, that nothing compresses.
pub(crate) fn noise(random: &mut Random, size: u64) -> Bytes {
    let bytes: Vec<u8> = (0..size / 8).flat_map(|_| random.number().to_le_bytes()).collect();
    bytes.into()
}

/// A body of many pieces, whose length is not told.
pub(crate) fn streamed(bytes: Bytes) -> Body {
    let pieces = (0..bytes.len())
        .step_by(PIECE)
        .map(move |at| Ok::<_, io::Error>(bytes.slice(at..bytes.len().min(at + PIECE))));
    Body::wrap_stream(stream::iter(pieces))
}
