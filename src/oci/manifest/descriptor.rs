//! Descriptors: references to content (image-spec, descriptor.md).

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{annotations::Unread, object::Object};
use crate::oci::Digest;

/// A reference to content (image-spec, descriptor.md). As in registry:2, `null` is the same as an
/// absent field, and only the digest is required.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The type of the content; empty if absent.
    #[serde(default, deserialize_with = "text")]
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The length of the content in bytes; 0 if absent.
    #[serde(default, deserialize_with = "size")]
    pub size: u64,
    /// The addresses from which clients may download the content. The registry need not have a layer with
    /// such addresses.
    #[serde(default)]
    pub urls: Option<Vec<String>>,
    /// The platform of a child of an index.
    #[serde(default, deserialize_with = "platform")]
    pub platform: Option<Platform>,
    #[serde(default, rename = "annotations")]
    _annotations: Unread,
}

/// The platform of an image, as an index describes it (image-spec, image-index.md).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Platform {
    /// The processor, as Go names it: `amd64`.
    pub architecture: String,
    /// The operating system, as Go names it: `linux`.
    pub os: String,
}

impl Descriptor {
    /// Whether the registry may lack the content (image-spec, "non-distributable").
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Go programs parse a length as `int64`, and refuse larger ones.
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
