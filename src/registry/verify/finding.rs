//! Findings, in words and in JSON.

use std::{borrow::Cow, fmt};

use serde::{Serialize, Serializer};

use crate::{
    oci::{Digest, RepositoryName, Tag},
    storage::{self, Key},
};

/// Whether content was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Acknowledged content is damaged, missing or unreadable.
    Problem,
    /// Garbage, leftovers of a kill that the registry repairs by itself, and foreign files.
    Note,
}

/// The kind of damage. The names in JSON are these in `snake_case`, and are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The bytes of a blob do not hash to its name.
    BlobCorrupt,
    /// A link to a blob or a manifest without bytes.
    BlobMissing,
    /// A link file that is empty or holds no digest.
    LinkInvalid,
    /// A link to another digest than that of its key.
    LinkElsewhere,
    /// A manifest of a repository references content that the repository does not have, or that is
    /// corrupt.
    ManifestIncomplete,
    /// A manifest that cannot be parsed.
    ManifestInvalid,
    /// A folder whose name is no repository, tag or digest.
    NameInvalid,
    /// A tag whose manifest the repository does not have.
    RevisionMissing,
    /// A file that no registry writes.
    Stray,
    /// A tag without the entry of its manifest in its index.
    TagIndexMissing,
    /// A tag with an index and without a manifest.
    TagUnfinished,
    /// Storage failed to read the object.
    Unreadable,
}

impl Kind {
    /// The name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BlobCorrupt => "blob_corrupt",
            Self::BlobMissing => "blob_missing",
            Self::LinkInvalid => "link_invalid",
            Self::LinkElsewhere => "link_elsewhere",
            Self::ManifestIncomplete => "manifest_incomplete",
            Self::ManifestInvalid => "manifest_invalid",
            Self::NameInvalid => "name_invalid",
            Self::RevisionMissing => "revision_missing",
            Self::Stray => "stray",
            Self::TagIndexMissing => "tag_index_missing",
            Self::TagUnfinished => "tag_unfinished",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether moving the file to the quarantine repairs the damage. Other files stay: incomplete content
    /// is still of use, and an unknown file may belong to a user.
    pub(super) const fn is_mended_by_moving(self) -> bool {
        match self {
            Self::BlobCorrupt
            | Self::BlobMissing
            | Self::LinkInvalid
            | Self::LinkElsewhere
            | Self::RevisionMissing => true,
            Self::ManifestIncomplete
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::Stray
            | Self::TagIndexMissing
            | Self::TagUnfinished
            | Self::Unreadable => false,
        }
    }
}

/// One damaged or foreign object.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The kind of damage.
    pub kind: Kind,
    /// Its severity.
    pub severity: Severity,
    /// The object: a path below the root of the storage.
    #[serde(serialize_with = "as_text")]
    pub key: Key,
    /// The repository, if the object belongs to one.
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryName>,
    /// The digest that the object is called by; for a tag, the manifest that it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The missing references of a manifest, up to [`MAX_MISSING`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Digest>,
    /// The tags of an incomplete manifest, up to [`MAX_TAGS`].
    #[serde(serialize_with = "as_texts", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// A description for users.
    pub message: Cow<'static, str>,
    /// The key in the quarantine, if the object was moved there.
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<Key>,
    /// The error, if the object could not be moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_moved: Option<String>,
}

/// How many missing references of a manifest a finding names.
pub const MAX_MISSING: usize = 32;

/// How many tags of a manifest a finding names.
pub const MAX_TAGS: usize = 16;

impl Finding {
    pub(super) fn new(kind: Kind, key: Key, message: impl Into<Cow<'static, str>>) -> Self {
        let severity = match kind {
            Kind::NameInvalid | Kind::Stray | Kind::TagIndexMissing | Kind::TagUnfinished => {
                Severity::Note
            }
            _ => Severity::Problem,
        };
        let message = message.into();
        Self {
            kind,
            severity,
            key,
            repository: None,
            digest: None,
            missing: Vec::new(),
            tags: Vec::new(),
            message,
            moved_to: None,
            not_moved: None,
        }
    }

    pub(super) fn unreadable(key: Key, error: &storage::Error) -> Self {
        Self::new(Kind::Unreadable, key, causes(error))
    }

    pub(super) fn of(mut self, repository: &RepositoryName) -> Self {
        self.repository = Some(repository.clone());
        self
    }

    pub(super) fn about(mut self, digest: &Digest) -> Self {
        self.digest = Some(digest.clone());
        self
    }

    pub(super) const fn into_note(mut self) -> Self {
        self.severity = Severity::Note;
        self
    }

    /// Whether both describe the same damage of the same object.
    pub(super) fn repeats(&self, other: &Self) -> bool {
        self.kind == other.kind && self.key == other.key
    }
}

/// An error with all its causes, in one line.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn as_text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn as_optional_text<T: fmt::Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn as_texts<T: fmt::Display, S: Serializer>(
    values: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}
