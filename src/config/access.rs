//! Checks of `access`: rules that contradict other options, rules and quotas without effect.

use super::{Config, Error, checked::Checked};
use crate::{
    gate::{self, access::Who},
    registry::{UselessQuota, useless_quotas},
};

impl Checked {
    /// The errors of rules that name groups without a `groupfile`.
    pub(super) fn access_errors(&self, config: &Config) -> Vec<Error> {
        let Some(access) = &config.access else { return Vec::new() };
        if access.groupfile.is_some() {
            return Vec::new();
        }
        let errors = access.groups().map(|(index, group)| {
            let (key, at) = self.nearest(&path(index, "who"));
            let message = format!(
                "there is no access.groupfile to say who is in the group {group}: name the file, \
                 whose lines have the form `{group}: ann bob`"
            );
            Error::Value { at, key, message }
        });
        errors.collect()
    }

    /// Warns of rules that give nothing to a caller, and of a section that closes everything.
    pub(super) fn access_warnings(&self, config: &Config, warnings: &mut Vec<String>) {
        let Some(access) = &config.access else { return };
        if access.rules.is_empty() {
            let what = "has no rules, so every request is refused: add a rule, such as \
                        `{who: users, may: push}`, or remove the section";
            warnings.push(self.about(&["access"], what));
        }
        let mut warn = |index: usize, what: &str| {
            let (key, at) = self.nearest(&path(index, ""));
            warnings.push(format!("{key} ({at}) has no effect: {what}"));
        };
        for (index, useless) in access.useless() {
            let what = useless.to_string();
            match useless {
                gate::access::Useless::Covered { by } => {
                    let (_, at) = self.nearest(&path(by, ""));
                    warn(index, &format!("{what} ({at})"));
                }
                _ => warn(index, &what),
            }
        }
        if matches!(config.auth, gate::Options::None) {
            for (index, rule) in access.rules.iter().enumerate() {
                if !rule.who().contains(&Who::Anyone) {
                    warn(
                        index,
                        "with auth.none no caller has a name, so only rules for `anyone` apply",
                    );
                }
            }
        }
    }
}

impl Checked {
    /// Warns of quotas that limit nothing.
    pub(super) fn quota_warnings(&self, config: &Config, warnings: &mut Vec<String>) {
        let place =
            |index| self.nearest(&["access".to_owned(), "quotas".to_owned(), format!("[{index}]")]);
        for (index, useless) in useless_quotas(&config.quotas) {
            let (key, at) = place(index);
            let by = match useless {
                UselessQuota::Covered { by } => format!(" ({})", place(by).1),
                UselessQuota::Excepted => String::new(),
            };
            warnings.push(format!("{key} ({at}) has no effect: {useless}{by}"));
        }
    }
}

/// The path of a key of a rule; of the rule itself without a key.
fn path(index: usize, key: &str) -> Vec<String> {
    let rule = ["access".to_owned(), "rules".to_owned(), format!("[{index}]")];
    rule.into_iter().chain((!key.is_empty()).then(|| key.to_owned())).collect()
}
