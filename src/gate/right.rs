//! Rights, and the words of rules and deploy tokens for them.

use std::fmt;

use serde::Deserialize;

use crate::oci::RepositoryName;

/// Something that a caller may or may not do. As text, what stands behind "may not".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right<'a> {
    /// Asking for lists of repositories, which show what the caller may pull.
    List,
    /// Reading from a repository.
    Pull(&'a RepositoryName),
    /// Reading from every repository.
    PullAll,
    /// Uploads to a repository, and tags that are not there yet.
    Create(&'a RepositoryName),
    /// Moving tags of a repository.
    Push(&'a RepositoryName),
    /// Deleting blobs, tags or manifests of a repository, or the repository.
    Delete(&'a RepositoryName),
}

impl<'a> Right<'a> {
    /// The word that gives the right.
    #[must_use]
    pub const fn may(&self) -> May {
        match self {
            Self::List | Self::Pull(_) | Self::PullAll => May::Pull,
            Self::Create(_) => May::Create,
            Self::Push(_) => May::Push,
            Self::Delete(_) => May::Delete,
        }
    }

    /// The repository that it is about; `None` where it is about all.
    #[must_use]
    pub const fn repository(&self) -> Option<&'a RepositoryName> {
        match self {
            Self::List | Self::PullAll => None,
            Self::Pull(name) | Self::Create(name) | Self::Push(name) | Self::Delete(name) => {
                Some(name)
            }
        }
    }
}

impl fmt::Display for Right<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List => f.write_str("list the repositories"),
            Self::PullAll => f.write_str("pull from every repository"),
            Self::Pull(name) => write!(f, "pull {name}"),
            // An upload is the beginning of a push.
            Self::Create(name) | Self::Push(name) => write!(f, "push to {name}"),
            Self::Delete(name) => write!(f, "delete from {name}"),
        }
    }
}

/// A word for rights, as `may` of a rule and of a deploy token has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum May {
    /// Reading.
    Pull,
    /// Reading, uploads, and tags that are not there yet.
    Create,
    /// The same, and moving tags.
    Push,
    /// Reading, and deleting.
    Delete,
    /// Everything.
    All,
}

/// The words, in the order in which messages name them.
pub const MAYS: [May; 5] = [May::Pull, May::Create, May::Push, May::Delete, May::All];

impl May {
    /// Whether this word gives every right that `other` gives.
    #[must_use]
    pub const fn includes(self, other: Self) -> bool {
        self.bits() & other.bits() == other.bits()
    }

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Create => "create",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::All => "all",
        }
    }

    /// A bit for each right that is not part of another. Reading is part of all: clients send `HEAD`
    /// before they upload.
    const fn bits(self) -> u8 {
        match self {
            Self::Pull => 0b0001,
            Self::Create => 0b0011,
            Self::Push => 0b0111,
            Self::Delete => 0b1001,
            Self::All => 0b1111,
        }
    }
}

impl fmt::Display for May {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for May {
    type Err = UnknownMay;

    fn from_str(word: &str) -> Result<Self, UnknownMay> {
        let known = MAYS.into_iter().find(|may| may.as_str() == word);
        known.ok_or_else(|| UnknownMay(word.to_owned()))
    }
}

impl TryFrom<String> for May {
    type Error = UnknownMay;

    fn try_from(word: String) -> Result<Self, UnknownMay> {
        word.parse()
    }
}

/// A word that gives no right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `pull`, `create`, `push`, `delete` or `all`, found {0:?}")]
pub struct UnknownMay(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_include_reading_and_what_they_extend() {
        let included = |may: May| MAYS.into_iter().filter(move |other| may.includes(*other));
        for (may, others) in [
            (May::Pull, &[May::Pull][..]),
            (May::Create, &[May::Pull, May::Create]),
            (May::Push, &[May::Pull, May::Create, May::Push]),
            (May::Delete, &[May::Pull, May::Delete]),
            (May::All, &MAYS),
        ] {
            assert_eq!(included(may).collect::<Vec<_>>(), others, "{may}");
            assert_eq!(may.as_str().parse(), Ok(may));
        }
        let unknown = "pul".parse::<May>().unwrap_err().to_string();
        assert_eq!(unknown, "expected `pull`, `create`, `push`, `delete` or `all`, found \"pul\"");
    }
}
