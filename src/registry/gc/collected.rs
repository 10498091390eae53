//! The result of a collection.

use std::time::SystemTime;

/// The result of a collection: the numbers of removed objects, or of those that a dry run reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Repositories that were seen.
    pub repositories: u64,
    /// Empty repositories that were removed.
    pub emptied: u64,
    /// Repositories that stay whole because something in them cannot be read.
    pub kept: u64,
    /// Manifests.
    pub manifests: u64,
    /// Links of repositories to blobs.
    pub links: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The untagged manifests that stay.
    pub untagged: KeptUntagged,
    /// What the grace period keeps.
    pub graced: Graced,
}

/// The manifests that stay although no tag, no index, no subject and no referrer keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptUntagged {
    /// Their number.
    pub manifests: u64,
    /// The bytes that only they need, their own included.
    pub bytes: u64,
    /// Where none of them goes before a time because records of pulls may be missing: that time.
    pub held_until: Option<SystemTime>,
}

/// The bytes of all blobs, manifests included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// All of them.
    pub bytes: u64,
    /// Those of blobs that repositories refer to.
    pub referenced: u64,
}

/// The objects that only the grace period keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Graced {
    /// Manifests without a tag, where these go.
    pub manifests: u64,
    /// Links of repositories to blobs.
    pub links: u64,
    /// The bytes of the blobs that go with them, or that have no link.
    pub bytes: u64,
    /// When the grace period of the last of them ends.
    pub until: Option<SystemTime>,
}

impl Graced {
    /// Notes the end of a grace period.
    pub(super) fn until(&mut self, until: SystemTime) {
        self.until = self.until.max(Some(until));
    }
}
