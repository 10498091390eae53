//! An item of `access.rules`.

use std::fmt;

use serde::Deserialize;

use super::{Source, Subject, Who};
use crate::{
    gate::{May, Right},
    oci::{Glob, InvalidPattern, RepositoryName},
};

/// The variables of patterns, in the order of their values.
const VARIABLES: [&str; 2] = ["user", "group"];
const USER: usize = 0;
const GROUP: usize = 1;

/// A rule: what callers may do in some repositories.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Rule {
    who: Vec<Who>,
    repositories: Vec<Pattern>,
    except: Vec<Pattern>,
    from: Vec<Source>,
    may: Vec<May>,
}

/// A rule as the configuration has it.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Written {
    who: Vec<Who>,
    repositories: Option<Vec<Pattern>>,
    except: Vec<Pattern>,
    from: Option<Vec<Source>>,
    may: Vec<May>,
}

/// A glob of a rule. `{user}` stands for the caller's name, `{group}` for any of the caller's groups.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Glob);

impl Pattern {
    /// Whether the name matches, with the name and the groups of the caller.
    pub(super) fn matches(&self, name: &RepositoryName, subject: &Subject<'_>) -> bool {
        let user = subject.name.unwrap_or_default();
        if !self.has_group() {
            return self.0.matches_with(name, &[user]);
        }
        let mut groups = subject.groups.iter().filter(|group| group.is_component());
        groups.any(|group| self.0.matches_with(name, &[user, group.group()]))
    }

    /// The texts that matching names begin with.
    fn prefixes(&self, subject: &Subject<'_>) -> Vec<String> {
        let user = subject.name.unwrap_or_default();
        if !self.has_group() {
            return vec![self.0.prefix(&[user])];
        }
        let groups = subject.groups.iter().filter(|group| group.is_component());
        groups.map(|group| self.0.prefix(&[user, group.group()])).collect()
    }

    /// Whether `{user}` is in it.
    #[must_use]
    pub fn has_user(&self) -> bool {
        self.0.has_variable(USER)
    }

    /// Whether `{group}` is in it.
    #[must_use]
    pub fn has_group(&self) -> bool {
        self.0.has_variable(GROUP)
    }

