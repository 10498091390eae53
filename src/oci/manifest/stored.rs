//! The media type of a stored manifest, as Go programs determine it: keys in any case, and of repeated
//! keys the last.

use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use super::{
    MediaType,
    keys::{Key, folds_to},
};
use crate::oci::Schema1;

/// The fields that determine the type.
#[derive(Default)]
struct Fields {
    media_type: Option<String>,
    schema_version: Option<u64>,
    is_image: bool,
    /// `Some` if there is a field `manifests`; true if it is not `null`.
    manifests: Option<bool>,
    is_signed: bool,
}

/// Determines the type of stored bytes.
pub(super) fn media_type(bytes: &[u8]) -> String {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let fields = json.deserialize_map(FieldsVisitor).and_then(|fields| json.end().map(|()| fields));
    let Ok(fields) = fields else { return "application/octet-stream".to_owned() };
    match fields {
        // The type becomes a header, so a type that cannot is the same as an absent one.
        Fields { media_type: Some(text), .. }
            if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            text
        }
        // A known type with white space, which a push may have. The shape may be that of another type.
        Fields { media_type: Some(text), .. } if let Some(known) = MediaType::parse(&text) => {
            known.to_string()
        }
        Fields { schema_version: Some(1), is_signed, .. } => {
            let signed = if is_signed { Schema1::Signed } else { Schema1::Bare };
            signed.as_str().to_owned()
        }
        Fields { manifests: Some(true), .. }
        | Fields { manifests: Some(false), is_image: false, .. } => MediaType::OciIndex.to_string(),
        _ => MediaType::OciManifest.to_string(),
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(Key(key)) = map.next_key()? {
            let is = |name| folds_to(&key, name);
            // In Go, `null` leaves a string and a number unchanged, and sets a list to nil.
            if is("mediaType") {
                fields.media_type = map.next_value::<Option<String>>()?.or(fields.media_type);
            } else if is("schemaVersion") {
                fields.schema_version = map.next_value::<Option<u64>>()?.or(fields.schema_version);
            } else if is("manifests") {
                fields.manifests = Some(map.next_value::<Option<IgnoredAny>>()?.is_some());
            } else if is("config") || is("layers") {
                fields.is_image |= map.next_value::<Option<IgnoredAny>>()?.is_some();
            } else if is("signatures") {
                fields.is_signed |= map.next_value::<Option<IgnoredAny>>()?.is_some();
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(fields)
    }
}
