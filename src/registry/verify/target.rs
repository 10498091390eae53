//! The objects that a verification checks.

use crate::{
    oci::{Digest, RepositoryName, Tag},
    registry::tree::TreeKey,
    storage::Key,
};

/// An object to check.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// A folder that could not be read.
    Folder(Key),
    /// A file that does not belong in its folder.
    Stray(Key),
    /// A folder whose name is invalid in its folder.
    Name(Key),
    /// A blob, or the bytes of a manifest.
    Blob(Digest),
    /// A link of a repository.
    Link(Linked),
    /// The references of a manifest of a repository.
    Manifest(RepositoryName, Digest),
}

/// A link of a repository.
#[derive(Clone, Debug)]
pub(super) enum Linked {
    /// To a blob.
    Layer(RepositoryName, Digest),
    /// To a manifest.
    Revision(RepositoryName, Digest),
    /// Of a tag to its manifest.
    Current(RepositoryName, Tag),
    /// Of a tag to a manifest that it names or named.
    Index(RepositoryName, Tag, Digest),
}

impl Target {
    /// Its key.
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Folder(key) | Self::Stray(key) | Self::Name(key) => key.clone(),
            Self::Blob(digest) => TreeKey::Data(digest).key(),
            Self::Link(link) => link.key(),
            Self::Manifest(name, digest) => TreeKey::Revision(name, digest).key(),
        }
    }
}

impl Linked {
    /// Its key.
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Layer(name, digest) => TreeKey::Layer(name, digest).key(),
            Self::Revision(name, digest) => TreeKey::Revision(name, digest).key(),
            Self::Current(name, tag) => TreeKey::TagCurrent(name, tag).key(),
            Self::Index(name, tag, digest) => TreeKey::TagIndex(name, tag, digest).key(),
        }
    }

    pub(super) const fn repository(&self) -> &RepositoryName {
        match self {
            Self::Layer(name, _)
            | Self::Revision(name, _)
            | Self::Current(name, _)
            | Self::Index(name, _, _) => name,
        }
    }

    /// The digest that the link is called by.
    pub(super) const fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Layer(_, digest) | Self::Revision(_, digest) | Self::Index(_, _, digest) => {
                Some(digest)
            }
            Self::Current(..) => None,
        }
    }
}
