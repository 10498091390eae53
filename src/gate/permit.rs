//! Permits: the proof that a caller may do what its request asks for.

use std::fmt;

use super::{By, Caller, Decision, Identity, May, Policy, Right, Why};
use crate::oci::{RepositoryName, Tag};

/// The proof that a caller may do what a request asks for. Only
/// [`Gate::authorise`](super::Gate::authorise) makes one. It holds the policy that decided, which
/// decides all further questions about the same request.
#[derive(Debug)]
pub struct Permit {
    caller: Caller,
    policy: Policy,
    rule: Option<usize>,
}

/// Grants a caller all of the rights, or none.
pub(super) fn grant(
    caller: Caller,
    policy: Policy,
    rights: &[Right<'_>],
) -> Result<Permit, Denied> {
    let mut rule = None;
    for right in rights {
        match policy.decide(&caller, right) {
            Decision::Allowed(By::Rule(number)) => rule = rule.or(Some(number)),
            Decision::Allowed(_) => {}
            Decision::Denied(why) => return Err(Denied::new(caller, right, why)),
        }
    }
    Ok(Permit { caller, policy, rule })
}

impl Permit {
    /// The caller that it was granted to.
    #[must_use]
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The number of the rule that gave the first of the rights, from 1; `None` where none did.
    #[must_use]
    pub const fn rule(&self) -> Option<usize> {
        self.rule
    }

    /// Whether the caller has another right, by the same rules.
    #[must_use]
    pub fn may(&self, right: &Right<'_>) -> bool {
        self.policy.decide(&self.caller, right).is_allowed()
    }

    /// Whether lists show this repository to the caller: what it may pull, whatever its session token
    /// covers.
    #[must_use]
    pub fn sees(&self, name: &RepositoryName) -> bool {
        self.policy.decide_without_ceiling(&self.caller, &Right::Pull(name)).is_allowed()
    }

    /// Whether lists show every repository to the caller.
    #[must_use]
    pub fn sees_all(&self) -> bool {
        self.policy.decide_without_ceiling(&self.caller, &Right::PullAll).is_allowed()
    }

    /// The texts with which all names begin that the caller [sees](Self::sees), without one that
    /// begins with another. The empty text is the beginning of every name.
    #[must_use]
    pub fn prefixes(&self) -> Vec<String> {
        self.policy.prefixes(&self.caller)
    }

    /// Whether the caller may move tags of the repository, and not only add some.
    #[must_use]
    pub fn may_move_tags(&self, name: &RepositoryName) -> bool {
        self.may(&Right::Push(name))
    }

    /// The denial of a put that would have moved a tag, to a caller who may only add tags.
    #[must_use]
    pub fn denies_move(&self, repository: &RepositoryName, tag: &Tag) -> Denied {
        let caller = self.caller.clone();
        let message = format!("{} may add tags to {repository}, not move {tag}", Subject(&caller));
        let repository = Some(repository.clone());
        Denied { caller, may: May::Push, repository, why: Why::NoRule, message }
    }
}

/// The policy denies a caller one of the rights that its request takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Denied {
    /// The caller.
    pub caller: Caller,
    /// The word that would give the right.
    pub may: May,
    /// The repository; `None` where the right is about all.
    pub repository: Option<RepositoryName>,
    /// Why not.
    pub why: Why,
    /// The denial in words, for the caller.
    message: String,
}

/// What a caller was denied, in the words of clients: an upload is the beginning of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Reading.
    Pull,
    /// Uploads and tags.
    Push,
    /// Deletions.
    Delete,
}

impl Action {
    /// All actions, in the order of their numbers.
    pub(super) const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

/// A caller at the beginning of a sentence.
struct Subject<'a>(&'a Caller);

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.identity {
            Identity::Anonymous => f.write_str("a caller without a name"),
            identity => identity.fmt(f),
        }
    }
}

impl Denied {
    fn new(caller: Caller, right: &Right<'_>, why: Why) -> Self {
        let repository = right.repository().cloned();
        let message = format!("{} may not {right}", Subject(&caller));
        Self { caller, may: right.may(), repository, why, message }
    }

    /// What was denied.
    #[must_use]
    pub const fn action(&self) -> Action {
        match self.may {
            May::Pull => Action::Pull,
            May::Create | May::Push | May::All => Action::Push,
            May::Delete => Action::Delete,
        }
    }
}
