//! What is found, in words and in JSON.

use std::{borrow::Cow, fmt};

use serde::{Serialize, Serializer};

use crate::{
    oci::{Digest, RepositoryName, Tag},
    storage::{self, Key},
};

/// Whether anything was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something that was acknowledged is damaged, missing or cannot be read.
    Problem,
    /// Something that nobody needs, or that mends itself: what a kill leaves, and foreign files.
    Note,
}

/// What is wrong. The names in JSON are these in `snake_case`, and stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The bytes of a blob do not hash to its name.
    BlobCorrupt,
    /// A link to a blob or a manifest whose bytes are not there.
    BlobMissing,
    /// A link file that is empty or holds no digest.
    LinkInvalid,
    /// A link that names another digest than its place.
    LinkElsewhere,
    /// A manifest that the repository has refers to something that it does not have, or that is
    /// corrupt.
    ManifestIncomplete,
    /// A manifest that cannot be read as one.
    ManifestInvalid,
    /// A name that is no repository, tag or digest.
    NameInvalid,
    /// A tag that names a manifest which the repository does not have.
    RevisionMissing,
    /// A file that nobody knows.
    Stray,
    /// A tag without the entry of its manifest in its index.
    TagIndexMissing,
    /// A tag that has an index and names nothing.
    TagUnfinished,
    /// Storage failed to read it.
    Unreadable,
}

impl Kind {
    /// The name that it has in JSON.
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

    /// Whether it goes away when the file is moved out of the tree. Nothing else is moved: what is
    /// incomplete is whole as far as it goes, and what nobody knows may be somebody's.
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

/// One thing that is not as it should be.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// How bad it is.
    pub severity: Severity,
    /// Where: a path below the root of the storage.
    #[serde(serialize_with = "as_text")]
    pub key: Key,
    /// The repository, where it is in one.
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryName>,
    /// What the place is called or, for a tag, what it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What a manifest lacks: the first of them, up to [`MAX_MISSING`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Digest>,
    /// Tags that name a manifest which lacks something: up to [`MAX_TAGS`].
    #[serde(serialize_with = "as_texts", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// A sentence for people.
    pub message: Cow<'static, str>,
    /// Where it was moved to.
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<Key>,
    /// Why it could not be moved although it should have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_moved: Option<String>,
}

/// So many of the things that a manifest lacks are named.
pub const MAX_MISSING: usize = 32;

/// So many tags of a manifest are named.
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

    /// Whether both say the same of the same place.
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
