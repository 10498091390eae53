//! JSON objects that every program parses alike.

use std::{collections::HashSet, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, Error as _, MapAccess, Visitor,
        value::{CowStrDeserializer, MapAccessDeserializer},
    },
    forward_to_deserialize_any,
};

use super::keys::{Key, folds_to};

/// A struct from a JSON object. serde's derived code would also accept an array of the values in the
/// order of the fields, which no client accepts as a manifest.
///
/// A repeated key is refused, and so is a key that differs from a field of the struct only by case: Go
/// programs use the value of the last one, other programs that of the first one or none.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(Unambiguous(map)).map(Object)
    }
}

/// Deserializes a struct from the entries of an object. serde passes the names of its fields.
struct Unambiguous<A>(A);

impl<'de, A: MapAccess<'de>> Deserializer<'de> for Unambiguous<A> {
    type Error = A::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        visitor.visit_map(Entries { map: self.0, fields, others: HashSet::new() })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        MapAccessDeserializer::new(self.0).deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The entries of an object. An ambiguous key is an error.
struct Entries<'de, A> {
    map: A,
    fields: &'static [&'static str],
    /// The keys so far that are not fields. The struct itself refuses a repeated field.
    others: HashSet<Key<'de>>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'de, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let Some(key) = self.map.next_key::<Key<'de>>()? else { return Ok(None) };
        let Key(text) = &key;
        if !self.fields.contains(&&**text) {
            if let Some(field) = self.fields.iter().find(|field| folds_to(text, field)) {
                return Err(A::Error::custom(format_args!(
                    "the key `{text}` differs from `{field}` only by case"
                )));
            }
            if !self.others.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("duplicate field `{text}`")));
            }
        }
        let Key(text) = key;
        seed.deserialize(CowStrDeserializer::new(text)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.map.size_hint()
    }
}
