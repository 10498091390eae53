//! Stored documents that are read again: manifests, and the state of a hasher.

use std::collections::BTreeMap;

use portcullis::oci::{
    Algorithm, Descriptor, Digest, Hasher, InvalidManifest, Manifest, ManifestKind, MediaType,
    References,
};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::{names::assert_digest, text};

/// The limit of a message about a manifest in a response.
const LONGEST_MESSAGE: usize = 2048;

/// The `Content-Type` in one line, empty for none, and the manifest in the rest: an accepted
/// manifest is served with the type with which it was accepted, and is of one kind.
pub fn manifest(data: &[u8]) {
    let end = data.iter().position(|&b| b == b'\n').unwrap_or(0);
    let (declared, bytes) = data.split_at(end);
    let Some(declared) = text(declared) else { return };
    let declared = Some(declared).filter(|text| !text.is_empty());
    // A pull of what another registry has stored.
    let stored = Manifest::stored_media_type(bytes);
    assert!(!stored.is_empty() && stored.bytes().all(|b| b.is_ascii_graphic()), "{stored:?}");
    match Manifest::parse(bytes, declared) {
        Ok(manifest) => {
            let media_type = manifest.media_type();
            assert_eq!(MediaType::parse(&stored), Some(media_type), "stored as {stored:?}");
            if let Some(declared) = declared {
                assert_eq!(MediaType::parse(declared), Some(media_type));
            }
            for declared in [None, Some(media_type.as_str())] {
                let again = Manifest::parse(bytes, declared).expect("it was accepted");
                assert_eq!(format!("{again:?}"), format!("{manifest:?}"));
            }
            assert_descriptors(&manifest);
            assert_one_kind(&manifest, bytes);
            assert_references(&manifest, bytes);
            assert_referrer(&manifest, bytes);
        }
        Err(error) => assert_short(&error),
    }
}

/// The client that sent the manifest gets the message, which must not be as long as the manifest.
fn assert_short(error: &InvalidManifest) {
    let length = error.to_string().len();
    assert!(length <= LONGEST_MESSAGE, "{length} bytes");
}

fn assert_descriptors(manifest: &Manifest) {
    let (config, others): (Option<&Descriptor>, &[Descriptor]) = match manifest.kind() {
        ManifestKind::Image { config, layers } => (Some(config), layers),
        ManifestKind::Index { manifests } => (None, manifests),
        ManifestKind::Artifact { blobs } => (None, blobs),
    };
    for descriptor in config.into_iter().chain(others).chain(manifest.subject()) {
        assert_digest(&descriptor.digest);
        let text = descriptor.digest.to_string();
        assert_eq!(text.parse().as_ref(), Ok(&descriptor.digest));
    }
}

/// The references of an accepted manifest can be read again, and are the same.
fn assert_references(manifest: &Manifest, bytes: &[u8]) {
    let references = References::of(bytes).expect("what is accepted can be read");
    let (blobs, manifests): (Vec<&Descriptor>, &[Descriptor]) = match manifest.kind() {
        ManifestKind::Image { config, layers } => {
            (std::iter::once(config).chain(layers).collect(), &[])
        }
        ManifestKind::Index { manifests } => (Vec::new(), manifests),
        ManifestKind::Artifact { blobs } => (blobs.iter().collect(), &[]),
    };
    assert!(blobs.iter().all(|named| references.blobs.contains(&named.digest)));
    assert!(manifests.iter().all(|named| references.manifests.contains(&named.digest)));
    assert_eq!(references.subjects.first(), manifest.subject().map(|subject| &subject.digest));
    assert!(references.subjects.len() <= 1);
}

/// A client that looks at the fields alone takes it for the same kind.
fn assert_one_kind(manifest: &Manifest, bytes: &[u8]) {
    let text = text(bytes).expect("JSON is UTF-8");
    // A `Value` would refuse numbers that are too large for it.
    let fields: BTreeMap<String, Option<IgnoredAny>> =
        serde_json::from_str(text).expect("a manifest is a JSON object");
    let has = |field: &str| fields.get(field).is_some_and(Option::is_some);
    match manifest.kind() {
        ManifestKind::Image { .. } => assert!(has("config") && !has("manifests")),
        ManifestKind::Index { .. } => assert!(!has("config") && !has("layers")),
        ManifestKind::Artifact { .. } => assert!(!has("manifests") || !has("config")),
    }
}

/// The entry in a list of referrers matches the manifest.
fn assert_referrer(manifest: &Manifest, bytes: &[u8]) {
    let digest = Digest::of(Algorithm::Sha256, bytes);
    let entry = serde_json::to_value(manifest.referrer(&digest, bytes.len()));
    let entry = entry.expect("an entry is JSON");
    assert_eq!(entry["mediaType"], manifest.media_type().as_str());
    assert_eq!(entry["digest"], digest.to_string());
    assert_eq!(entry["size"], bytes.len());
    let artifact_type = entry.get("artifactType").and_then(Value::as_str);
    assert_eq!(artifact_type, manifest.artifact_type());
    let descriptor: Descriptor = serde_json::from_value(entry).expect("an entry is a descriptor");
    assert_eq!(descriptor.digest, digest);
}

/// The state of a hasher: accepted bytes are the state, and a hasher that continues from its state
/// gives the digest of the whole.
pub fn hasher_state(data: &[u8]) {
    for algorithm in Algorithm::ALL {
        // The hasher is not continued: a state without our checksum may have a length at which sha2
        // overflows.
        if let Ok(hasher) = Hasher::from_state(algorithm, data) {
            assert_eq!(hasher.algorithm(), algorithm);
            assert_eq!(hasher.state(), data, "another text of a state");
        }
        let (before, after) = data.split_at(data.first().map_or(0, |&b| data.len().min(b.into())));
        let mut first = Hasher::new(algorithm);
        first.update(before);
        let mut second = Hasher::from_state(algorithm, &first.state()).expect("its own state");
        second.update(after);
        assert_eq!(second.finish(), Digest::of(algorithm, data));
    }
}
