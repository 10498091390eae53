//! The pushed content: layers, images and indexes, each made from a number, so that clients that
//! draw the same number push the same bytes.

use std::{collections::HashMap, ops::Range, sync::Mutex};

use bytes::Bytes;
use serde_json::{Value, json};

pub(crate) use testkit::blob::{Blob, Digest, digest};
use testkit::{
    blob::{CONFIG, IMAGE, LAYER, descriptor, noise},
    random::Random,
};

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The repositories, one of them below another.
pub(crate) const REPOSITORIES: [&str; 3] = ["chaos/one", "chaos/two", "chaos/one/deep"];
/// The tags that each of them may have.
pub(crate) const TAGS: [&str; 4] = ["latest", "v1", "v2", "edge"];

/// The number of new layers between two kills, which images share.
const LAYERS: u64 = 8;
/// The number of new images between two kills.
const IMAGES: u64 = 5;
/// For how many kills images are still pushed.
const REMEMBERED: u64 = 2;

/// A manifest and the content that it references.
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

/// All content of one tree. Layers are kept, since making them takes time.
#[derive(Debug)]
pub(crate) struct Content {
    seed: u64,
    layers: Mutex<HashMap<u64, Blob>>,
}

impl Content {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, layers: Mutex::default() }
    }

    /// The numbers of the images that are pushed after so many kills: some are new each time, since
    /// an existing blob proves little.
    pub(crate) const fn images(kills: u64) -> Range<u64> {
        kills.saturating_sub(REMEMBERED) * IMAGES..(kills + 1) * IMAGES
    }

    /// An image: one to three layers that it shares with other images of its time, and sometimes a
    /// subject.
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
            // Most fit into one batch of the server; for a few large ones it saves the hasher.
            let (least, most) = match random.below(100) {
                0..60 => (64, 16 << 10),
                60..93 => (16 << 10, 700 << 10),
                _ => (4 << 20, 7 << 20),
            };
            let size = least + random.below(most - least);
            Blob::new(noise(&mut random, size))
        };
        self.layers.lock().unwrap().entry(number).or_insert_with(make).clone()
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
