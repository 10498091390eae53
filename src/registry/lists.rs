//! Lists, a page at a time: the catalog, the tags of a repository, the referrers of a manifest.

mod catalog;
mod page;
mod referrers;
mod tags;

pub(super) use self::{
    catalog::{Answers, Changed, Walk},
    referrers::Entered,
};
pub use self::{page::Page, referrers::Referrers, tags::TagRules};
