//! Selectors: which tags of which repositories a rule matches.

use std::fmt;

use regex::Regex;
use serde::Deserialize;

use crate::{
    oci::{RepositoryName, Tag},
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

/// A pattern for names of repositories: `*` is any text without a `/`, `**` any text, `?` any character
/// but `/`. Other characters stand for themselves, and the whole name has to match.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Glob {
    written: String,
    regex: Regex,
}

impl Glob {
    fn matches(&self, name: &RepositoryName) -> bool {
        self.regex.is_match(name.as_str())
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// The error of a pattern that matches no repository.
#[derive(Debug, thiserror::Error)]
pub enum InvalidGlob {
    /// A character that no name has.
    #[error(
        "no repository has a {0:?} in its name; `*` is any text without a `/`, `**` any text, `?` \
         any character but `/`"
    )]
    Character(char),
    /// It begins or ends with `/`, or has two slashes in a row.
    #[error("no repository has an empty part in its name: remove the `/` that is too many")]
    Empty,
    /// It makes too large a regular expression.
    #[error("it is too long")]
    TooLong(#[source] regex::Error),
}

impl TryFrom<String> for Glob {
    type Error = InvalidGlob;

    /// Refuses patterns that no name can match: an operator who writes `[ab]` or `{a,b}` expects a syntax
    /// that this pattern does not have.
    fn try_from(written: String) -> Result<Self, InvalidGlob> {
        if written.split('/').any(str::is_empty) {
            return Err(InvalidGlob::Empty);
        }
        let mut expression = String::from("^");
        let mut rest = written.as_str();
        while let Some(character) = rest.chars().next() {
            let (part, meaning) = match character {
                '*' if rest.starts_with("**") => ("**", ".*".to_owned()),
                '*' => ("*", "[^/]*".to_owned()),
                '?' => ("?", "[^/]".to_owned()),
                'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/' => {
                    (&rest[..1], regex::escape(&rest[..1]))
                }
                other => return Err(InvalidGlob::Character(other)),
            };
            expression.push_str(&meaning);
            rest = &rest[part.len()..];
        }
        expression.push('$');
        let regex = Regex::new(&expression).map_err(InvalidGlob::TooLong)?;
        Ok(Self { written, regex })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> Result<Glob, InvalidGlob> {
        Glob::try_from(text.to_owned())
    }

    #[test]
    fn star_matches_within_a_name_component_and_two_stars_across() {
        for (written, matching, others) in [
            ("ci/*", &["ci/a", "ci/a-b"][..], &["ci", "ci/a/b", "xci/a", "cia"][..]),
            ("ci/**", &["ci/a", "ci/a/b/c"], &["ci", "team/ci/a", "cia/b"]),
            ("**/app", &["a/app", "a/b/app"], &["app", "a/app2", "a/app/b"]),
            ("**", &["a", "a/b/c"], &[]),
            ("*", &["a", "a.b_c-d"], &["a/b"]),
            ("a/*/b", &["a/x/b"], &["a/b", "a/x/y/b"]),
            ("a?c", &["abc", "a.c"], &["a/c", "ac", "abbc"]),
            ("a.c", &["a.c"], &["abc"]),
            ("pr-*x*", &["pr-x", "pr-1x2"], &["pr-1", "pr-x/y"]),
        ] {
            let glob = glob(written).unwrap();
            for name in matching {
                assert!(glob.matches(&name.parse().unwrap()), "{written} {name}");
            }
            for name in others {
                assert!(!glob.matches(&name.parse().unwrap()), "{written} {name}");
            }
            assert_eq!(glob.to_string(), written);
        }
    }

    #[test]
    fn glob_that_matches_no_valid_name_is_refused() {
        for written in ["", "/a", "a/", "a//b", "a/**/", "{a,b}", "[ab]", "^a$", "A*", "a b", "ä"]
        {
            assert!(glob(written).is_err(), "{written}");
        }
    }
}
