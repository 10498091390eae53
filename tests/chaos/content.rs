//! What is pushed: layers, images and indexes, each made from a number, so that clients which draw
//! the same number push the same bytes.

use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::random::Random;

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The repositories, one of them below another.
pub(crate) const REPOSITORIES: [&str; 3] = ["chaos/one", "chaos/two", "chaos/one/deep"];
/// The tags that each of them may have.
pub(crate) const TAGS: [&str; 4] = ["latest", "v1", "v2", "edge"];

/// How many layers the images share that are new between two kills.
const LAYERS: u64 = 8;
/// How many images are new between two kills.
const IMAGES: u64 = 5;
/// Images of this many kills before are pushed still.
const REMEMBERED: u64 = 2;

/// A digest as text: `sha256:<hex>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Digest(Arc<str>);

impl Digest {
    /// Takes what the registry wrote as it is: whoever compares it finds what is wrong with it.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Some bytes and their name.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
}

/// A manifest and what it names.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
    pub(crate) media_type: &'static str,
    /// The configuration and the layers of an image.
    pub(crate) blobs: Vec<Blob>,
    /// The images of an index.
    pub(crate) children: Vec<Self>,
}

/// Everything that one tree is given. Layers are kept, for they take time to make.
#[derive(Debug)]
pub(crate) struct Content {
    seed: u64,
    layers: Mutex<HashMap<u64, Blob>>,
}

impl Content {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, layers: Mutex::default() }
    }

    /// The numbers of the images that are pushed after so many kills: some are new each time, for a
    /// blob that is there already proves little.
    pub(crate) const fn images(kills: u64) -> Range<u64> {
        kills.saturating_sub(REMEMBERED) * IMAGES..(kills + 1) * IMAGES
    }

    /// An image: one to three layers that other images of its time have too, for some a subject.
    pub(crate) fn image(&self, number: u64) -> Manifest {
        let mut random = Random::new(self.seed ^ number.wrapping_mul(0x1_0000_0001));
        let first = number / IMAGES * LAYERS;
        let config = Blob::new(format!("{{\"os\":\"linux\",\"number\":{number}}}").into());
        let mut layers: Vec<u64> =
            (0..=random.below(3)).map(|_| first + random.below(LAYERS)).collect();
        layers.sort_unstable();
        layers.dedup();
        let mut blobs: Vec<Blob> = layers.into_iter().map(|layer| self.layer(layer)).collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": config.descriptor(CONFIG),
            "layers": blobs.iter().map(|blob| blob.descriptor(LAYER)).collect::<Vec<_>>(),
        });
        if number % 3 == 2 {
            let subject = self.image(number - 1);
            manifest["subject"] = subject.descriptor();
        }
        blobs.push(config);
        Manifest::new(&manifest, IMAGE, blobs, Vec::new())
    }

    /// An index of two images, `number` and the one before it.
    pub(crate) fn index(&self, number: u64) -> Manifest {
        let children = vec![self.image(number), self.image(number.saturating_sub(1))];
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": children.iter().map(Manifest::descriptor).collect::<Vec<_>>(),
        });
        Manifest::new(&manifest, INDEX, Vec::new(), children)
    }

    fn layer(&self, number: u64) -> Blob {
        let make = || {
            let mut random = Random::new(self.seed.wrapping_add(number << 20));
            // Most fit into one batch of the server; a few are so large that it saves its hasher.
            let (least, most) = match random.below(100) {
                0..60 => (64, 16 << 10),
                60..93 => (16 << 10, 700 << 10),
                _ => (4 << 20, 7 << 20),
            };
            let words = (least + random.below(most - least)) / 8;
            let bytes: Vec<u8> = (0..words).flat_map(|_| random.number().to_le_bytes()).collect();
            Blob::new(bytes.into())
        };
        self.layers.lock().unwrap().entry(number).or_insert_with(make).clone()
    }
}

impl Blob {
    fn new(bytes: Bytes) -> Self {
        Self { digest: digest(&bytes), bytes }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        descriptor(media_type, &self.digest, &self.bytes)
    }
}

impl Manifest {
    fn new(json: &Value, kind: &'static str, blobs: Vec<Blob>, children: Vec<Self>) -> Self {
        let bytes = Bytes::from(json.to_string());
        Self { digest: digest(&bytes), bytes, media_type: kind, blobs, children }
    }

    fn descriptor(&self) -> Value {
        descriptor(self.media_type, &self.digest, &self.bytes)
    }
}

fn descriptor(media_type: &str, digest: &Digest, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest.as_str(), "size": bytes.len() })
}

/// The digest of bytes.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Digest::new(&format!("sha256:{hex}"))
}
