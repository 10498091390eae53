//! What a stored manifest refers to, whatever kind it is and whoever took it.

use serde::Deserialize;

use super::{Digest, object::Object};

/// The digests that a stored manifest names.
///
/// Read more leniently than [`Manifest`](super::Manifest): what other registries stored counts, schema
/// 1 too, and what is wrong with a manifest beside its references is of no account. A name that
/// nothing here can have, such as one by another algorithm, is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Manifests, in the order of an index. Some builders list the blobs of their caches here.
    pub manifests: Vec<Digest>,
    /// Blobs: the configuration, then the layers.
    pub blobs: Vec<Digest>,
    /// What it is about.
    pub subject: Option<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    config: Option<Object<Named>>,
    layers: Option<Vec<Object<Named>>>,
    manifests: Option<Vec<Object<Named>>>,
    blobs: Option<Vec<Object<Named>>>,
    subject: Option<Object<Named>>,
    /// Schema 1.
    fs_layers: Option<Vec<Object<Layer>>>,
}

#[derive(Deserialize)]
struct Named {
    digest: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    blob_sum: Option<String>,
}

impl References {
    /// Reads them from the bytes of a stored manifest; `None` when those are not JSON, or not that of
    /// a manifest.
    #[must_use]
    pub fn of(stored: &[u8]) -> Option<Self> {
        let Object(stored): Object<Stored> = serde_json::from_slice(stored).ok()?;
        let digest = |text: Option<String>| text?.parse().ok();
        let named = |list: Option<Vec<Object<Named>>>| {
            list.into_iter().flatten().filter_map(move |Object(named)| digest(named.digest))
        };
        let layers = stored.fs_layers.into_iter().flatten();
        let blobs = named(stored.config.map(|config| vec![config]))
            .chain(named(stored.layers))
            .chain(named(stored.blobs))
            .chain(layers.filter_map(|Object(layer)| digest(layer.blob_sum)))
            .collect();
        Some(Self {
            manifests: named(stored.manifests).collect(),
            blobs,
            subject: stored.subject.and_then(|Object(subject)| digest(subject.digest)),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oci::Algorithm;

    fn digest(n: u8) -> Digest {
        Digest::of(Algorithm::Sha256, &[n])
    }

    fn of(json: &serde_json::Value) -> Option<References> {
        References::of(json.to_string().as_bytes())
    }

    #[test]
    fn every_kind_of_manifest_tells_what_it_refers_to() {
        let named = |n| json!({ "digest": digest(n), "size": 1, "mediaType": "x" });
        let image = json!({
            "schemaVersion": 2, "config": named(1), "layers": [named(2), named(3)],
            "subject": named(4),
        });
        let blobs = vec![digest(1), digest(2), digest(3)];
        let found = References { manifests: vec![], blobs, subject: Some(digest(4)) };
        assert_eq!(of(&image), Some(found));
        let index = json!({ "manifests": [named(1), named(2)] });
        assert_eq!(of(&index).unwrap().manifests, [digest(1), digest(2)]);
        let artifact = json!({ "blobs": [named(1)] });
        assert_eq!(of(&artifact).unwrap().blobs, [digest(1)]);
        let schema1 = json!({ "fsLayers": [{ "blobSum": digest(1) }, { "blobSum": digest(1) }] });
        assert_eq!(of(&schema1).unwrap().blobs, [digest(1), digest(1)]);
    }

    #[test]
    fn what_cannot_be_here_is_left_out_and_what_is_no_manifest_is_none() {
        let layers = json!({ "layers": [{ "digest": "md5:00" }, { "digest": digest(1) }] });
        assert_eq!(of(&layers).unwrap().blobs, [digest(1)]);
        for broken in [
            json!([]),
            json!([null, null, null, null, null, null]),
            json!({ "layers": 1 }),
            json!({ "config": "x" }),
            json!("x"),
        ] {
            assert_eq!(of(&broken), None, "{broken}");
        }
        assert_eq!(References::of(b"{"), None);
        assert_eq!(References::of(b""), None);
    }
}
