//! Tags, and references that are a tag or a digest (distribution-spec, "Pulling manifests").

use std::{fmt, str::FromStr, sync::Arc};

use super::Digest;

/// The name of a manifest within a repository: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. Clones
/// share one allocation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

impl Tag {
    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, InvalidTag> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        match text.as_bytes() {
            [first, rest @ ..]
                if word(*first)
                    && rest.len() < 128
                    && rest.iter().all(|b| word(*b) || matches!(b, b'.' | b'-')) =>
            {
                Ok(Self(text.into()))
            }
            _ => Err(InvalidTag),
        }
    }
}

/// A text is not a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a tag has at most 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two"
)]
pub struct InvalidTag;

/// A reference to a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// Its digest.
    Digest(Digest),
    /// A tag.
    Tag(Tag),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Tag(tag) => tag.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn valid_tags_are_accepted_and_others_refused() {
        for tag in ["latest", "_", "v1.2.3-rc.1", "A", &"t".repeat(128)] {
            assert_eq!(tag.parse::<Tag>().unwrap().as_str(), tag);
        }
        for text in ["", ".", "-a", "a/b", "a:b", "a b", "ä", "a\n", "..", &"t".repeat(129)] {
            assert_eq!(text.parse::<Tag>(), Err(InvalidTag), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_accepted_tag_is_unchanged(text in "\\PC{0,140}") {
            if let Ok(tag) = text.parse::<Tag>() {
                prop_assert_eq!(tag.as_str(), text);
            }
        }
    }
}
