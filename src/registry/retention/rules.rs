//! `storage.retention`: the rules, as the configuration has them.

use std::time::Duration;

use serde::Deserialize;

use super::TagSelector;
use crate::{oci::Glob, registry::Pattern};

/// `storage.retention`
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct RetentionOptions {
    /// The time between two runs.
    pub interval: Duration,
    /// Logs the tags that would go, and deletes none.
    pub dryrun: bool,
    /// The rules. A tag that no rule matches stays.
    pub rules: Vec<RetentionRule>,
}

impl Default for RetentionOptions {
    /// No rules, so no tag is deleted.
    fn default() -> Self {
        Self { interval: Duration::from_secs(24 * 3600), dryrun: false, rules: Vec::new() }
    }
}

impl RetentionOptions {
    /// Whether a rule needs the time of the last pull.
    pub(in crate::registry) fn asks_for_pulls(&self) -> bool {
        self.rules.iter().any(|rule| rule.keep.pulled_within.is_some())
    }
}

/// An item of `storage.retention.rules`: a selector of tags, and the conditions that keep them.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "WrittenRule")]
pub struct RetentionRule {
    pub(super) scope: TagSelector,
    pub(super) keep: Keep,
}

/// A rule as the configuration has it.
#[derive(Deserialize, Default)]
#[serde(default)]
struct WrittenRule {
    repositories: Option<Glob>,
    tags: Option<Pattern>,
    keeplatest: Option<usize>,
    keeppushedwithin: Option<Duration>,
    keeppulledwithin: Option<Duration>,
}

/// The conditions of a rule, any of which keeps a tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    /// The tag is among this many most recently pushed tags of its repository that the rule matches.
    pub(super) latest: Option<usize>,
    /// The tag was pushed within this time.
    pub(super) pushed_within: Option<Duration>,
    /// The manifest was pulled within this time. Without a recorded pull, the time of the push counts.
    pub(super) pulled_within: Option<Duration>,
}

/// The error of a rule that would delete every tag that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a rule that keeps nothing would delete every tag it is about; say what stays with keeplatest, \
     keeppushedwithin or keeppulledwithin"
)]
pub struct KeepsNothing;

impl TryFrom<WrittenRule> for RetentionRule {
    type Error = KeepsNothing;

    fn try_from(written: WrittenRule) -> Result<Self, KeepsNothing> {
        let WrittenRule { repositories, tags, .. } = written;
        // A condition of zero keeps no tag.
        let keep = Keep {
            latest: written.keeplatest.filter(|latest| *latest > 0),
            pushed_within: written.keeppushedwithin.filter(|within| !within.is_zero()),
            pulled_within: written.keeppulledwithin.filter(|within| !within.is_zero()),
        };
        match keep {
            Keep { latest: None, pushed_within: None, pulled_within: None } => Err(KeepsNothing),
            keep => Ok(Self { scope: TagSelector { repositories, tags }, keep }),
        }
    }
}
