//! Repository names (distribution-spec, "Pulling manifests").

use std::{fmt, str::FromStr, sync::Arc};

/// The longest accepted name. Docker limits `host/name` to 255 characters; as in registry:2, a name
/// without a host may have as many.
pub(super) const MAX_LEN: usize = 255;

/// A repository name: components of `[a-z0-9]+` joined by `.`, `_`, `__` or dashes, separated
/// by `/`. No component begins with `_` or `.`, so a name cannot collide with the folders beside it in
/// the storage tree. Clones share one allocation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Arc<str>);

impl RepositoryName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepositoryName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.len() > MAX_LEN {
            return Err(InvalidName::Length);
        }
        if !text.split('/').all(is_component) {
            return Err(InvalidName::Grammar);
        }
        Ok(Self(text.into()))
    }
}

/// Whether a text can be a component of a name: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
#[must_use]
pub fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = text.as_bytes();
    loop {
        let word = rest.iter().take_while(|b| alphanumeric(**b)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        let separator = match rest {
            [] => return true,
            [b'_', b'_', ..] => 2,
            [b'.' | b'_', ..] => 1,
            [b'-', ..] => rest.iter().take_while(|b| **b == b'-').count(),
            _ => return false,
        };
        rest = &rest[separator..];
    }
}

/// A text is not a repository name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// A component violates the grammar.
    #[error(
        "a repository name is made of lower-case letters and digits, joined by `.`, `_`, `__` or \
         `-` and separated by `/`"
    )]
    Grammar,
    /// The name is too long.
    #[error("a repository name has at most 255 characters")]
    Length,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn valid_names_are_accepted() {
        for name in ["a", "library/alpine", "a.b_c__d-e---f/0", "blobs", "v2/blobs/uploads/tags"] {
            assert_eq!(name.parse::<RepositoryName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        for name in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a..b",
            "a___b",
            "a._b",
            "-a",
            "a-",
            ".a",
            "a.",
            "_layers",
            "a/_uploads",
            "a b",
            "a\0",
            "ä",
            "a/../b",
            "..",
        ] {
            assert_eq!(name.parse::<RepositoryName>(), Err(InvalidName::Grammar), "{name}");
        }
        assert!("a".repeat(255).parse::<RepositoryName>().is_ok());
        assert_eq!("a".repeat(256).parse::<RepositoryName>(), Err(InvalidName::Length));
    }

    proptest! {
        #[test]
        fn every_name_of_the_grammar_is_accepted(
            name in "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}(/[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}){0,3}"
        ) {
            prop_assert!(name.parse::<RepositoryName>().is_ok());
        }

        #[test]
        fn accepted_name_never_leaves_its_folder(name in "[a-z0-9._/-]{0,24}") {
            if let Ok(name) = name.parse::<RepositoryName>() {
                let stays = |c: &str| !c.is_empty() && !c.starts_with(['.', '_', '-']);
                prop_assert!(name.as_str().split('/').all(stays));
            }
        }
    }
}
