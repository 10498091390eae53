//! What a stored manifest refers to, of whatever kind it is.
//!
//! [`Manifest::parse`](super::Manifest::parse) decides what is accepted, and this what must not be
//! taken from under what is there: other registries have accepted more, schema 1 for one.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Digest, object::Object};

/// The digests that a stored manifest names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Configurations, layers and other blobs, those with addresses elsewhere too.
    pub blobs: BTreeSet<Digest>,
    /// The children of an index. Some builders list the blobs of their caches as children.
    pub manifests: BTreeSet<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    config: Option<Object<Named>>,
    layers: Option<Vec<Object<Named>>>,
    blobs: Option<Vec<Object<Named>>>,
    manifests: Option<Vec<Object<Named>>>,
    /// Schema 1's layers.
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
    /// Reads the bytes of a stored manifest; `None` when they are none. What it names by something
    /// that is no digest cannot be here.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let Object(stored) = serde_json::from_slice::<Object<Stored>>(bytes).ok()?;
        let digest = |text: Option<String>| text?.parse::<Digest>().ok();
        let named = |list: Option<Vec<Object<Named>>>| {
            list.into_iter().flatten().filter_map(move |Object(named)| digest(named.digest))
        };
        let layers = stored.fs_layers.into_iter().flatten();
        let blobs = stored.config.and_then(|Object(config)| digest(config.digest));
        let blobs = blobs
            .into_iter()
            .chain(named(stored.layers))
            .chain(named(stored.blobs))
            .chain(layers.filter_map(|Object(layer)| digest(layer.blob_sum)))
            .collect();
        Some(Self { blobs, manifests: named(stored.manifests).collect() })
    }
}
