//! Errors in a configuration, with messages for its author.

use std::{collections::BTreeSet, io, path::PathBuf};

use super::{paths::absolute, tree::Origin};

/// Why the configuration cannot be used. The message names the place and says what to do; it never
/// contains the value of a key that holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No file is where one was named.
    #[error("{}", missing(files, *named_by))]
    Missing {
        /// The files.
        files: Vec<PathBuf>,
        /// The variable that names them; `None` for an argument.
        named_by: Option<&'static str>,
    },
    /// A directory is in the place of the file.
    #[error(
        "the configuration file {} is a directory, which docker makes where the file to mount is \
         missing: remove it, and mount a file",
        file.display()
    )]
    Directory {
        /// The directory.
        file: PathBuf,
    },
    /// A variable of docker-registry 1 names a storage that is no directory.
    #[error(
        "SETTINGS_FLAVOR: `{flavor}` is a storage of docker-registry 1, and images are kept in a \
         directory here, which has none of those: remove SETTINGS_FLAVOR, and set \
         REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY to the directory"
    )]
    Flavor {
        /// The value, escaped.
        flavor: String,
    },
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
        /// The parser's message.
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
    /// `version` has another value than `0.1`.
    #[error("{at}: version: expected `0.1`, the only version there is, found {found}")]
    Version {
        /// Where.
        at: Origin,
        /// What was found.
        found: String,
    },
    /// No such key.
    #[error("{at}: there is no key `{key}`.{hint}")]
    UnknownKey {
        /// Where.
        at: Origin,
        /// The key, with the sections it stands in.
        key: String,
        /// A suggestion; starts with a space unless it is empty.
        hint: String,
    },
    /// The value does not fit its key.
    #[error("{at}: {key}: expected {expected}, found {found}")]
    Mismatch {
        /// Where.
        at: Origin,
        /// The key, with the sections it stands in.
        key: String,
        /// What the key takes.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The value has the right type, and its part refuses it.
    #[error("{at}: {key}: {message}")]
    Value {
        /// Where.
        at: Origin,
        /// The key, with the sections it stands in.
        key: String,
        /// Why not.
        message: String,
    },
    /// An option is not supported, and to ignore it would not be safe.
    #[error("{at}: {key}: {reason}")]
    Refused {
        /// Where.
        at: Origin,
        /// The key, with the sections it stands in.
        key: String,
        /// Why not, and what to do instead.
        reason: &'static str,
    },
    /// Several errors, each in a line of the message.
    #[error("{}", .0.iter().map(Self::to_string).collect::<Vec<_>>().join("\n"))]
    Problems(Vec<Self>),
    /// Two alternatives are both set.
    #[error("{at}: {key}: there is {other} already, and only one of them can be; keep one")]
    Several {
        /// Where the second is.
        at: Origin,
        /// The second.
        key: String,
        /// The first, with its place.
        other: String,
    },
    /// A variable names a list item that cannot exist.
    #[error(
        "{variable}: `{index}` is no item of {key}, which has {len}; \
         use a number from 0 to {len}, where {len} adds an item"
    )]
    Index {
        /// The variable.
        variable: String,
        /// The list.
        key: String,
        /// The text in the place of a number.
        index: String,
        /// How many items there are.
        len: usize,
    },
}

impl Error {
    /// Each single error.
    #[must_use]
    pub fn problems(&self) -> &[Self] {
        match self {
            Self::Problems(errors) => errors,
            error => std::slice::from_ref(error),
        }
    }

    /// All of these errors, if there are any, each once: a variable may meet the same mistake in the
    /// file again.
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
            Self::Missing { .. }
            | Self::Directory { .. }
            | Self::Flavor { .. }
            | Self::Read { .. }
            | Self::Utf16 { .. }
            | Self::Syntax { .. }
            | Self::VersionMissing { .. }
            | Self::Version { .. }
            | Self::Problems(_) => None,
        }
    }
}

fn missing(files: &[PathBuf], named_by: Option<&str>) -> String {
    let names: Vec<_> = files.iter().map(|file| absolute(file).display().to_string()).collect();
    let names = names.join(", ");
    match named_by {
        None => format!("there is no configuration file {names}: check the path"),
        Some(variable) => format!(
            "{variable} names no file that exists: {names}; mount or create one of them, or unset \
             the variable"
        ),
    }
}
