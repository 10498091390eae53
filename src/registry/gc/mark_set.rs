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

/// The marked digests.
#[derive(Debug, Default)]
pub(super) struct MarkSet(HashSet<Id>);

impl MarkSet {
    pub(super) fn add(&mut self, id: Id) {
        self.0.insert(id);
    }

    pub(super) fn has(&self, id: Id) -> bool {
        self.0.contains(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_that_differ_are_told_apart() {
        let mut marks = MarkSet::default();
        let digest = |algorithm, n: u8| Digest::of(algorithm, &[n]);
        marks.add(Id::of(&digest(Algorithm::Sha256, 1)));
        marks.add(Id::of(&digest(Algorithm::Sha512, 2)));
        assert!(marks.has(Id::of(&digest(Algorithm::Sha256, 1))));
        assert!(marks.has(Id::of(&digest(Algorithm::Sha512, 2))));
        assert!(!marks.has(Id::of(&digest(Algorithm::Sha256, 2))));
        assert!(!marks.has(Id::of(&digest(Algorithm::Sha512, 1))));
        assert_eq!(marks.len(), 2);
        let zeroes = Digest::from_parts("sha256", &"0".repeat(64)).unwrap();
        let other = Digest::from_parts("sha512", &"0".repeat(128)).unwrap();
        assert_ne!(Id::of(&zeroes), Id::of(&other));
    }
}
