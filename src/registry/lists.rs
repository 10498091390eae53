//! Lists, a page at a time: the catalog, the tags of a repository, the referrers of a manifest.

use std::sync::Arc;

use self::{catalog::Answers, referrers::Entered};
use super::{Manifests, tree::Tree};
use crate::oci::RepositoryName;

mod catalog;
mod inventory;
mod page;
mod referrers;
mod shown;
mod tags;

pub(super) use self::catalog::Walk;
pub use self::{
    catalog::CatalogQuery,
    inventory::{Holdings, Inventory, TagContent},
    page::Page,
    referrers::Referrers,
    shown::{Filter, Shown},
};

/// Lists over all repositories and within one.
#[derive(Debug)]
pub struct Lists {
    tree: Arc<Tree>,
    manifests: Arc<Manifests>,
    answers: Answers,
    entered: Entered,
}

impl Lists {
    pub(super) fn new(tree: Arc<Tree>, manifests: Arc<Manifests>) -> Self {
        Self { tree, manifests, answers: Answers::default(), entered: Entered::default() }
    }

    /// Drops the cached state of a repository that has been deleted.
    pub(super) fn forget(&self, name: &RepositoryName) {
        self.entered.forget(name);
    }
}
