//! Selectors: which tags of which repositories a rule matches.

use std::fmt;

use serde::Deserialize;

use crate::{
    oci::{Glob, RepositoryName, Tag},
    registry::Pattern,
};

/// A selector of tags: those that match `tags`, in the repositories that match `repositories`. A missing
/// part matches everything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TagSelector {
    /// Names of repositories.
    pub repositories: Option<Glob>,
    /// A regular expression, which matches a part of the tag unless it has `^` and `$`.
    pub tags: Option<Pattern>,
}

impl TagSelector {
    /// Whether it matches tags of this repository.
    pub(in crate::registry) fn covers_some_of(&self, name: &RepositoryName) -> bool {
        self.repositories.as_ref().is_none_or(|glob| glob.matches(name))
    }

    /// Whether it matches this tag of a repository that it matches.
    pub(in crate::registry) fn covers(&self, tag: &Tag) -> bool {
        self.tags.as_ref().is_none_or(|pattern| pattern.matches(tag.as_str()))
    }
}

impl fmt::Display for TagSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.repositories, &self.tags) {
            (None, None) => f.write_str("all tags"),
            (None, Some(tags)) => write!(f, "tags {tags}"),
            (Some(repositories), None) => write!(f, "repositories {repositories}"),
            (Some(repositories), Some(tags)) => {
                write!(f, "repositories {repositories}, tags {tags}")
            }
        }
    }
}
