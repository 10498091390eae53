//! Descriptors: references to content (image-spec, descriptor.md).

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{annotations::Unread, object::Object};
use crate::oci::Digest;

/// A reference to content (image-spec, descriptor.md). As in registry:2, `null` is as good as
/// absent, and nothing but the digest must be there.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The type of the content; empty where none is given.
    #[serde(default, deserialize_with = "text")]
    pub media_type: String,
    /// The name of the content.
    pub digest: Digest,
    /// Its length in bytes; 0 where none is given.
    #[serde(default, deserialize_with = "size")]
    pub size: u64,
    /// Where else it can be had; a layer with such addresses need not be here.
    #[serde(default)]
    pub urls: Option<Vec<String>>,
    /// What a child of an index runs on.
    #[serde(default, deserialize_with = "platform")]
    pub platform: Option<Platform>,
    #[serde(default, rename = "annotations")]
    _annotations: Unread,
}

/// What an image runs on, of what an index says about it (image-spec, image-index.md).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Platform {
    /// The processor, as Go names it: `amd64`.
    pub architecture: String,
    /// The operating system, as Go names it: `linux`.
    pub os: String,
}

impl Descriptor {
    /// Whether the content may live outside of the registry (image-spec, "non-distributable").
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Lengths are `int64` in Go, which refuses larger ones.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = Option::<i64>::deserialize(deserializer)?.unwrap_or_default();
    u64::try_from(size).map_err(|_| D::Error::custom(format_args!("a size of {size} bytes")))
}

fn platform<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Platform>, D::Error> {
    #[derive(Deserialize)]
    struct Written {
        architecture: Option<String>,
        os: Option<String>,
    }
    let written = Option::<Object<Written>>::deserialize(deserializer)?;
    Ok(written.map(|Object(written)| Platform {
        architecture: written.architecture.unwrap_or_default(),
        os: written.os.unwrap_or_default(),
    }))
}
