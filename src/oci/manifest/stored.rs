//! The type of a stored manifest, as Go programs read it: whatever the case of a key, and the last
//! of several wins.

use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use super::{
    MediaType,
    keys::{Key, folds_to},
};
use crate::oci::Schema1;

/// What tells the type.
#[derive(Default)]
struct Told {
    media_type: Option<String>,
    schema_version: Option<u64>,
    is_image: bool,
    /// Whether there are `manifests`, and whether they are more than `null`.
    manifests: Option<bool>,
    is_signed: bool,
}

/// Reads the type of stored bytes.
pub(super) fn media_type(bytes: &[u8]) -> String {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let told = json.deserialize_map(ToldVisitor).and_then(|told| json.end().map(|()| told));
    let Ok(told) = told else { return "application/octet-stream".to_owned() };
    match told {
        // It becomes a header: what cannot be one is as good as absent.
        Told { media_type: Some(text), .. }
            if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            text
        }
        // With white space in it, but one that a push may have: the shape may be another's.
        Told { media_type: Some(text), .. } if let Some(known) = MediaType::parse(&text) => {
            known.to_string()
        }
        Told { schema_version: Some(1), is_signed, .. } => {
            let signed = if is_signed { Schema1::Signed } else { Schema1::Bare };
            signed.as_str().to_owned()
        }
        Told { manifests: Some(true), .. }
        | Told { manifests: Some(false), is_image: false, .. } => MediaType::OciIndex.to_string(),
        _ => MediaType::OciManifest.to_string(),
    }
}

struct ToldVisitor;

impl<'de> Visitor<'de> for ToldVisitor {
    type Value = Told;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Told, A::Error> {
        let mut told = Told::default();
        while let Some(Key(key)) = map.next_key()? {
            let is = |name| folds_to(&key, name);
            // To Go `null` changes neither a text nor a number, and makes a list none.
            if is("mediaType") {
                told.media_type = map.next_value::<Option<String>>()?.or(told.media_type);
            } else if is("schemaVersion") {
                told.schema_version = map.next_value::<Option<u64>>()?.or(told.schema_version);
            } else if is("manifests") {
                told.manifests = Some(map.next_value::<Option<IgnoredAny>>()?.is_some());
            } else if is("config") || is("layers") {
                told.is_image |= map.next_value::<Option<IgnoredAny>>()?.is_some();
            } else if is("signatures") {
                told.is_signed |= map.next_value::<Option<IgnoredAny>>()?.is_some();
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(told)
    }
}
