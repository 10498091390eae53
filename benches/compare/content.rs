//! Bytes to push and pull: random, so that they can be neither deduplicated nor compressed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::Outcome;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The size of the end of a payload that varies.
const TAIL: usize = 64;

/// A large random file whose last bytes vary: each variant has its own digest, and all but the end
/// is hashed once.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) path: PathBuf,
    /// The digest of the file as it was made.
    pub(crate) digest: String,
    pub(crate) size: usize,
    before_tail: Sha256,
}

impl Payload {
    /// Makes the file.
    pub(crate) fn make(path: &Path, size: usize) -> Outcome<Self> {
        let (mut random, mut file) = (File::open("/dev/urandom")?, File::create(path)?);
        let (mut hash, mut piece) = (Sha256::new(), vec![0; 1 << 20]);
        let mut left = size - TAIL;
        while left > 0 {
            let length = left.min(piece.len());
            random.read_exact(&mut piece[..length])?;
            hash.update(&piece[..length]);
            file.write_all(&piece[..length])?;
            left -= length;
        }
        file.write_all(&[0; TAIL])?;
        // Unwritten pages would slow down the side that comes first.
        file.sync_all()?;
        let digest = digest_of(hash.clone().chain_update([0; TAIL]));
        Ok(Self { path: path.to_owned(), digest, size, before_tail: hash })
    }

    /// The same bytes with a new end, and their digest.
    pub(crate) fn another(&self) -> Outcome<([u8; TAIL], String)> {
        let mut tail = [0; TAIL];
        File::open("/dev/urandom")?.read_exact(&mut tail)?;
        Ok((tail, digest_of(self.before_tail.clone().chain_update(tail))))
    }

    /// Makes a copy at `path`, or gives an existing copy a new end; gives the digest.
    pub(crate) fn renew(&self, path: &Path) -> Outcome<String> {
        if !path.exists() {
            fs::copy(&self.path, path)?;
        }
        let (tail, digest) = self.another()?;
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::Start((self.size - TAIL) as u64))?;
        file.write_all(&tail)?;
        file.sync_all()?;
        Ok(digest)
    }
}

/// Some random bytes.
pub(crate) fn random(size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The digest of bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    digest_of(Sha256::new_with_prefix(bytes))
}

fn digest_of(hash: Sha256) -> String {
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The configuration of an image.
pub(crate) fn image_configuration() -> Vec<u8> {
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [] },
    });
    config.to_string().into_bytes()
}

/// The manifest of an image with these layers, each a digest and a size.
pub(crate) fn manifest(config: &[u8], layers: &[(String, usize)]) -> Vec<u8> {
    let layers: Vec<Value> = layers
        .iter()
        .map(|(digest, size)| json!({ "mediaType": LAYER, "digest": digest, "size": size }))
        .collect();
    let config = json!({ "mediaType": CONFIG, "digest": digest(config), "size": config.len() });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}

/// Writes an OCI image layout with one image, called `image`, of so many random layers.
pub(crate) fn layout(path: &Path, layers: usize, size: usize) -> Outcome<()> {
    fs::create_dir_all(path.join("blobs/sha256"))?;
    let blob = |bytes: &[u8]| -> Outcome<(String, usize)> {
        let digest = digest(bytes);
        fs::write(path.join("blobs").join(digest.replace(':', "/")), bytes)?;
        Ok((digest, bytes.len()))
    };
    let config = image_configuration();
    blob(&config)?;
    let layers: Vec<_> = (0..layers).map(|_| blob(&random(size)?)).collect::<Outcome<Vec<_>>>()?;
    let (digest, size) = blob(&manifest(&config, &layers))?;
    let entry = json!({
        "mediaType": MANIFEST,
        "digest": digest,
        "size": size,
        "annotations": { "org.opencontainers.image.ref.name": "image" },
    });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
    fs::write(path.join("index.json"), index.to_string())?;
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(())
}
