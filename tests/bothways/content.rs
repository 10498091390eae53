//! Images of every kind, pushed to either registry and entered in the ledger.

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};

use crate::{api::Api, ledger::Ledger};

/// The types of one family of images.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    pub(crate) image: &'static str,
    pub(crate) list: &'static str,
    config: &'static str,
    pub(crate) layer: &'static str,
}

pub(crate) const DOCKER: Family = Family {
    image: "application/vnd.docker.distribution.manifest.v2+json",
    list: "application/vnd.docker.distribution.manifest.list.v2+json",
    config: "application/vnd.docker.container.image.v1+json",
    layer: "application/vnd.docker.image.rootfs.diff.tar.gzip",
};

pub(crate) const OCI: Family = Family {
    image: "application/vnd.oci.image.manifest.v1+json",
    list: "application/vnd.oci.image.index.v1+json",
    config: "application/vnd.oci.image.config.v1+json",
    layer: "application/vnd.oci.image.layer.v1.tar+gzip",
};

impl Family {
    /// The types of all manifests.
    pub(crate) const fn types() -> [&'static str; 4] {
        [DOCKER.image, DOCKER.list, OCI.image, OCI.list]
    }
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn digest(bytes: impl AsRef<[u8]>) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

pub(crate) fn digest512(bytes: impl AsRef<[u8]>) -> String {
    format!("sha512:{}", hex(&Sha512::digest(bytes)))
}

/// Bytes derived from a text, of the size of a small layer.
pub(crate) fn layer(seed: &str) -> Bytes {
    format!("a layer of {seed}\n").repeat(500).into()
}

pub(crate) fn descriptor(media_type: &str, bytes: impl AsRef<[u8]>) -> Value {
    let size = bytes.as_ref().len();
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": size })
}

/// The digest that a descriptor names.
pub(crate) fn named(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().unwrap()
}

/// Pushes to a registry, and enters the content in the ledger.
pub(crate) struct Author<'a> {
    pub(crate) api: &'a Api,
    pub(crate) ledger: &'a mut Ledger,
}

impl Author<'_> {
    /// Pushes a blob.
    pub(crate) async fn blob(&mut self, name: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let digest = digest(&bytes);
        self.api.push(name, &bytes, &digest).await;
        self.ledger.blob(name, &digest, bytes);
    }

    /// Mounts a blob of one repository in another.
    async fn mount(&mut self, name: &str, bytes: Bytes, from: &str) {
        let digest = digest(&bytes);
        let target = format!("/v2/{name}/blobs/uploads/?mount={digest}&from={from}");
        self.api.send(Method::POST, &target, &[], "").await.expect(201);
        self.ledger.blob(name, &digest, bytes);
    }

    /// Pushes a manifest at tags, or at its digest where there are none, and gives its descriptor.
    /// No program writes JSON in this form, so an equal response has the bytes that were pushed.
    pub(crate) async fn manifest(
        &mut self,
        name: &str,
        tags: &[&str],
        kind: &'static str,
        json: &Value,
    ) -> Value {
        let text = format!("{json:#} \n");
        let digest = digest(&text);
        let by_digest = [digest.as_str()];
        for reference in if tags.is_empty() { &by_digest } else { tags } {
            self.api.put(name, reference, kind, &text).await;
        }
        let descriptor = descriptor(kind, &text);
        self.ledger.manifest(name, &digest, kind, text);
        for tag in tags {
            self.ledger.tag(name, tag, &digest);
        }
        descriptor
    }

    /// The manifest of an image, whose parts are pushed.
    pub(crate) async fn parts(&mut self, name: &str, family: Family, seed: &str) -> Value {
        let config = json!({ "architecture": "amd64", "os": "linux", "author": seed }).to_string();
        self.blob(name, config.clone()).await;
        self.blob(name, layer(seed)).await;
        json!({
            "schemaVersion": 2,
            "mediaType": family.image,
            "config": descriptor(family.config, config),
            "layers": [descriptor(family.layer, layer(seed))],
        })
    }

    /// Pushes an image and gives the descriptor of its manifest.
    pub(crate) async fn image(
        &mut self,
        name: &str,
        tags: &[&str],
        family: Family,
        seed: &str,
    ) -> Value {
        let manifest = self.parts(name, family, seed).await;
        self.manifest(name, tags, family.image, &manifest).await
    }

    /// Pushes a list of two images without tags.
    pub(crate) async fn list(
        &mut self,
        name: &str,
        tags: &[&str],
        family: Family,
        seed: &str,
    ) -> Value {
        let mut children = Vec::new();
        for architecture in ["amd64", "s390x"] {
            let mut child = self.image(name, &[], family, &format!("{seed}-{architecture}")).await;
            child["platform"] = json!({ "architecture": architecture, "os": "linux" });
            children.push(child);
        }
        let list = json!({ "schemaVersion": 2, "mediaType": family.list, "manifests": children });
        self.manifest(name, tags, family.list, &list).await
    }

    /// Pushes an artifact that refers to a manifest.
    pub(crate) async fn referrer(&mut self, name: &str, subject: &Value, seed: &str) -> String {
        let mut manifest = self.parts(name, OCI, seed).await;
        manifest["subject"] = subject.clone();
        manifest["artifactType"] = json!("application/vnd.example.sbom");
        named(&self.manifest(name, &[], OCI.image, &manifest).await).to_owned()
    }

    /// Deletes a manifest, and its tags with it.
    pub(crate) async fn delete(&mut self, name: &str, digest: &str) {
        let target = format!("/v2/{name}/manifests/{digest}");
        self.api.send(Method::DELETE, &target, &[], "").await.expect(202);
        self.ledger.lose_manifest(name, digest);
    }

    /// Pushes content that either program accepts: all types, nested names, tags that share, moved
    /// or lost their manifest, mounted blobs, a repository that has lost its only manifest.
    pub(crate) async fn fill(&mut self) {
        self.image("team/app", &["1.0", "latest"], DOCKER, "one").await;
        self.image("team/app", &["moved"], DOCKER, "before").await;
        self.image("team/app", &["moved"], DOCKER, "after").await;
        let doomed = self.image("team/app", &["doomed", "too"], DOCKER, "doomed").await;
        self.delete("team/app", named(&doomed)).await;
        self.list("team/app/nested", &["multi"], DOCKER, "list").await;
        self.image("team", &["v1_2.3-x"], OCI, "team").await;
        self.list("team", &["multi"], OCI, "index").await;
        // Names that the programs sort differently.
        self.image("a-b", &["x"], OCI, "x").await;
        self.image("a/b/c/d", &["x"], OCI, "x").await;
        self.image("a.b__c/1", &["x"], DOCKER, "x").await;

        let layer = layer("one");
        self.mount("other/mounted", layer.clone(), "team/app").await;
        self.blob("other/mounted", "{}").await;
        let mounted = json!({
            "schemaVersion": 2,
            "mediaType": OCI.image,
            "config": descriptor(OCI.config, "{}"),
            "layers": [descriptor(OCI.layer, &layer), descriptor(OCI.layer, "{}")],
        });
        self.manifest("other/mounted", &["m"], OCI.image, &mounted).await;

        let last = self.image("emptied", &["last"], OCI, "emptied").await;
        self.delete("emptied", named(&last)).await;
    }
}
