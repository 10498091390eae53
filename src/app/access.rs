//! The access rules and the group file: their policy, and its reload.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    StartError,
    reload::{Files, Kept, Reload},
};
use crate::{
    chain::Chain,
    config::{Config, Settings},
    gate::{
        self, Access, AccessOptions, Gate, Policy, UserFile,
        access::{GroupFile, GroupFileError, Groups, Rule},
    },
};

/// A changed group file is in force within a second: twice this, and the time to read it.
const WATCH: Duration = Duration::from_millis(400);

/// The rules in force. What they are made of is kept for the next change of the group file.
#[derive(Debug)]
pub(super) struct Rules {
    /// `None` without the section `access`.
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    rules: Arc<[Rule]>,
    groups: Groups,
    /// `None` without `access.groupfile`.
    file: Option<GroupFile>,
}

/// The rules of a gate, which changes of the configuration and of the group file replace.
#[derive(Debug)]
pub(super) struct RulesOfGate {
    gate: Arc<Gate>,
    rules: Mutex<Rules>,
}

impl Rules {
    /// Reads the group file, and logs the rules and groups that come into force.
    ///
    /// # Errors
    ///
    /// When the group file cannot be used, or does not define a group that a rule names.
    pub(super) fn open(config: &Config) -> Result<(Self, Policy), StartError> {
        let rules = Self::read(config)?;
        rules.log(config);
        let policy = rules.policy();
        Ok((rules, policy))
    }

    fn read(config: &Config) -> Result<Self, StartError> {
        let Some(options) = &config.access else { return Ok(Self { current: None }) };
        let (file, groups) = open_groups(options)?;
        let unknown = unknown_groups(options, &groups, &config.settings);
        if !unknown.is_empty() {
            return Err(StartError::UnknownGroups(unknown.join("\n")));
        }
        let rules = options.rules.clone().into();
        Ok(Self { current: Some(Current { rules, groups, file }) })
    }

    fn policy(&self) -> Policy {
        match &self.current {
            None => Policy::everything(),
            Some(Current { rules, groups, .. }) => {
                Policy::rules(Access::new(Arc::clone(rules), groups.clone()))
            }
        }
    }

    fn log(&self, config: &Config) {
        let Some(Current { rules, groups, file }) = &self.current else { return };
        match file {
            None => tracing::info!(rules = rules.len(), "access rules in force"),
            Some(file) => tracing::info!(
                rules = rules.len(),
                groups = groups.len(),
                file = %file.path().display(),
                "access rules in force, with the groups of the group file"
            ),
        }
        if let Some(note) = strangers(config, groups) {
            tracing::info!("{note}");
        }
    }

    /// The rules for this gate, from now on.
    pub(super) fn of(self, gate: Arc<Gate>) -> RulesOfGate {
        RulesOfGate { gate, rules: Mutex::new(self) }
    }
}

/// The policy of a configuration, as a start would have it in force.
///
/// # Errors
///
/// When the group file cannot be used, or does not define a group that a rule names.
pub fn policy(config: &Config) -> Result<Policy, StartError> {
    Rules::read(config).map(|rules| rules.policy())
}

/// The groups of the group file; none without one.
///
/// # Errors
///
/// When the file cannot be used.
pub(super) fn open_groups(
    options: &AccessOptions,
) -> Result<(Option<GroupFile>, Groups), StartError> {
    let Some(path) = &options.groupfile else { return Ok((None, Groups::default())) };
    let (file, groups) =
        GroupFile::open(path).map_err(|source| StartError::groups(path, source))?;
    Ok((Some(file), groups))
}

/// A sentence for each rule that names a group which no line of the file defines, with the place.
pub(super) fn unknown_groups(
    options: &AccessOptions,
    groups: &Groups,
    settings: &Settings,
) -> Vec<String> {
    let unknown = options.groups().filter(|(_, group)| !groups.has(group));
    let file = options.groupfile.as_ref().map(|file| file.display());
    let sentences = unknown.map(|(index, group)| {
        let about = settings.place(&format!("access.rules[{index}].who"));
        let file = file.as_ref().map(ToString::to_string).unwrap_or_default();
        format!(
            "{about}: no line of {file} defines the group {group}: add the line `{group}: USER \
             USER`, or correct the name"
        )
    });
    sentences.collect()
}

/// A sentence that names the users of groups without a line in the password file; `None` if each has one,
/// and where the password file cannot be read, which is reported elsewhere.
pub(super) fn strangers(config: &Config, groups: &Groups) -> Option<String> {
    let gate::Options::Htpasswd(options) = &config.auth else { return None };
    let (_, known) = UserFile::open(options).ok()?;
    let known: BTreeSet<&str> = known.entries().iter().map(|entry| &*entry.user).collect();
    let users: Vec<_> = groups.users().into_iter().filter(|user| !known.contains(user)).collect();
    let path = options.path.display();
    match users.as_slice() {
        [] => None,
        [user] => Some(format!("the group file has the user {user}, whom {path} does not have")),
        users => Some(format!(
            "the group file has users whom {path} does not have: {}",
            users.join(", ")
        )),
    }
}

impl Reload for RulesOfGate {
    fn keys(&self) -> &'static [&'static str] {
        &["access"]
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        let read = Rules::read(config).map_err(|error| {
            let error = Chain(&error).to_string();
            tracing::error!(%error, "cannot use the new access rules; the old ones stay in force");
            Kept::Unusable
        })?;
        read.log(config);
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        *rules = read;
        self.gate.set_policy(rules.policy());
        Ok(())
    }

    fn watch(&self) -> Option<Duration> {
        Some(WATCH)
    }

    fn read_files(&self, files: Files) {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Current { rules: of_access, groups, file: Some(file) }) = &mut rules.current
        else {
            return;
        };
        match file.reload(files == Files::All) {
            Ok(None) => {}
            Ok(Some(read)) => {
                tracing::info!(
                    file = %file.path().display(),
                    groups = read.len(),
                    "the changed group file is in force"
                );
                for group in missing(of_access, &read) {
                    // A deleted line must take the rights of its group away.
                    tracing::error!(
                        file = %file.path().display(),
                        group,
                        "access rules name a group that no line defines any more: nobody is in it, \
                         and the server will not start again without the line"
                    );
                }
                *groups = read;
                self.gate.set_policy(rules.policy());
            }
            Err(error) => log_broken(file, &error),
        }
    }
}

fn log_broken(file: &GroupFile, error: &GroupFileError) {
    tracing::error!(
        file = %file.path().display(),
        %error,
        "cannot use the group file; the groups last read stay in force"
    );
}

/// The groups that rules name and the file does not define.
fn missing<'a>(rules: &'a [Rule], groups: &Groups) -> BTreeSet<&'a str> {
    let named = rules.iter().flat_map(Rule::groups);
    named.filter(|group| !groups.has(group)).collect()
}
