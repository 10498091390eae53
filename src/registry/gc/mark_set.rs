//! The set of marked digests: sixteen bytes for each.

use std::collections::HashSet;

use crate::oci::{Algorithm, Digest};

/// The beginning of a digest. Two digests with the same beginning are marked together, which costs
/// disk space and nothing else; to make such a pair takes 2^64 attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id(u128);

impl Id {
    pub(super) fn of(digest: &Digest) -> Self {
        Self::from_parts(digest.algorithm(), digest.hex())
    }

    /// The id of the digest that consists of these parts.
    pub(super) fn from_parts(algorithm: Algorithm, hex: &str) -> Self {
        let start = hex.get(..32).and_then(|start| u128::from_str_radix(start, 16).ok());
        let turned = match algorithm {
            Algorithm::Sha256 => 0,
            Algorithm::Sha512 => u128::MAX,
        };
        Self(start.unwrap_or_default() ^ turned)
    }
}

/// Why a digest is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A manifest with a tag needs it, or it is not clear that it goes.
    Needed,
    /// Only manifests without a tag need it.
    Untagged,
    /// Only the grace period keeps it.
    Grace,
}

/// The marked digests. Of several marks of a digest the first in the order of [`Mark`] counts.
#[derive(Debug, Default)]
pub(super) struct MarkSet {
    needed: HashSet<Id>,
    untagged: HashSet<Id>,
    grace: HashSet<Id>,
}

impl MarkSet {
    pub(super) fn add(&mut self, id: Id, mark: Mark) {
        match mark {
            Mark::Needed => self.needed.insert(id),
            Mark::Untagged => self.untagged.insert(id),
            Mark::Grace => self.grace.insert(id),
        };
    }

    /// The mark of a digest; `None` for an unmarked one.
    pub(super) fn of(&self, id: Id) -> Option<Mark> {
        let Self { needed, untagged, grace } = self;
        let marks = [(needed, Mark::Needed), (untagged, Mark::Untagged), (grace, Mark::Grace)];
        marks.into_iter().find(|(ids, _)| ids.contains(&id)).map(|(_, mark)| mark)
    }

    /// The number of marked digests.
    pub(super) fn len(&self) -> usize {
        let Self { needed, untagged, grace } = self;
        let untagged_only = untagged.difference(needed).count();
        let is_only = |id: &&Id| !needed.contains(id) && !untagged.contains(id);
        needed.len() + untagged_only + grace.iter().filter(is_only).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_that_differ_are_told_apart() {
        let mut marks = MarkSet::default();
        let id = |algorithm, n: u8| Id::of(&Digest::of(algorithm, &[n]));
        marks.add(id(Algorithm::Sha256, 1), Mark::Needed);
        marks.add(id(Algorithm::Sha512, 2), Mark::Needed);
        assert_eq!(marks.of(id(Algorithm::Sha256, 1)), Some(Mark::Needed));
        assert_eq!(marks.of(id(Algorithm::Sha512, 2)), Some(Mark::Needed));
        assert_eq!(marks.of(id(Algorithm::Sha256, 2)), None);
        assert_eq!(marks.of(id(Algorithm::Sha512, 1)), None);
        assert_eq!(marks.len(), 2);
        let zeroes = Digest::from_parts("sha256", &"0".repeat(64)).unwrap();
        let other = Digest::from_parts("sha512", &"0".repeat(128)).unwrap();
        assert_ne!(Id::of(&zeroes), Id::of(&other));
    }

    #[test]
    fn strongest_of_several_marks_counts() {
        let mut marks = MarkSet::default();
        let id = |n: u8| Id::of(&Digest::of(Algorithm::Sha256, &[n]));
        for mark in [Mark::Grace, Mark::Untagged, Mark::Needed] {
            marks.add(id(1), mark);
            assert_eq!(marks.of(id(1)), Some(mark));
        }
        marks.add(id(2), Mark::Untagged);
        marks.add(id(2), Mark::Grace);
        marks.add(id(3), Mark::Grace);
        assert_eq!((marks.of(id(2)), marks.of(id(3))), (Some(Mark::Untagged), Some(Mark::Grace)));
        assert_eq!(marks.len(), 3);
    }
}
