//! Manifests, as far as a registry must parse them (image-spec, manifest.md, image-index.md).
//!
//! The registry stores and serves the pushed bytes; a [`Manifest`] is parsed from them.

use std::collections::BTreeMap;

use serde::Serialize;

use self::{object::Object, raw::Raw};
use super::{Digest, MediaType, Schema1};

mod annotations;
mod descriptor;
#[cfg(test)]
mod go;
mod keys;
mod object;
mod raw;
mod references;
mod stored;

pub use descriptor::{Descriptor, Platform};
pub use references::References;

/// The fields of a manifest that the registry uses.
#[derive(Clone, Debug)]
pub struct Manifest {
    media_type: MediaType,
    kind: ManifestKind,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

/// The kind of a manifest, with its references.
#[derive(Clone, Debug)]
pub enum ManifestKind {
    /// An image, or an artifact packaged as one.
    Image {
        /// The image's configuration.
        config: Descriptor,
        /// The layers, base first.
        layers: Vec<Descriptor>,
    },
    /// A list of manifests.
    Index {
        /// The manifests.
        manifests: Vec<Descriptor>,
    },
    /// An artifact manifest of the OCI 1.1 release candidates.
    Artifact {
        /// Its blobs.
        blobs: Vec<Descriptor>,
    },
}

impl Manifest {
    /// The size of the largest accepted manifest in bytes (distribution-spec, "Pushing Manifests").
    pub const MAX_SIZE: usize = 4 * 1024 * 1024;

    /// Parses a manifest that was pushed with the `Content-Type` `declared`.
    ///
    /// # Errors
    ///
    /// When the bytes are not a manifest of a known type; when `mediaType`, `declared` and the fields
    /// contradict each other; and when an object has a repeated key, or a key that differs from a known
    /// one only by case, because programs would parse different manifests from the same bytes.
    pub fn parse(bytes: &[u8], declared: Option<&str>) -> Result<Self, InvalidManifest> {
        // serde_json does not validate the bytes of an ignored string; a client may.
        let text = std::str::from_utf8(bytes)?;
        if declared.is_some_and(|declared| Schema1::parse(declared).is_some()) {
            return Err(InvalidManifest::Schema1);
        }
        let Object(raw): Object<Raw> = serde_json::from_str(text)?;
        if raw.schema_version == Some(1) {
            return Err(InvalidManifest::Schema1);
        }
        let declared = match declared {
            Some(text) => {
                Some(MediaType::parse(text).ok_or_else(|| InvalidManifest::unknown_type(text))?)
            }
            None => None,
        };
        let own = match raw.media_type() {
            Some(text) => {
                Some(MediaType::parse(text).ok_or_else(|| InvalidManifest::unknown_type(text))?)
            }
            None => None,
        };
        let shape = raw.shape()?;
        let media_type = match (own, declared) {
            (Some(own), Some(declared)) if own != declared => {
                return Err(InvalidManifest::Contradiction { own, declared });
            }
            (Some(own), _) => own,
            // Without a `mediaType` only the fields determine the type of stored bytes, as an OCI type.
            (None, Some(declared)) if declared != shape => {
                return Err(InvalidManifest::MissingMediaType { declared });
            }
            (None, _) => shape,
        };
        raw.into_manifest(media_type)
    }

    /// Determines the type of stored bytes, which [`parse`](Self::parse) or another registry has
    /// accepted. Returns any `mediaType` unchanged, and recognises schema 1. As in Go programs, keys match
    /// in any case, and of repeated keys the last is used.
    #[must_use]
    pub fn stored_media_type(bytes: &[u8]) -> String {
        stored::media_type(bytes)
    }

    /// The media type.
    #[must_use]
    pub const fn media_type(&self) -> MediaType {
        self.media_type
    }

    /// The kind, with the references.
    #[must_use]
    pub const fn kind(&self) -> &ManifestKind {
        &self.kind
    }

    /// The subject: the manifest that this one refers to.
    #[must_use]
    pub const fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_ref()
    }

