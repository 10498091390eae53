//! The pushed content: a fixed set of layers, so that the disk does not fill, and images of them,
//! some of which are new.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use testkit::{
    blob::{Blob, CONFIG, Digest, IMAGE, LAYER, descriptor, digest, noise},
    random::Random,
};

/// The number of layers.
const LAYERS: u64 = 40;
/// Their sizes: each power of two is as frequent as any other.
const LEAST_BITS: u64 = 10;
const MOST_BITS: u64 = 23;
/// The number of images that are pushed over and over. New images have higher numbers.
const KNOWN: u64 = 64;
/// The percentage of new images.
const NEW: u64 = 15;

/// An image and the content that it references.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) digest: Digest,
    pub(crate) bytes: bytes::Bytes,
    /// The configuration and the layers.
    pub(crate) blobs: Vec<Blob>,
}

/// All pushed content.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) layers: Vec<Blob>,
    next: AtomicU64,
}

impl Content {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let layers = (0..LAYERS)
            .map(|number| {
                let size = match number {
                    0 => 1 << LEAST_BITS,
                    1 => 1 << MOST_BITS,
                    _ => {
                        let half = 1 << (LEAST_BITS + random.below(MOST_BITS - LEAST_BITS));
                        half + random.below(half)
                    }
                };
                Blob::new(noise(&mut random, size))
            })
            .collect();
        Self { layers, next: AtomicU64::new(KNOWN) }
    }

    /// An image, most often a known one.
    pub(crate) fn image(&self, random: &mut Random) -> Image {
        let number = match random.percent(NEW) {
            true => self.next.fetch_add(1, Ordering::Relaxed),
            false => random.below(KNOWN),
        };
        self.numbered(number)
    }

    /// The image of a number.
    pub(crate) fn numbered(&self, number: u64) -> Image {
        let mut random = Random::new(number);
        let config = Blob::new(format!("{{\"os\":\"linux\",\"number\":{number}}}").into());
        let mut layers: Vec<&Blob> =
            (0..=random.below(3)).map(|_| random.pick(&self.layers)).collect();
        layers.sort_unstable_by_key(|layer| layer.digest.as_str());
        layers.dedup_by_key(|layer| layer.digest.as_str());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": config.descriptor(CONFIG),
            "layers": layers.iter().map(|layer| layer.descriptor(LAYER)).collect::<Vec<_>>(),
        });
        let mut blobs = vec![config];
        blobs.extend(layers.into_iter().cloned());
        let bytes = bytes::Bytes::from(manifest.to_string());
        Image { digest: digest(&bytes), bytes, blobs }
    }

    /// An image whose layer does not exist.
    pub(crate) fn incomplete(&self) -> Image {
        let mut image = self.numbered(0);
        let nothing = descriptor(LAYER, &digest(b"a missing layer"), b"a missing layer");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": image.blobs[0].descriptor(CONFIG),
            "layers": [nothing],
        });
        image.bytes = bytes::Bytes::from(manifest.to_string());
        image.digest = digest(&image.bytes);
        image
    }
}
