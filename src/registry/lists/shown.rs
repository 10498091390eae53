//! The repositories that a list shows to its caller.

use std::fmt;

use crate::oci::RepositoryName;

/// The part of a list that its caller may see.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// All of it.
    All,
    /// The names that a filter passes.
    Only(&'a dyn Filter),
}

/// Selects the names of a list.
pub trait Filter: fmt::Debug + Send + Sync {
    /// Whether the list has a name. It is called for every repository of a part of the tree, before
    /// storage is asked for more than the name, so it must be cheap.
    fn passes(&self, name: &RepositoryName) -> bool;

    /// Texts with which every name begins that passes, in any order; the empty text stands for all names.
    /// Only the parts of the tree below them are read.
    fn prefixes(&self) -> Vec<String>;
}

impl Shown<'_> {
    /// Whether the list has a name.
    pub(super) fn has(&self, name: &RepositoryName) -> bool {
        match self {
            Self::All => true,
            Self::Only(filter) => filter.passes(name),
        }
    }

    /// The texts with which the names of the list begin, in order. None begins with another one, so the
    /// names below one of them are all before those below the next.
    pub(super) fn prefixes(&self) -> Vec<String> {
        let mut prefixes = match self {
            Self::All => return vec![String::new()],
            Self::Only(filter) => filter.prefixes(),
        };
        prefixes.sort_unstable();
        prefixes.dedup_by(|longer, shorter| longer.starts_with(&**shorter));
        prefixes
    }
}
