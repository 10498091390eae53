//! `access`, as the configuration has it.

use std::{fmt, path::PathBuf};

use serde::Deserialize;

use super::{Pattern, Rule, Who};
use crate::oci::is_component;

/// `access`: with the section everything is closed that no rule opens.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AccessOptions {
    /// The file of the groups; `None`: there are no groups.
    pub groupfile: Option<PathBuf>,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// Why a rule gives nothing. As text, what stands behind "has no effect: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Useless {
    /// `except` takes away every repository of the rule.
    Excepted,
    /// `{user}` stands for a name that cannot be a part of a repository's name.
    Nameless,
    /// `{group}` stands for a group, and there is no file of groups.
    Groupless,
    /// The rule with this index gives all that this one gives.
    Covered {
        /// The index, from 0.
        by: usize,
    },
}

impl AccessOptions {
    /// The rules that give nothing to a caller, with their indices, as far as the rules alone show it.
    #[must_use]
    pub fn useless(&self) -> Vec<(usize, Useless)> {
        let rules = self.rules.iter().enumerate();
        rules.filter_map(|(index, _)| Some((index, self.why_useless(index)?))).collect()
    }

    /// The groups that rules name, each with the index of its rule.
    pub fn groups(&self) -> impl Iterator<Item = (usize, &str)> {
        let rules = self.rules.iter().enumerate();
        rules.flat_map(|(index, rule)| rule.groups().map(move |group| (index, group)))
    }

    fn why_useless(&self, index: usize) -> Option<Useless> {
        let rule = &self.rules[index];
        let patterns = rule.repositories();
        let excepted = |pattern: &Pattern| rule.excepts(pattern);
        if !patterns.is_empty() && patterns.iter().all(excepted) || rule.excepts_everything() {
            return Some(Useless::Excepted);
        }
        let is_nameless = |who: &Who| matches!(who, Who::User(name) if !is_component(name));
        if rule.has_user() && rule.who().iter().all(is_nameless) {
            return Some(Useless::Nameless);
        }
        if self.groupfile.is_none()
            && !patterns.is_empty()
            && patterns.iter().all(Pattern::has_group)
        {
            return Some(Useless::Groupless);
        }
        let by = self.rules.iter().enumerate().position(|(other, wide)| {
            // Of two rules that give the same, the later is useless.
            other != index && wide.covers(rule) && (other < index || !rule.covers(wide))
        });
        by.map(|by| Useless::Covered { by })
    }
}

impl fmt::Display for Useless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Excepted => f.write_str("its `except` takes away all of its repositories"),
            Self::Nameless => f.write_str(
                "`{user}` stands for the user's name, and the names in `who` cannot be a part of a \
                 repository's name",
            ),
            Self::Groupless => {
                f.write_str("`{group}` stands for a group, and there is no access.groupfile")
            }
            Self::Covered { by } => write!(f, "access.rules[{by}] gives all that it gives"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn useless(rules: Json, groupfile: Option<&str>) -> Vec<(usize, Useless)> {
        let mut options = json!({ "rules": rules });
        if let Some(file) = groupfile {
            options["groupfile"] = json!(file);
        }
        serde_json::from_value::<AccessOptions>(options).unwrap().useless()
    }

    fn rule(who: &str, repositories: &str, may: &str) -> Json {
        json!({ "who": [who], "repositories": [repositories], "may": [may] })
    }

    #[test]
    fn rule_that_another_gives_is_useless() {
        let covered = |by| Useless::Covered { by };
        for (wide, narrow) in [
            (rule("anyone", "a/**", "pull"), rule("users", "a/b", "pull")),
            (rule("users", "a/**", "push"), rule("ann", "a/b/*", "create")),
            (json!({ "who": ["users"], "may": ["all"] }), rule("group:g", "{group}/**", "delete")),
            (
                json!({ "who": ["anyone"], "may": ["pull"], "from": ["10.0.0.0/8"] }),
                json!({ "who": ["users"], "may": ["pull"], "from": ["10.1.0.0/16"] }),
            ),
            (
                json!({ "who": ["users"], "may": ["pull"], "except": ["a/b"] }),
                json!({ "who": ["ann"], "may": ["pull"], "except": ["a/**"] }),
            ),
        ] {
            assert_eq!(useless(json!([wide, narrow]), Some("g")), [(1, covered(0))], "{narrow}");
            assert_eq!(useless(json!([narrow, wide]), Some("g")), [(0, covered(1))], "{narrow}");
        }
        let same = rule("users", "a", "pull");
        assert_eq!(useless(json!([same, same]), None), [(1, covered(0))]);
    }

    #[test]
    fn rule_that_gives_something_is_not_useless() {
        for (one, other) in [
            (rule("users", "a/**", "pull"), rule("anyone", "a/b", "pull")),
            (rule("users", "a/*", "pull"), rule("users", "a/**", "pull")),
            (rule("users", "a/**", "pull"), rule("users", "a/b", "push")),
            (rule("users", "{user}/**", "pull"), rule("users", "ann/**", "pull")),
            (
                json!({ "who": ["users"], "may": ["pull"], "from": ["10.0.0.0/8"] }),
                json!({ "who": ["users"], "may": ["pull"], "except": ["x"] }),
            ),
            (
                json!({ "who": ["users"], "may": ["pull"], "except": ["a/**"] }),
                rule("users", "a/b", "pull"),
            ),
        ] {
            let found = useless(json!([one, other]), None);
            let first_is_covered = found == [(0, Useless::Covered { by: 1 })];
            assert!(found.is_empty() || first_is_covered, "{one} {other} {found:?}");
        }
    }

    #[test]
    fn rule_that_can_never_apply_is_useless() {
        let excepted = json!({
            "who": ["users"], "repositories": ["a/b/**", "a/c"], "except": ["a/**"], "may": ["pull"],
        });
        let all = json!({ "who": ["users"], "except": ["**"], "may": ["pull"] });
        for (rule, why) in [
            (excepted, Useless::Excepted),
            (all, Useless::Excepted),
            (rule("Ann", "home/{user}/**", "push"), Useless::Nameless),
            (rule("users", "{group}/**", "push"), Useless::Groupless),
        ] {
            assert_eq!(useless(json!([rule]), None), [(0, why)], "{rule}");
        }
        assert_eq!(useless(json!([rule("users", "{group}/**", "push")]), Some("g")), []);
    }
}
