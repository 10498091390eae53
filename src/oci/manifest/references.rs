//! The references of a stored manifest of any kind, from any registry.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::{
    Digest, MediaType,
    keys::{Key, folds_to},
};

/// The digests that a stored manifest references.
///
/// Parses more leniently than [`Manifest`](super::Manifest): accepts the manifests of other registries,
/// schema 1 too, and ignores faults beside the references. Where programs parse different references
/// from the same bytes, because a key is repeated or in another case, these are the references of all
/// programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Children of an index. Most are manifests; build caches list blobs.
    pub manifests: Vec<Digest>,
    /// Blobs: the configuration, then the layers.
    pub blobs: Vec<Digest>,
    /// The blobs with addresses elsewhere, which the registry need not have.
    pub elsewhere: Vec<Digest>,
    /// The subject: at most one manifest, unless its key is repeated.
    pub subjects: Vec<Digest>,
}

impl References {
    /// Parses the references from the bytes of a stored manifest.
    ///
    /// Returns `None` when the references are unknown, so that nothing may be deleted as unreferenced:
    /// the bytes are not JSON, they have the fields of no known manifest type, or a descriptor has no
    /// digest, a malformed one or one of an unknown algorithm.
    #[must_use]
    pub fn of(stored: &[u8]) -> Option<Self> {
        let mut json = serde_json::Deserializer::from_slice(stored);
        let stored = Stored::deserialize(&mut json).ok()?;
        json.end().ok()?;
        let is_clear = stored.is_of_known_shape && !stored.is_unclear;
        is_clear.then(|| {
            let Stored { config, mut references, .. } = stored;
            references.blobs.splice(..0, config);
            references
        })
    }

    /// The number of references.
    #[must_use]
    pub fn count(&self) -> usize {
        self.manifests.len() + self.blobs.len() + self.subjects.len()
    }
}

/// The fields of all manifest types.
const FIELDS: [&str; 7] =
    ["config", "layers", "manifests", "blobs", "fsLayers", "subject", "mediaType"];

#[derive(Default)]
struct Stored {
    config: Vec<Digest>,
    references: References,
    is_of_known_shape: bool,
    /// Whether a reference is unknown.
    is_unclear: bool,
}

impl<'de> Deserialize<'de> for Stored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(StoredVisitor)
    }
}

struct StoredVisitor;

impl<'de> Visitor<'de> for StoredVisitor {
    type Value = Stored;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Stored, A::Error> {
        let mut stored = Stored::default();
        while let Some(Key(key)) = map.next_key()? {
            match FIELDS.into_iter().find(|field| folds_to(&key, field)) {
                Some("config") => {
                    if let Some(config) = map.next_value::<Option<Named>>()? {
                        stored.is_of_known_shape = true;
                        let found = stored.read(config);
                        stored.config.extend(found);
                    }
                }
                Some("subject") => {
                    if let Some(subject) = map.next_value::<Option<Named>>()? {
                        let found = stored.read(subject);
                        stored.references.subjects.extend(found);
                    }
                }
                Some("mediaType") => {
                    let text = map.next_value::<Option<String>>()?;
                    // The lists of these types may be absent: an empty index is an index.
                    stored.is_of_known_shape |= matches!(
                        text.as_deref().and_then(MediaType::parse),
                        Some(
                            MediaType::OciIndex
                                | MediaType::DockerManifestList
                                | MediaType::OciArtifact
                        )
                    );
                }
                Some("manifests") => {
                    stored.is_of_known_shape = true;
                    for child in map.next_value::<Option<Vec<Named>>>()?.into_iter().flatten() {
                        let found = stored.read(child);
                        stored.references.manifests.extend(found);
                    }
                }
                Some("fsLayers") => {
                    stored.is_of_known_shape = true;
                    let layers = map.next_value::<Option<Vec<NamedBySum>>>()?;
                    for NamedBySum(layer) in layers.into_iter().flatten() {
                        let found = stored.read(layer);
                        stored.references.blobs.extend(found);
                    }
                }
                Some(_) => {
                    let blobs = map.next_value::<Option<Vec<Named>>>()?;
                    stored.is_of_known_shape |= blobs.is_some();
                    for blob in blobs.into_iter().flatten() {
                        let found = stored.read(blob);
                        stored.references.blobs.extend(found);
                    }
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(stored)
    }
}

impl Stored {
    /// The digests of a descriptor.
    fn read(&mut self, named: Named) -> Vec<Digest> {
        self.is_unclear |= named.is_unclear || named.digests.is_empty();
        if named.has_urls {
            self.references.elsewhere.extend_from_slice(&named.digests);
        }
        named.digests
    }
}

/// A descriptor.
#[derive(Default)]
struct Named {
    digests: Vec<Digest>,
    /// Whether a digest is malformed or of an unknown algorithm.
    is_unclear: bool,
    has_urls: bool,
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor("digest"))
    }
}

/// An entry of schema 1's `fsLayers`.
struct NamedBySum(Named);

impl<'de> Deserialize<'de> for NamedBySum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor("blobSum")).map(Self)
    }
}

