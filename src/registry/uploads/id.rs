//! The names of upload sessions.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// The name of an upload session: a random UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(Uuid);

impl UploadId {
    /// A new name.
    pub(super) fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for UploadId {
    type Err = InvalidUploadId;

    /// Reads only the form that `Display` writes, so that each id has one text.
    fn from_str(text: &str) -> Result<Self, InvalidUploadId> {
        let id = Self(Uuid::try_parse(text).map_err(|_| InvalidUploadId)?);
        if id.to_string() == text { Ok(id) } else { Err(InvalidUploadId) }
    }
}

/// The error of a text that is no id of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of an upload")]
pub struct InvalidUploadId;
