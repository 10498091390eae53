//! `storage.retention`: the rules, as the configuration has them.

use std::time::Duration;

use serde::Deserialize;

use super::{Glob, TagSelector};
use crate::registry::Pattern;

/// `storage.retention`
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct RetentionOptions {
    /// How often it is looked for tags that go.
    pub interval: Duration,
    /// Says which would go, and lets them stay.
    pub dryrun: bool,
    /// Which stay. A tag that is under none of them stays.
    pub rules: Vec<RetentionRule>,
}

impl Default for RetentionOptions {
    /// Without rules, so that nothing goes.
    fn default() -> Self {
        Self { interval: Duration::from_secs(24 * 3600), dryrun: false, rules: Vec::new() }
    }
}

impl RetentionOptions {
    /// Whether any rule asks when something was pulled.
    pub(in crate::registry) fn asks_for_pulls(&self) -> bool {
        self.rules.iter().any(|rule| rule.keep.pulled_within.is_some())
    }
}

/// An item of `storage.retention.rules`: some tags, and which of them stay.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "WrittenRule")]
pub struct RetentionRule {
    pub(super) scope: TagSelector,
    pub(super) keep: Keep,
}

/// A rule as it is written.
#[derive(Deserialize, Default)]
#[serde(default)]
struct WrittenRule {
    repositories: Option<Glob>,
    tags: Option<Pattern>,
    keeplatest: Option<usize>,
    keeppushedwithin: Option<Duration>,
    keeppulledwithin: Option<Duration>,
}

/// What keeps a tag: any of these.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    /// It is among so many that were pushed last, of those in its repository that are under the
    /// rule.
    pub(super) latest: Option<usize>,
    /// It was pushed within this time.
    pub(super) pushed_within: Option<Duration>,
    /// What it names was pulled within this time; if it never was, as if it had been when it was
    /// pushed.
    pub(super) pulled_within: Option<Duration>,
}

/// A rule that would delete every tag that it is about.
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
        // Nothing is among the latest none, and nothing happened within no time.
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
