//! Matches the keys of a JSON object with fields as Go programs do.
//!
//! docker, containerd, skopeo and registry:2 parse JSON with Go's `encoding/json`, which ignores the
//! case of keys and uses the last of several equal keys. serde matches keys exactly. The two parse
//! different images from `{"layers":[…],"Layers":[…]}`.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

/// Whether Go matches `key` with the field `name`, which is ASCII. Go ignores the case of ASCII
/// letters, and folds the long s (U+017F) to `s` and the Kelvin sign (U+212A) to `k`
/// (`foldName` in Go's `encoding/json/fold.go`).
pub(super) fn folds_to(key: &str, name: &str) -> bool {
    if key.len() == name.len() {
        return key.eq_ignore_ascii_case(name);
    }
    // Both characters have more bytes than the letter.
    key.len() > name.len()
        && !key.is_ascii()
        && key.chars().map(folded).eq(name.chars().map(folded))
}

const fn folded(c: char) -> char {
    match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => c.to_ascii_lowercase(),
    }
}

/// The key of an object, borrowed unless it has an escape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key<'de>(pub(super) Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fold_as_in_go() {
        for key in ["layers", "Layers", "LAYERS", "lAyErS", "layer\u{17f}", "LAYER\u{17f}"] {
            assert!(folds_to(key, "layers"), "{key}");
        }
        assert!(folds_to("\u{212a}ind", "kind") && folds_to("KIND", "kind"));
        for key in ["", "layer", "layerss", "layers ", "läyers", "layerß", "\u{17f}ayers", "layer5"]
        {
            assert!(!folds_to(key, "layers"), "{key}");
        }
        // Characters that differ in the same bit as the cases of a letter.
        assert!(!folds_to("@", "`") && !folds_to("[", "{"));
    }
}