/// Reads the digests that stand under a key.
struct NamedVisitor(&'static str);

impl<'de> Visitor<'de> for NamedVisitor {
    type Value = Named;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a descriptor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named, A::Error> {
        let mut named = Named::default();
        while let Some(Key(key)) = map.next_key()? {
            if folds_to(&key, self.0) {
                match map.next_value::<Option<Key<'_>>>()?.map(|Key(text)| text.parse()) {
                    Some(Ok(digest)) => named.digests.push(digest),
                    Some(Err(_)) => named.is_unclear = true,
                    // In Go, `null` changes nothing.
                    None => {}
                }
            } else if folds_to(&key, "urls") {
                let urls = map.next_value::<Option<Vec<IgnoredAny>>>()?;
                named.has_urls |= urls.is_some_and(|urls| !urls.is_empty());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(named)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::oci::Algorithm;

    fn digest(n: u8) -> Digest {
        Digest::of(Algorithm::Sha256, &[n])
    }

    fn named(n: u8) -> Value {
        json!({ "digest": digest(n), "size": 1, "mediaType": "x" })
    }

    fn of(json: &Value) -> Option<References> {
        References::of(json.to_string().as_bytes())
    }

    #[test]
    fn references_of_every_kind_of_manifest_are_found() {
        let image = json!({
            "schemaVersion": 2, "config": named(1), "layers": [named(2), named(3)],
            "subject": named(4),
        });
        let blobs = vec![digest(1), digest(2), digest(3)];
        let subjects = vec![digest(4)];
        let found = References { blobs, subjects, ..References::default() };
        assert_eq!(of(&image), Some(found));
        let index = json!({ "manifests": [named(1), named(2)] });
        assert_eq!(of(&index).unwrap().manifests, [digest(1), digest(2)]);
        let artifact = json!({ "blobs": [named(1)] });
        assert_eq!(of(&artifact).unwrap().blobs, [digest(1)]);
        let schema1 = json!({ "fsLayers": [{ "blobSum": digest(1) }, { "blobSum": digest(1) }] });
        assert_eq!(of(&schema1).unwrap().blobs, [digest(1), digest(1)]);
        let far = json!({ "digest": digest(2), "urls": ["https://far.example/"] });
        let foreign = of(&json!({ "config": named(1), "layers": [far] })).unwrap();
        assert_eq!(
            (foreign.blobs, foreign.elsewhere),
            (vec![digest(1), digest(2)], vec![digest(2)])
        );
    }

    #[test]
    fn null_and_missing_lists_are_empty() {
        let index = "application/vnd.oci.image.index.v1+json";
        for nothing in [
            json!({ "schemaVersion": 2, "mediaType": index }),
            json!({ "schemaVersion": 2, "mediaType": index, "manifests": null }),
            json!({ "schemaVersion": 2, "mediaType": "", "manifests": null }),
            json!({ "schemaVersion": 2, "manifests": [], "annotations": null, "subject": null }),
            json!({ "mediaType": "application/vnd.oci.artifact.manifest.v1+json" }),
            json!({ "schemaVersion": 1, "fsLayers": null }),
        ] {
            assert_eq!(of(&nothing), Some(References::default()), "{nothing}");
        }
        for layers in [json!({ "config": named(1), "layers": null }), json!({ "config": named(1) })]
        {
            assert_eq!(of(&layers).unwrap().blobs, [digest(1)]);
        }
    }

    #[test]
    fn references_of_keys_in_any_case_and_of_repeated_keys_are_found() {
        let text = |body: &str| {
            let named = |n: u8| format!(r#"{{"digest":"{}"}}"#, digest(n));
            let body = (1..=4).fold(body.to_owned(), |body, n| {
                body.replace(&format!("<{n}>"), &named(n))
                    .replace(&format!("${n}"), &digest(n).to_string())
            });
            let found = References::of(body.as_bytes()).unwrap_or_else(|| panic!("{body}"));
            (found.blobs, found.manifests, found.subjects)
        };
        let digests = |ns: &[u8]| ns.iter().copied().map(digest).collect::<Vec<_>>();
        for (body, blobs, manifests, subjects) in [
            (r#"{"SchemaVersion":2,"Config":<1>,"LAYERS":[<2>]}"#, &[1, 2][..], &[][..], &[][..]),
            (r#"{"config":<1>,"layers":[<2>],"Layers":[<3>]}"#, &[1, 2, 3], &[], &[]),
            (
                r#"{"layers":[<2>],"config":<1>,"layers":[<3>],"config":<4>}"#,
                &[1, 4, 2, 3],
                &[],
                &[],
            ),
            (r#"{"layers":[{"digest":"$1","Digest":"$2"}]}"#, &[1, 2], &[], &[]),
            ("{\"layer\u{17f}\":[<1>]}", &[1], &[], &[]),
            (r#"{"\u006cayer\u017f":[<1>]}"#, &[1], &[], &[]),
            (r#"{"Manifests":[<1>],"layers":[<2>]}"#, &[2], &[1], &[]),
            (r#"{"FSLayers":[{"BlobSum":"$1"}]}"#, &[1], &[], &[]),
            (r#"{"manifests":null,"Subject":<1>,"subject":<2>}"#, &[], &[], &[1, 2]),
        ] {
            assert_eq!(
                text(body),
                (digests(blobs), digests(manifests), digests(subjects)),
                "{body}"
            );
        }
    }

    #[test]
    fn references_of_unclear_manifests_are_unknown() {
        let sha384 = format!("sha384:{}", "0".repeat(96));
        for unclear in [
            // No known shape.
            json!({}),
            json!({ "schemaVersion": 2 }),
            json!({ "schemaVersion": 1, "signatures": [] }),
            json!({ "subject": named(1), "annotations": { "digest": "x" } }),
            json!({ "layers": null }),
            json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json" }),
            json!({ "payload": "eyJ9", "signatures": [{}] }),
            // Digests of an unknown algorithm or form, or none.
            json!({ "config": named(1), "layers": [named(2), { "digest": sha384 }] }),
            json!({ "config": { "digest": sha384 }, "layers": [] }),
            json!({ "manifests": [{ "digest": sha384 }] }),
            json!({ "manifests": [], "subject": { "digest": sha384 } }),
            json!({ "blobs": [{ "digest": "md5:00" }] }),
            json!({ "fsLayers": [{ "blobSum": "tarsum.v1+sha256:00" }] }),
            json!({ "layers": [{ "digest": "" }, named(1)] }),
            json!({ "layers": [{}, named(1)] }),
            json!({ "layers": [{ "digest": null }] }),
            json!({ "config": {}, "layers": [named(1)] }),
            json!({ "layers": [{ "digest": digest(1), "Digest": sha384 }] }),
            // Not a manifest.
            json!([]),
            json!([null, null, null, null, null, null]),
            json!({ "layers": 1 }),
            json!({ "layers": [null] }),
            json!({ "config": "x" }),
            json!({ "config": named(1), "mediaType": 7 }),
            json!("x"),
            json!(7),
        ] {
            assert_eq!(of(&unclear), None, "{unclear}");
        }
        for broken in ["{", "", r#"{"manifests":[]}x"#] {
            assert_eq!(References::of(broken.as_bytes()), None, "{broken}");
        }
    }
}
