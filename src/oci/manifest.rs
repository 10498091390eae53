//! Manifests: what a registry must understand of one (image-spec, manifest.md, image-index.md).
//!
//! The bytes are kept elsewhere and served as they came; this is a reading of them.

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

/// What a manifest says that a registry acts on.
#[derive(Clone, Debug)]
pub struct Manifest {
    media_type: MediaType,
    kind: ManifestKind,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

/// What a manifest is made of.
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
    /// The largest manifest that is accepted, in bytes (distribution-spec, "Pushing Manifests").
    pub const MAX_SIZE: usize = 4 * 1024 * 1024;

    /// Reads a manifest that came with the `Content-Type` `declared`.
    ///
    /// # Errors
    ///
    /// When the bytes are no manifest of a known type, or the type that they give themselves, the
    /// one that was declared and their shape are not the same; and when an object in them has a key
    /// twice, or one that differs from a known one only by case, for programs would read different
    /// manifests from the same bytes.
    pub fn parse(bytes: &[u8], declared: Option<&str>) -> Result<Self, InvalidManifest> {
        // serde_json passes over the bytes of a string that nobody reads; a client may not.
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
            // Without a `mediaType` only the shape tells what was stored, and it tells OCI.
            (None, Some(declared)) if declared != shape => {
                return Err(InvalidManifest::MissingMediaType { declared });
            }
            (None, _) => shape,
        };
        raw.into_manifest(media_type)
    }

    /// Reads the type of stored bytes, for those that [`parse`](Self::parse) accepted and for those
    /// that other registries did: any `mediaType` stands as it is, schema 1 is recognised. Keys are
    /// read as Go programs do, without regard to case, and the last wins.
    #[must_use]
    pub fn stored_media_type(bytes: &[u8]) -> String {
        stored::media_type(bytes)
    }

    /// The type.
    #[must_use]
    pub const fn media_type(&self) -> MediaType {
        self.media_type
    }

    /// What it is made of.
    #[must_use]
    pub const fn kind(&self) -> &ManifestKind {
        &self.kind
    }

    /// The manifest that this one is about.
    #[must_use]
    pub const fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_ref()
    }

    /// The type that a list of referrers shows: its own, else that of an image's configuration
    /// (distribution-spec, "Listing Referrers").
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

    /// Its annotations.
    #[must_use]
    pub const fn annotations(&self) -> Option<&BTreeMap<String, String>> {
        self.annotations.as_ref()
    }
}

impl Manifest {
    /// The descriptor of this manifest, whose bytes have this digest and length, for a list of
    /// referrers (distribution-spec, "Listing Referrers").
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

/// Why some bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// Fields of an image and of an index at once.
    #[error("the manifest has the fields of an image and of an index")]
    Ambiguous,
    /// `mediaType` is not what `Content-Type` said.
    #[error("the manifest's mediaType is {own}, but it was sent as {declared}")]
    Contradiction {
        /// `mediaType`
        own: MediaType,
        /// `Content-Type`
        declared: MediaType,
    },
    /// Not JSON, or a field of the wrong type.
    #[error("not a manifest: {}", clipped(.0))]
    Json(#[from] serde_json::Error),
    /// A field that the type demands is not there.
    #[error("a manifest of type {media_type} has a field `{field}`")]
    MissingField {
        /// The type.
        media_type: MediaType,
        /// The field.
        field: &'static str,
    },
    /// No `mediaType`, and the shape is not what `Content-Type` said.
    #[error("a manifest without a mediaType cannot be sent as {declared}")]
    MissingMediaType {
        /// `Content-Type`
        declared: MediaType,
    },
    /// Not text as JSON must be (RFC 8259 §8.1).
    #[error("not a manifest: {0}")]
    NotUtf8(#[from] std::str::Utf8Error),
    /// Schema 1.
    #[error(
        "schema 1 manifests are no longer accepted: push the image again with a current client, or \
         copy it with `skopeo copy --format v2s2`"
    )]
    Schema1,
    /// Not version 2.
    #[error("schemaVersion must be 2")]
    SchemaVersion,
    /// No field tells what it is.
    #[error("the manifest has neither config and layers nor manifests")]
    Shapeless,
    /// A type that is not a manifest's.
    #[error("media type {0:?} is not that of a manifest")]
    UnknownType(String),
}

/// As much of a text that came from outside as a message takes.
const QUOTED: usize = 128;

impl InvalidManifest {
    /// Clips the type: it came from outside and goes into a message.
    fn unknown_type(text: &str) -> Self {
        Self::UnknownType(text.chars().take(QUOTED).collect())
    }
}

/// The message, which may quote a value as long as the manifest.
fn clipped(error: &serde_json::Error) -> String {
    let message = error.to_string();
    // What is said around the value is shorter than that.
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
