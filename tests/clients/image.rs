//! Images made by hand: small, for this machine, and never downloaded.

use std::env::consts;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use testkit::process::Outcome;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A tar with one file, for `docker import` and `podman import`.
pub(crate) fn tar(directory: &Path, name: &str) -> PathBuf {
    let content = directory.join(format!("{name}.d"));
    fs::create_dir_all(&content).expect("a directory can be made");
    fs::write(content.join(name), format!("this is {name}\n")).expect("a file can be written");
    let tar = directory.join(format!("{name}.tar"));
    pack(&content, &tar);
    tar
}

/// A build context `FROM scratch` with one layer per file.
pub(crate) fn context(directory: &Path, files: &[&str]) -> PathBuf {
    let context = directory.join("context");
    fs::create_dir_all(&context).expect("a directory can be made");
    let mut dockerfile = "FROM scratch\n".to_owned();
    for file in files {
        fs::write(context.join(file), format!("this is {file}\n")).expect("a file can be written");
        dockerfile += &format!("COPY {file} /{file}\n");
    }
    fs::write(context.join("Dockerfile"), dockerfile).expect("a file can be written");
    context
}

/// An OCI image layout on disk. Its content follows from the name of its directory.
pub(crate) struct Layout {
    path: PathBuf,
    /// The digest of the layout's manifest or index.
    pub(crate) digest: String,
}

impl Layout {
    /// An image of two layers for this machine, called `name` in the layout's index.
    pub(crate) fn image(path: &Path, name: &str) -> Self {
        let layout = Self::empty(path);
        let manifest = layout.manifest(architecture());
        layout.finish(name, &manifest)
    }

    /// An index of two images for two architectures, of which one is this machine's.
    pub(crate) fn index(path: &Path, name: &str) -> Self {
        let layout = Self::empty(path);
        let manifests: Vec<Value> = [architecture(), "s390x"]
            .into_iter()
            .map(|architecture| {
                let mut manifest = layout.manifest(architecture);
                manifest["platform"] = json!({ "architecture": architecture, "os": "linux" });
                manifest
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        let descriptor = layout.blob(INDEX, index.to_string().as_bytes());
        layout.finish(name, &descriptor)
    }

    /// The layout as skopeo and podman name it.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("oci:{}:{name}", self.path.display())
    }

    /// The layout as one tar, as ctr imports it.
    pub(crate) fn archive(&self) -> PathBuf {
        let archive = self.path.with_extension("tar");
        pack(&self.path, &archive);
        archive
    }

    fn empty(path: &Path) -> Self {
        fs::create_dir_all(path.join("blobs/sha256")).expect("a directory can be made");
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("a file can be written");
        Self { path: path.to_owned(), digest: String::new() }
    }

    fn manifest(&self, architecture: &str) -> Value {
        let scratch = self.path.with_extension("layers");
        let whose = self.path.file_name().expect("a layout has a directory").display();
        let layers: Vec<Value> = ["lower", "upper"]
            .map(|layer| {
                let tar = tar(&scratch, &format!("{whose}-{layer}-{architecture}"));
                let bytes = fs::read(tar).expect("the tar was written");
                self.blob("application/vnd.oci.image.layer.v1.tar", &bytes)
            })
            .into();
        let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config =
            self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": layers,
        });
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Stores `bytes` and gives their descriptor.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(self.path.join("blobs/sha256").join(&hex), bytes).expect("a blob can be written");
        json!({ "mediaType": media_type, "size": bytes.len(), "digest": format!("sha256:{hex}") })
    }

    fn finish(mut self, name: &str, descriptor: &Value) -> Self {
        let mut entry = descriptor.clone();
        entry["annotations"] = json!({
            "org.opencontainers.image.ref.name": name,
            // For ctr, which takes the other as a bare tag.
            "io.containerd.image.name": name,
        });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
        fs::write(self.path.join("index.json"), index.to_string()).expect("a file can be written");
        self.digest = descriptor["digest"].as_str().expect("a descriptor has one").to_owned();
        self
    }
}

/// This machine's architecture, by its name in images.
fn architecture() -> &'static str {
    match consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub(crate) fn pack(directory: &Path, archive: &Path) {
    Outcome::of(Command::new("tar").arg("-C").arg(directory).arg("-cf").arg(archive).arg("."))
        .succeeds();
}
