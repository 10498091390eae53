//! Blobs and manifests of the script: the same on every run, so that responses are equal too.

use portcullis::oci::{Algorithm, Digest};
use serde_json::{Value, json};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
pub(crate) const OCTETS: &str = "application/octet-stream";

/// What images are made of.
pub(crate) const LAYER: &str = "what would be a layer of an image";
pub(crate) const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","rootfs":{}}"#;
/// A blob that no manifest references.
pub(crate) const LOOSE: &str = "0123456789abcdefghijklmnopqrstuvwxyz";
/// A blob that is never pushed.
pub(crate) const ABSENT: &str = "absent";

/// An id that no upload has.
pub(crate) const NO_ID: &str = "6b3c9a93-af5d-473f-a4cf-9710022185cd";

pub(crate) fn digest(bytes: impl AsRef<[u8]>) -> String {
    Digest::of(Algorithm::Sha256, bytes.as_ref()).to_string()
}

pub(crate) fn digest512(bytes: impl AsRef<[u8]>) -> String {
    Digest::of(Algorithm::Sha512, bytes.as_ref()).to_string()
}

pub(crate) fn descriptor(media_type: &str, bytes: impl AsRef<[u8]>) -> Value {
    let bytes = bytes.as_ref();
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

/// An image of Docker's type.
pub(crate) fn docker_image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": descriptor("application/vnd.docker.container.image.v1+json", CONFIG),
        "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", LAYER)],
    })
}

/// An image of OCI's type.
pub(crate) fn oci_image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", CONFIG),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", LAYER)],
    })
}

/// Images for several platforms, of either type: `of` is the type of what it lists.
pub(crate) fn list(media_type: &str, of: &str, manifests: &[Value]) -> Value {
    let manifests: Vec<Value> = ["amd64", "arm64"]
        .into_iter()
        .zip(manifests)
        .map(|(architecture, manifest)| {
            let mut entry = descriptor(of, manifest.to_string());
            entry["platform"] = json!({ "architecture": architecture, "os": "linux" });
            entry
        })
        .collect();
    json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests })
}

/// A list of Docker's type, of the image.
pub(crate) fn docker_list() -> Value {
    list(DOCKER_LIST, DOCKER_MANIFEST, &[docker_image()])
}

/// An index of OCI's type, of the image.
pub(crate) fn oci_index() -> Value {
    list(OCI_INDEX, OCI_MANIFEST, &[oci_image()])
}

/// A manifest with changed fields; `null` removes a field.
pub(crate) fn with(mut manifest: Value, fields: Value) -> Value {
    if let (Some(manifest), Value::Object(fields)) = (manifest.as_object_mut(), fields) {
        for (name, value) in fields {
            match value {
                Value::Null => drop(manifest.remove(&name)),
                value => drop(manifest.insert(name, value)),
            }
        }
    }
    manifest
}
