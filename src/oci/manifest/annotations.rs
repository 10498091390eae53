//! Annotations: strings by arbitrary keys (image-spec, annotations.md).

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use super::keys::Key;

/// Annotations that every program parses alike. A repeated key is refused, and `null` is the empty
/// string, as in Go. Keys are case-sensitive.
#[derive(Debug)]
pub(super) struct Annotations(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnnotationsVisitor)
    }
}

/// The annotations of a descriptor. The registry does not use them, and parses them to refuse those
/// that programs would parse differently.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unread;

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<Annotations>::deserialize(deserializer).map(|_| Self)
    }
}

struct AnnotationsVisitor;

impl<'de> Visitor<'de> for AnnotationsVisitor {
    type Value = Annotations;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
        let mut annotations = BTreeMap::new();
        while let Some(Key(key)) = map.next_key()? {
            let value = map.next_value::<Option<String>>()?.unwrap_or_default();
            if annotations.contains_key(&*key) {
                return Err(A::Error::custom(format_args!("duplicate annotation `{key}`")));
            }
            annotations.insert(key.into_owned(), value);
        }
        Ok(Annotations(annotations))
    }
}
