//! Blobs of the load suites, and their digests.

use std::{fmt, io, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use reqwest::Body;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::random::Random;

/// The media type of an image manifest.
pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an image configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The media type of a layer that is not compressed.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The size of the pieces of a streamed body.
const PIECE: usize = 16 << 10;

/// A digest as text: `sha256:<hex>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(Arc<str>);

impl Digest {
    /// Takes the text of the registry unparsed: a malformed digest differs from every computed one.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The digest as text.
    pub fn as_str(&self) -> &str {
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

/// Bytes and their digest.
#[derive(Clone, Debug)]
pub struct Blob {
    /// The digest of the bytes.
    pub digest: Digest,
    /// The content.
    pub bytes: Bytes,
}

impl Blob {
    /// Computes the digest of the bytes.
    pub fn new(bytes: Bytes) -> Self {
        Self { digest: digest(&bytes), bytes }
    }

    /// The descriptor of the bytes in a manifest (OCI image-spec, descriptor.md).
    pub fn descriptor(&self, media_type: &str) -> Value {
        descriptor(media_type, &self.digest, &self.bytes)
    }
}

/// The descriptor of bytes whose digest is known.
pub fn descriptor(media_type: &str, digest: &Digest, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest.as_str(), "size": bytes.len() })
}

/// The digest of bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Digest::new(&format!("sha256:{hex}"))
}

/// `size` incompressible bytes, rounded down to a multiple of eight.
pub fn noise(random: &mut Random, size: u64) -> Bytes {
    let bytes: Vec<u8> = (0..size / 8).flat_map(|_| random.number().to_le_bytes()).collect();
    bytes.into()
}

/// The URL of the `PUT` that ends an upload as the blob of a digest.
pub fn closing(location: &str, digest: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={digest}")
}

/// Bytes as a body: in one piece with its length, or in many without.
pub fn body(random: &mut Random, bytes: Bytes) -> Body {
    if random.percent(50) { bytes.into() } else { streamed(bytes) }
}

fn streamed(bytes: Bytes) -> Body {
    let pieces = (0..bytes.len())
        .step_by(PIECE)
        .map(move |at| Ok::<_, io::Error>(bytes.slice(at..bytes.len().min(at + PIECE))));
    Body::wrap_stream(stream::iter(pieces))
}
