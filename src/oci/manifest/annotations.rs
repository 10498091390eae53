//! Annotations: texts by keys that are anybody's (image-spec, annotations.md).

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use super::keys::Key;

/// Annotations as every program reads them: a key that stands twice is refused, and `null` is the
/// empty text, as in Go. Case tells keys apart.
#[derive(Debug)]
pub(super) struct Annotations(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnnotationsVisitor)
    }
}

/// The annotations of a descriptor, which nobody here asks for. They are read so that every program
/// reads them alike.
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