    /// The glob.
    #[must_use]
    pub const fn glob(&self) -> &Glob {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Pattern {
    type Error = InvalidPattern;

    fn try_from(written: String) -> Result<Self, InvalidPattern> {
        Glob::of_names(&written, &VARIABLES).map(Self)
    }
}

impl Rule {
    /// The callers: any of these.
    #[must_use]
    pub fn who(&self) -> &[Who] {
        &self.who
    }

    /// The repositories: those that match any of these, or all where the list is empty...
    #[must_use]
    pub fn repositories(&self) -> &[Pattern] {
        &self.repositories
    }

    /// ...but those that match any of these.
    #[must_use]
    pub fn except(&self) -> &[Pattern] {
        &self.except
    }

    /// The addresses: any of these, or all where the list is empty.
    #[must_use]
    pub fn from(&self) -> &[Source] {
        &self.from
    }

    /// The groups among the callers.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.who.iter().filter_map(|who| match who {
            Who::Group(name) => Some(&**name),
            Who::Anyone | Who::Users | Who::User(_) => None,
        })
    }

    /// What the callers may do.
    #[must_use]
    pub fn may(&self) -> &[May] {
        &self.may
    }

    /// Whether the rule gives this caller the right; for [`Right::List`], whether it lets the caller
    /// pull anything.
    pub(super) fn gives(&self, subject: &Subject<'_>, right: &Right<'_>) -> bool {
        self.applies(subject, right.may())
            && match right {
                Right::List => true,
                Right::PullAll => self.is_everywhere(),
                Right::Pull(name)
                | Right::Create(name)
                | Right::Push(name)
                | Right::Delete(name) => self.is_about(name, subject),
            }
    }

    /// Whether the rule lets this caller do such things in some repositories.
    pub(super) fn applies(&self, subject: &Subject<'_>, may: May) -> bool {
        self.may.iter().any(|given| given.includes(may))
            && self.who.iter().any(|who| who.includes(subject))
            && (self.from.is_empty()
                || self.from.iter().any(|source| source.contains(subject.address)))
            // A name with a slash would stand for a folder of another user.
            && (subject.is_component || !self.has_user())
    }

    /// Whether the rule is about this repository, for this caller.
    pub(super) fn is_about(&self, name: &RepositoryName, subject: &Subject<'_>) -> bool {
        self.includes(name, subject)
            && !self.except.iter().any(|pattern| pattern.matches(name, subject))
    }

    /// Whether the rule would be about this repository without its `except`.
    pub(super) fn includes(&self, name: &RepositoryName, subject: &Subject<'_>) -> bool {
        self.repositories.is_empty()
            || self.repositories.iter().any(|pattern| pattern.matches(name, subject))
    }

    /// Whether the rule is about every repository.
    fn is_everywhere(&self) -> bool {
        self.except.is_empty() && (self.repositories.is_empty() || self.has_everything())
    }

    /// Whether one of the patterns matches every repository.
    fn has_everything(&self) -> bool {
        self.repositories.iter().any(|pattern| pattern.0.is_everything())
    }

    /// Whether this rule gives whatever `other` gives. May miss that it does; never says so wrongly.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.may.iter().all(|may| self.may.iter().any(|given| given.includes(*may)))
            && other.who.iter().all(|who| self.who.iter().any(|wide| wide.covers(who)))
            && (self.from.is_empty()
                || !other.from.is_empty()
                    && other.from.iter().all(|from| self.from.iter().any(|wide| wide.covers(from))))
            && self.except.iter().all(|except| other.excepts(except))
            && match &*other.repositories {
                [] => self.repositories.is_empty() || self.has_everything(),
                patterns => self.repositories.is_empty() || patterns.iter().all(|pattern| {
                    self.repositories.iter().any(|wide| wide.0.covers(&pattern.0))
                }),
            }
            // With a name that is no part of a repository's name this rule would not apply.
            && (!self.has_user() || other.has_user())
    }

    /// Whether `except` takes away every repository that matches the pattern.
    pub(super) fn excepts(&self, pattern: &Pattern) -> bool {
        self.except.iter().any(|except| except.0.covers(&pattern.0))
    }

    /// Whether `except` takes away every repository.
    pub(super) fn excepts_everything(&self) -> bool {
        self.except.iter().any(|except| except.0.is_everything())
    }

    /// Whether `{user}` is in one of the patterns.
    pub(super) fn has_user(&self) -> bool {
        self.repositories.iter().chain(&self.except).any(Pattern::has_user)
    }

    /// The texts that the names of the rule's repositories begin with.
    pub(super) fn prefixes(&self, subject: &Subject<'_>) -> Vec<String> {
        match &*self.repositories {
            [] => vec![String::new()],
            patterns => patterns.iter().flat_map(|pattern| pattern.prefixes(subject)).collect(),
        }
    }
}

impl TryFrom<Written> for Rule {
    type Error = InvalidRule;

    fn try_from(written: Written) -> Result<Self, InvalidRule> {
        let Written { who, repositories, except, from, may } = written;
        if who.is_empty() {
            return Err(InvalidRule::NoWho);
        }
        if may.is_empty() {
            return Err(InvalidRule::NoMay);
        }
        if repositories.as_ref().is_some_and(Vec::is_empty) {
            return Err(InvalidRule::NoRepositories);
        }
        if from.as_ref().is_some_and(Vec::is_empty) {
            return Err(InvalidRule::NoFrom);
        }
        Ok(Self {
            who,
            repositories: repositories.unwrap_or_default(),
            except,
            from: from.unwrap_or_default(),
            may,
        })
    }
}

/// The error of a rule that gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// `who` is missing.
    #[error(
        "the rule does not say for whom it is: add `who`, such as `who: users` for all who have \
         logged in"
    )]
    NoWho,
    /// `may` is missing.
    #[error("the rule gives no right: add `may`: pull, create, push, delete or all")]
    NoMay,
    /// `repositories` is an empty list.
    #[error("the rule is for no repository: leave `repositories` out for all of them")]
    NoRepositories,
    /// `from` is an empty list.
    #[error("the rule is for no address: leave `from` out for all of them")]
    NoFrom,
}
