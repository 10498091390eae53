//! Access rules (`access.rules`): who may do what, where, and from which addresses.
//!
//! A rule grants and none denies: the order of the rules decides nothing, and a rule more takes no
//! right away. The decision is pure: it depends on the rules, the groups and the caller alone.

use std::{net::IpAddr, sync::Arc};

use super::{Identity, May, Right};
use crate::oci::is_component;

mod explain;
mod group_file;
mod groups;
mod index;
mod options;
mod rule;
mod who;

pub use explain::{Explanation, NearMiss};
pub use group_file::{GroupFile, GroupFileError};
pub use groups::{Groups, InvalidGroups, Membership};
pub use options::{AccessOptions, Useless};
pub use rule::{InvalidRule, Pattern, Rule};
pub use who::{InvalidWho, Who};

use index::Index;

pub use crate::network::{InvalidSource, Source};

/// The rules in force, with the groups that they name.
#[derive(Clone, Debug)]
pub struct Access {
    rules: Arc<[Rule]>,
    index: Index,
    groups: Groups,
}

/// A caller as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    /// The user's name; `None` for anonymous callers and deploy tokens.
    name: Option<&'a str>,
    /// Whether the name can be a component of a repository's name.
    is_component: bool,
    groups: &'a [Membership],
    /// `None` on a Unix socket.
    address: Option<IpAddr>,
}

impl Access {
    /// These rules over these groups. A group that the rules name and `groups` lacks has no members.
    #[must_use]
    pub fn new(rules: impl Into<Arc<[Rule]>>, groups: Groups) -> Self {
        let rules = rules.into();
        Self { index: Index::new(&rules), rules, groups }
    }

    /// The rules, in the order of the configuration.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The groups.
    #[must_use]
    pub const fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The caller with this identity and address.
    pub(super) fn subject<'a>(
        &'a self,
        identity: &'a Identity,
        address: Option<IpAddr>,
    ) -> Subject<'a> {
        let name: Option<&str> = match identity {
            Identity::Anonymous | Identity::Token(_) => None,
            Identity::User(name) | Identity::Certificate(name) => Some(name),
        };
        Subject {
            name,
            is_component: name.is_some_and(is_component),
            groups: name.map_or(&[], |name| self.groups.of(name)),
            address: address.map(|address| address.to_canonical()),
        }
    }

    /// The number of the first rule that gives the right, from 1. For [`Right::List`]: of the first
    /// rule that lets the caller pull anything.
    pub(super) fn deciding_rule(&self, subject: &Subject<'_>, right: &Right<'_>) -> Option<usize> {
        let gives = |number: &usize| self.rules[*number].gives(subject, right);
        let deciding = match right.repository() {
            Some(name) => self.index.candidates(name).find(gives),
            None => (0..self.rules.len()).find(gives),
        };
        deciding.map(|number| number + 1)
    }

    /// The texts that the names of all repositories begin with that the subject may pull.
    pub(super) fn prefixes(&self, subject: &Subject<'_>) -> Vec<String> {
        let pulls = self.rules.iter().filter(|rule| rule.applies(subject, May::Pull));
        pulls.flat_map(|rule| rule.prefixes(subject)).collect()
    }
}

#[cfg(test)]
mod tests;
