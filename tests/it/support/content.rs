//! Blobs and manifests for the tests.

use portcullis::oci::{Algorithm, Digest};
use serde_json::{Value, json};
pub use testkit::blob::closing;

use super::server::{Answered as _, TestServer};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// An image in a repository.
pub struct Image {
    pub manifest: String,
    pub digest: String,
    pub config: String,
    pub layer: String,
}

pub fn digest(bytes: impl AsRef<[u8]>) -> String {
    Digest::of(Algorithm::Sha256, bytes.as_ref()).to_string()
}

pub fn digest512(bytes: impl AsRef<[u8]>) -> String {
    Digest::of(Algorithm::Sha512, bytes.as_ref()).to_string()
}

/// Bytes that differ for each seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(length)
    .collect()
}

pub fn descriptor(media_type: &str, bytes: impl AsRef<[u8]>) -> Value {
    let bytes = bytes.as_ref();
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

impl TestServer {
    /// Opens an upload session and tells where it is.
    pub async fn open_upload(&self, name: &str) -> String {
        let answer = self.post(&format!("/v2/{name}/blobs/uploads/")).await;
        answer.expect(202).header("location").to_owned()
    }

    /// Sends a chunk to an upload session; `range` as it stands in `Content-Range`.
    pub async fn patch(
        &self,
        location: &str,
        range: Option<&str>,
        chunk: impl Into<reqwest::Body>,
    ) -> super::Answer {
        let mut request = self
            .request("PATCH", location)
            .header("content-type", "application/octet-stream")
            .body(chunk);
        if let Some(range) = range {
            request = request.header("content-range", range);
        }
        request.answer().await
    }

    /// Pushes a blob to a repository and gives its digest.
    pub async fn push_blob(&self, name: &str, bytes: impl Into<Vec<u8>>) -> String {
        let bytes = bytes.into();
        let digest = digest(&bytes);
        let target = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        self.request("POST", &target).body(bytes).answer().await.expect(201);
        digest
    }

    /// Puts a manifest at a tag or a digest.
    pub async fn push_manifest(
        &self,
        name: &str,
        reference: &str,
        media_type: &str,
        manifest: impl Into<String>,
    ) -> super::Answer {
        self.request("PUT", &format!("/v2/{name}/manifests/{reference}"))
            .header("content-type", media_type)
            .body(manifest.into())
            .answer()
            .await
    }
}

/// Pushes an image with one layer to a tag.
pub async fn image(server: &TestServer, name: &str, tag: &str) -> Image {
    image_with(server, name, tag, json!({})).await
}

/// Pushes an image with one layer and further fields in its manifest.
pub async fn image_with(server: &TestServer, name: &str, tag: &str, fields: Value) -> Image {
    let layer_bytes = format!("layer of {name}:{tag}").into_bytes();
    let config_bytes = format!("{{\"of\":\"{name}:{tag}\"}}").into_bytes();
    let layer = server.push_blob(name, layer_bytes.clone()).await;
    let config = server.push_blob(name, config_bytes.clone()).await;
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config_bytes),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer_bytes)],
    });
    for (key, value) in fields.as_object().unwrap() {
        manifest[key] = value.clone();
    }
    let manifest = manifest.to_string();
    let digest = digest(&manifest);
    server.push_manifest(name, tag, OCI_MANIFEST, manifest.clone()).await.expect(201);
    Image { manifest, digest, config, layer }
}

/// An empty index: a complete manifest in one request. Each `seed` gives another digest.
pub fn empty_index(seed: &str) -> String {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [],
        "annotations": { "seed": seed },
    })
    .to_string()
}

/// Pushes a manifest without blobs to a tag, and gives its digest.
pub async fn trifle(server: &TestServer, name: &str, tag: &str) -> String {
    let index = empty_index(&format!("{name}:{tag}"));
    let digest = digest(&index);
    let answer = server.push_manifest(name, tag, OCI_INDEX, index).await;
    answer.expect(201);
    digest
}