    /// The artifact type in a list of referrers: the manifest's own, or else the media type of an image's
    /// configuration (distribution-spec, "Listing Referrers").
    #[must_use]
    pub fn artifact_type(&self) -> Option<&str> {
        match (&self.artifact_type, &self.kind) {
            (Some(own), _) if !own.is_empty() => Some(own),
            (_, ManifestKind::Image { config, .. }) if !config.media_type.is_empty() => {
                Some(&config.media_type)
            }
            _ => None,
        }
    }

    /// The annotations.
    #[must_use]
    pub const fn annotations(&self) -> Option<&BTreeMap<String, String>> {
        self.annotations.as_ref()
    }
}

impl Manifest {
    /// The descriptor of this manifest in a list of referrers (distribution-spec, "Listing Referrers").
    /// `digest` and `size` are those of its bytes.
    #[must_use]
    pub fn referrer<'a>(&'a self, digest: &'a Digest, size: usize) -> impl Serialize + 'a {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Referrer<'a> {
            media_type: &'static str,
            digest: &'a Digest,
            size: usize,
            #[serde(skip_serializing_if = "Option::is_none")]
            artifact_type: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            annotations: Option<&'a BTreeMap<String, String>>,
        }
        Referrer {
            media_type: self.media_type.as_str(),
            digest,
            size,
            artifact_type: self.artifact_type(),
            annotations: self.annotations(),
        }
    }
}

/// Bytes are not a manifest that the registry accepts.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// It has the fields of an image and of an index.
    #[error("the manifest has the fields of an image and of an index")]
    Ambiguous,
    /// `mediaType` and `Content-Type` differ.
    #[error("the manifest's mediaType is {own}, but it was sent as {declared}")]
    Contradiction {
        /// `mediaType`
        own: MediaType,
        /// `Content-Type`
        declared: MediaType,
    },
    /// It is not JSON, or a field has a wrong type.
    #[error("not a manifest: {}", clipped(.0))]
    Json(#[from] serde_json::Error),
    /// A required field of the type is missing.
    #[error("a manifest of type {media_type} has a field `{field}`")]
    MissingField {
        /// The type.
        media_type: MediaType,
        /// The field.
        field: &'static str,
    },
    /// It has no `mediaType`, and the fields are not those of `Content-Type`.
    #[error("a manifest without a mediaType cannot be sent as {declared}")]
    MissingMediaType {
        /// `Content-Type`
        declared: MediaType,
    },
    /// It is not UTF-8, as JSON must be (RFC 8259 §8.1).
    #[error("not a manifest: {0}")]
    NotUtf8(#[from] std::str::Utf8Error),
    /// It is a schema 1 manifest.
    #[error(
        "schema 1 manifests are no longer accepted: push the image again with a current client, or \
         copy it with `skopeo copy --format v2s2`"
    )]
    Schema1,
    /// `schemaVersion` is not 2.
    #[error("schemaVersion must be 2")]
    SchemaVersion,
    /// It has the fields of no known type.
    #[error("the manifest has neither config and layers nor manifests")]
    Shapeless,
    /// The media type is not one of a manifest.
    #[error("media type {0:?} is not that of a manifest")]
    UnknownType(String),
}

/// The most characters of a client's text that a message quotes.
const QUOTED: usize = 128;

impl InvalidManifest {
    /// Clips the type, which a client has sent, for the message.
    fn unknown_type(text: &str) -> Self {
        Self::UnknownType(text.chars().take(QUOTED).collect())
    }
}

/// Clips serde's message, which may quote a value as long as the manifest.
fn clipped(error: &serde_json::Error) -> String {
    let message = error.to_string();
    // The text around the value is shorter than the limit.
    match message.char_indices().nth(2 * QUOTED) {
        Some((end, _)) => {
            let line = error.line();
            let column = error.column();
            format!("{}… at line {line} column {column}", &message[..end])
        }
        None => message,
    }
}

#[cfg(test)]
mod tests;
