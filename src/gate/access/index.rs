//! The rules by the first component of the names that they are about, so that a decision compares a name
//! with few patterns, however many teams have rules.

use std::{collections::HashMap, iter};

use super::Rule;
use crate::oci::RepositoryName;

/// Indices of rules, by what the names of their repositories begin with.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// The rules that are about names with this first component only, ascending.
    by_component: HashMap<Box<str>, Vec<usize>>,
    /// All other rules, ascending.
    others: Vec<usize>,
}

impl Index {
    /// The index of these rules.
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (number, rule) in rules.iter().enumerate() {
            let patterns = rule.repositories().iter();
            let components: Option<Vec<&str>> =
                patterns.map(|pattern| pattern.glob().first_component()).collect();
            match components {
                Some(components) if !components.is_empty() => {
                    for component in components {
                        index.add(component, number);
                    }
                }
                _ => index.others.push(number),
            }
        }
        index
    }

    /// Adds a rule, once for a component that several of its patterns begin with.
    fn add(&mut self, component: &str, number: usize) {
        let rules = self.by_component.entry(component.into()).or_default();
        if rules.last() != Some(&number) {
            rules.push(number);
        }
    }

    /// The rules that may be about this repository, in their order. All others are not.
    pub(super) fn candidates(&self, name: &RepositoryName) -> impl Iterator<Item = usize> {
        let component = name.as_str().split('/').next().unwrap_or_default();
        let named = self.by_component.get(component).map_or(&[][..], Vec::as_slice);
        let mut named = named.iter().copied().peekable();
        let mut others = self.others.iter().copied().peekable();
        iter::from_fn(move || match (named.peek(), others.peek()) {
            (Some(first), Some(second)) if first < second => named.next(),
            (Some(_), None) => named.next(),
            _ => others.next(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn candidates_are_the_rules_of_a_first_component_and_those_of_any_in_their_order() {
        let rules: Vec<Rule> = serde_json::from_value(json!([
            { "who": ["users"], "repositories": ["a/**"], "may": ["pull"] },
            { "who": ["users"], "may": ["pull"] },
            { "who": ["users"], "repositories": ["b", "a/x", "a/y"], "may": ["pull"] },
            { "who": ["users"], "repositories": ["a*"], "may": ["pull"] },
            { "who": ["users"], "repositories": ["b/**", "{user}/**"], "may": ["pull"] },
            { "who": ["users"], "repositories": ["b/{user}"], "may": ["pull"] },
        ]))
        .unwrap();
        let index = Index::new(&rules);
        for (name, expected) in [
            ("a", vec![0, 1, 2, 3, 4]),
            ("a/x", vec![0, 1, 2, 3, 4]),
            ("b/ann", vec![1, 2, 3, 4, 5]),
            ("c/a", vec![1, 3, 4]),
        ] {
            let name: RepositoryName = name.parse().unwrap();
            assert_eq!(index.candidates(&name).collect::<Vec<_>>(), expected, "{name}");
        }
    }
}
