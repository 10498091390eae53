//! A pushed manifest whose kind is not known yet.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::{
    Descriptor, InvalidManifest, Manifest, ManifestKind, annotations::Annotations, object::Object,
};
use crate::oci::{Digest, MediaType};

/// A list of descriptors. `null` is the empty list, as Go programs write it.
type Descriptors = Option<Vec<Object<Descriptor>>>;

/// The fields of every manifest type at once.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Raw {
    pub(super) schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Object<Descriptor>>,
    layers: Descriptors,
    /// `None` if the key is absent. Its presence alone makes the manifest an index.
    #[serde(default, deserialize_with = "present")]
    manifests: Option<Descriptors>,
    blobs: Descriptors,
    subject: Option<Object<Descriptor>>,
    artifact_type: Option<String>,
    annotations: Option<Annotations>,
    /// A field of schema 1, parsed to refuse a manifest that [`Manifest::stored_media_type`] or
    /// [`References`](super::References) could not parse.
    #[serde(rename = "signatures")]
    _signatures: Option<IgnoredAny>,
    #[serde(rename = "fsLayers")]
    _fs_layers: Option<Vec<Object<FsLayer>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FsLayer {
    #[serde(rename = "blobSum")]
    _blob_sum: Digest,
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Raw {
    /// The `mediaType` of the manifest; an empty string is the same as an absent field, as in Go.
    pub(super) fn media_type(&self) -> Option<&str> {
        self.media_type.as_deref().filter(|text| !text.is_empty())
    }

    fn is_image(&self) -> bool {
        self.config.is_some() || self.layers.is_some()
    }

    /// The OCI type that has these fields. Refuses the fields of two types, from which clients parse
    /// different content (GHSA-mc8v-mgrf-8f4m).
    pub(super) fn shape(&self) -> Result<MediaType, InvalidManifest> {
        let own = || self.media_type().and_then(MediaType::parse);
        match (self.is_image(), &self.manifests) {
            (true, Some(Some(_))) => Err(InvalidManifest::Ambiguous),
            (true, _) => Ok(MediaType::OciManifest),
            (false, Some(Some(_))) => Ok(MediaType::OciIndex),
            // An empty list, which Go programs write as `null` or omit.
            (false, manifests) => match (own(), manifests) {
                (Some(MediaType::OciArtifact), _) => Ok(MediaType::OciArtifact),
                (Some(MediaType::OciIndex | MediaType::DockerManifestList), _)
                | (None, Some(_)) => Ok(MediaType::OciIndex),
                _ => Err(InvalidManifest::Shapeless),
            },
        }
    }

    pub(super) fn into_manifest(self, media_type: MediaType) -> Result<Manifest, InvalidManifest> {
        // Only artifact manifests have no schema version.
        if self.schema_version != Some(2) && media_type != MediaType::OciArtifact {
            return Err(InvalidManifest::SchemaVersion);
        }
        let is_image = self.is_image();
        let missing = |field| InvalidManifest::MissingField { media_type, field };
        let list = |descriptors: Descriptors| {
            descriptors.into_iter().flatten().map(|Object(descriptor)| descriptor).collect()
        };
        let kind = match media_type {
            MediaType::OciManifest | MediaType::DockerManifest => ManifestKind::Image {
                config: self.config.ok_or_else(|| missing("config"))?.0,
                layers: list(self.layers),
            },
            MediaType::OciIndex | MediaType::DockerManifestList => match self.manifests.flatten() {
                None if is_image => return Err(missing("manifests")),
                manifests => ManifestKind::Index { manifests: list(manifests) },
            },
            MediaType::OciArtifact => ManifestKind::Artifact { blobs: list(self.blobs) },
        };
        let annotations: Option<BTreeMap<String, String>> =
            self.annotations.map(|Annotations(annotations)| annotations);
        Ok(Manifest {
            media_type,
            kind,
            subject: self.subject.map(|Object(subject)| subject),
            artifact_type: self.artifact_type,
            annotations,
        })
    }
}
