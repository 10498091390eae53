//! The references of a manifest, as events list them.

use serde::Deserialize;

use super::event::Descriptor;

/// The media type that registry:2 gives the layers of a schema 1 manifest.
const SCHEMA_1_LAYER: &str = "application/vnd.docker.container.image.rootfs.diff+x-gtar";

/// In registry:2's order: the configuration, then the layers; or the manifests of an index, which
/// it lists without their platforms. Empty for an unreadable manifest.
pub(super) fn of(manifest: &[u8]) -> Vec<Descriptor> {
    let Ok(read) = serde_json::from_slice::<Manifest>(manifest) else {
        tracing::debug!("cannot list the references of a manifest in its event");
        return Vec::new();
    };
    let manifests = read.manifests.unwrap_or_default();
    let parts = read.layers.into_iter().chain(read.blobs).flatten();
    let layers = read.fs_layers.unwrap_or_default();
    read.config
        .into_iter()
        .chain(parts)
        .chain(manifests.into_iter().map(|manifest| Descriptor { platform: None, ..manifest }))
        .chain(layers.into_iter().map(|layer| Descriptor {
            media_type: SCHEMA_1_LAYER.to_owned(),
            digest: layer.blob_sum,
            ..Descriptor::default()
        }))
        .collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    /// Of an artifact manifest, which registry:2 does not know.
    blobs: Option<Vec<Descriptor>>,
    fs_layers: Option<Vec<Layer>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    blob_sum: String,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn listed(manifest: &Value) -> Value {
        serde_json::to_value(of(manifest.to_string().as_bytes())).unwrap()
    }

    #[test]
    fn image_lists_its_configuration_and_its_layers_with_all_fields() {
        let config = json!({ "mediaType": "c", "size": 1, "digest": "sha256:1" });
        let layer = json!({
            "mediaType": "l", "size": 2, "digest": "sha256:2", "urls": ["https://elsewhere"],
            "annotations": { "b": "2", "a": "1" },
            "platform": { "architecture": "arm", "os": "linux", "variant": "v7" },
        });
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
        assert_eq!(listed(&manifest), json!([config, layer]));
    }

    #[test]
    fn index_lists_its_manifests_without_their_platforms() {
        let manifest = json!({ "manifests": [
            { "mediaType": "m", "size": 1, "digest": "sha256:1", "annotations": null,
              "platform": { "architecture": "amd64", "os": "linux" } },
        ]});
        let expected = json!([{ "mediaType": "m", "size": 1, "digest": "sha256:1" }]);
        assert_eq!(listed(&manifest), expected);
    }

    #[test]
    fn schema_1_lists_its_layers() {
        let manifest = json!({ "schemaVersion": 1, "fsLayers": [{ "blobSum": "sha256:1" }] });
        let expected = json!([{ "mediaType": SCHEMA_1_LAYER, "digest": "sha256:1" }]);
        assert_eq!(listed(&manifest), expected);
    }

    #[test]
    fn unreadable_manifest_lists_nothing() {
        assert_eq!(listed(&json!({ "layers": 5 })), json!([]));
        assert!(of(b"not JSON").is_empty());
    }
}
