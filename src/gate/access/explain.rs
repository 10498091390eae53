//! Explains decisions: which item of which rule decided.

use std::net::IpAddr;

use super::{Access, Membership, Pattern, Rule, Subject, Who};
use crate::{
    gate::{Identity, May, Right},
    oci::RepositoryName,
};

/// A rule that gives a right, with the items of it that matched.
#[derive(Clone, Copy, Debug)]
pub struct Explanation<'a> {
    /// The number of the rule, from 1.
    pub number: usize,
    /// The rule.
    pub rule: &'a Rule,
    /// The item of `who` that the caller is among.
    pub who: &'a Who,
    /// The line of the group file, where `who` is a group.
    pub membership: Option<&'a Membership>,
    /// The item of `repositories`; `None` where the rule is for all repositories.
    pub pattern: Option<&'a Pattern>,
}

/// The reason why a rule, which gives the right to this caller elsewhere, does not give it here.
#[derive(Clone, Copy, Debug)]
pub enum NearMiss<'a> {
    /// This item of `except` matches the repository.
    Except(&'a Pattern),
    /// `from` does not have the address.
    From,
}

impl Access {
    /// The rule by which a caller has a right; `None` where no rule gives it.
    #[must_use]
    pub fn explain(
        &self,
        identity: &Identity,
        address: Option<IpAddr>,
        right: &Right<'_>,
    ) -> Option<Explanation<'_>> {
        let subject = self.subject(identity, address);
        let number = self.deciding_rule(&subject, right)?;
        self.explained(number, &subject, right.repository())
    }

    /// All rules that give a caller something somewhere, from some address.
    #[must_use]
    pub fn rules_of(&self, identity: &Identity) -> Vec<Explanation<'_>> {
        let rules = self.rules.iter().enumerate();
        let of_caller = rules.filter(|(_, rule)| {
            // The first address of a rule is one from which it applies.
            let subject = self.subject(identity, rule.some_address());
            rule.applies(&subject, May::Pull)
        });
        let subject = self.subject(identity, None);
        of_caller.filter_map(|(index, _)| self.explained(index + 1, &subject, None)).collect()
    }

    /// The rules that would give a caller the right but for one thing, with their numbers.
    #[must_use]
    pub fn near_misses(
        &self,
        identity: &Identity,
        address: Option<IpAddr>,
        right: &Right<'_>,
    ) -> Vec<(usize, NearMiss<'_>)> {
        let Some(name) = right.repository() else { return Vec::new() };
        let rules = self.rules.iter().enumerate();
        let misses = rules.filter_map(|(index, rule)| {
            let here = self.subject(identity, address);
            let elsewhere = self.subject(identity, rule.some_address());
            let miss = if rule.gives(&elsewhere, right) && !rule.gives(&here, right) {
                NearMiss::From
            } else {
                let excepting = rule.excepting(name, &here)?;
                let would = rule.applies(&here, right.may()) && rule.includes(name, &here);
                would.then_some(NearMiss::Except(excepting))?
            };
            Some((index + 1, miss))
        });
        misses.collect()
    }

    /// What of the rule with this number matched.
    fn explained<'a>(
        &'a self,
        number: usize,
        subject: &Subject<'_>,
        name: Option<&RepositoryName>,
    ) -> Option<Explanation<'a>> {
        let rule = self.rules.get(number.checked_sub(1)?)?;
        let who = rule.who().iter().find(|who| who.includes(subject))?;
        let membership = match who {
            Who::Group(group) => {
                let mut groups = subject.name.map_or(&[][..], |name| self.groups.of(name)).iter();
                groups.find(|of| of.group() == &**group)
            }
            _ => None,
        };
        let pattern = match name {
            Some(name) => rule.repositories().iter().find(|pattern| pattern.matches(name, subject)),
            None => rule.repositories().first(),
        };
        Some(Explanation { number, rule, who, membership, pattern })
    }
}

impl Rule {
    /// The item of `except` that takes the repository away.
    fn excepting(&self, name: &RepositoryName, subject: &Subject<'_>) -> Option<&Pattern> {
        self.except().iter().find(|pattern| pattern.matches(name, subject))
    }

    /// An address from which the rule applies.
    fn some_address(&self) -> Option<IpAddr> {
        self.from().first().and_then(|source| match source {
            super::Source::Network(network) => Some(network.addr()),
            super::Source::Unix => None,
        })
    }
}
