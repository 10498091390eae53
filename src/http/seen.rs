//! The repositories that lists show to the caller of a request.

use crate::{
    gate::Permit,
    oci::RepositoryName,
    registry::{Filter, Shown},
};

/// What the caller of a request sees of lists.
#[derive(Debug)]
pub(super) struct Seen<'a>(&'a Permit);

impl<'a> Seen<'a> {
    /// What the holder of a permit sees.
    pub(super) const fn by(permit: &'a Permit) -> Self {
        Self(permit)
    }

    /// The same, for the core.
    pub(super) fn shown(&self) -> Shown<'_> {
        match self.0.sees_all() {
            true => Shown::All,
            false => Shown::Only(self),
        }
    }
}

impl Filter for Seen<'_> {
    fn passes(&self, name: &RepositoryName) -> bool {
        self.0.sees(name)
    }

    fn prefixes(&self) -> Vec<String> {
        self.0.prefixes()
    }
}
