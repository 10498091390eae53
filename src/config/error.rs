//! What can be wrong with a configuration, in the words that the person who wrote it reads.

use std::{collections::BTreeSet, io, path::PathBuf};

use super::tree::Origin;

/// Why the configuration cannot be used. The message names the place and says what to do; it never
/// contains the value of a key that holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is in UTF-16.
    #[error(
        "the configuration file {} is encoded in UTF-16: save it as UTF-8, as `iconv -f UTF-16 -t \
         UTF-8` does",
        file.display()
    )]
    Utf16 {
        /// The file.
        file: PathBuf,
    },
    /// File or variable is not YAML, or more YAML than a configuration can need.
    #[error("{at}: this cannot be read as YAML: {message}")]
    Syntax {
        /// Where.
        at: Origin,
        /// What the parser says.
        message: String,
    },
    /// `version` is missing from the file.
    #[error(
        "{}: the file does not say which version of the format it is written in; \
         add the line `version: 0.1` at its top",
        file.display()
    )]
    VersionMissing {
        /// The file.
        file: PathBuf,
    },
    /// `version` is not one we read.
    #[error("{at}: version: expected `0.1`, the only version there is, found {found}")]
    Version {
        /// Where.
        at: Origin,
        /// What is there.
        found: String,
    },
    /// No such key.
    #[error("{at}: there is no key `{key}`.{hint}")]
    UnknownKey {
        /// Where.
        at: Origin,
        /// The key, with the sections it stands in.
        key: String,
        /// What was meant, perhaps; starts with a space if not empty.
        hint: String,
    },
    /// The value does not fit its key.
    #[error("{at}: {key}: expected {expected}, found {found}")]
    Mismatch {
        /// Where.
        at: Origin,
        /// The key, with the sections it stands in.
        key: String,
        /// What fits.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The part that the value configures does not take it.
    #[error("{at}: {key}: {message}")]
    Value {
        /// Where.
        at: Origin,
        /// The key, with the sections it stands in.
        key: String,
        /// Why not.
        message: String,
    },
    /// Something is asked for that is not there yet and cannot be done without.
    #[error("{at}: {key}: {reason}")]
    Refused {
        /// Where.
        at: Origin,
        /// The key, with the sections it stands in.
        key: String,
        /// Why not, and what to do instead.
        reason: &'static str,
    },
    /// More than one thing is wrong, each of which stands in a line of the message.
    #[error("{}", .0.iter().map(Self::to_string).collect::<Vec<_>>().join("\n"))]
    Problems(Vec<Self>),
    /// Two alternatives at once.
    #[error("{at}: {key}: there is {other} already, and only one of them can be; keep one")]
    Several {
        /// Where the second is.
        at: Origin,
        /// The second.
        key: String,
        /// The first, with its place.
        other: String,
    },
    /// A variable names a list item that cannot be.
    #[error(
        "{variable}: `{index}` is no item of {key}, which has {len}; \
         use a number from 0 to {len}, where {len} adds an item"
    )]
    Index {
        /// The variable.
        variable: String,
        /// The list.
        key: String,
        /// What stands where a number should.
        index: String,
        /// How many items there are.
        len: usize,
    },
}

impl Error {
    /// Each thing that is wrong.
    #[must_use]
    pub fn problems(&self) -> &[Self] {
        match self {
            Self::Problems(errors) => errors,
            error => std::slice::from_ref(error),
        }
    }

    /// All of these, if there are any, each once: what is wrong in the file may be in the way of a
    /// variable too.
    pub(super) fn of(mut errors: Vec<Self>) -> Result<(), Self> {
        let mut seen = BTreeSet::new();
        errors.retain(|error| seen.insert(error.to_string()));
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Problems(errors)),
        }
    }

    /// The key that it is about, where there is one.
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::UnknownKey { key, .. }
            | Self::Mismatch { key, .. }
            | Self::Value { key, .. }
            | Self::Refused { key, .. }
            | Self::Several { key, .. }
            | Self::Index { key, .. } => Some(key),
            Self::Read { .. }
            | Self::Utf16 { .. }
            | Self::Syntax { .. }
            | Self::VersionMissing { .. }
            | Self::Version { .. }
            | Self::Problems(_) => None,
        }
    }
}
