//! The policy: what callers may do.

use std::{net::IpAddr, sync::Arc};

use super::{Access, Caller, Identity, Right, access::Subject};

/// Decides what callers may do. A value never changes, so a request that holds one is judged by the
/// rules and the groups of one moment.
#[derive(Clone, Debug)]
pub struct Policy(Option<Arc<Access>>);

/// A decision about one right of one caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The caller has the right.
    Allowed(By),
    /// The caller does not have the right.
    Denied(Why),
}

/// The reason of an [`Allowed`](Decision::Allowed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// There are no rules: every caller that the gate lets in may do everything.
    Everything,
    /// A list shows what the caller may pull, so every caller with a name may ask for it.
    Listing,
    /// The rule with this number, from 1.
    Rule(usize),
    /// The line of the deploy token.
    Grant,
}

/// The reason of a [`Denied`](Decision::Denied).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No rule gives the right, and for a deploy token neither does its line.
    NoRule,
    /// The session token does not cover the right.
    Ceiling,
}

impl Decision {
    /// Whether the caller has the right.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

impl Policy {
    /// Every caller that the gate lets in may do everything, as with registry:2's htpasswd.
    #[must_use]
    pub const fn everything() -> Self {
        Self(None)
    }

    /// Callers may do what these rules give.
    #[must_use]
    pub fn rules(access: Access) -> Self {
        Self(Some(Arc::new(access)))
    }

    /// The rules; `None` where every caller may do everything.
    #[must_use]
    pub fn access(&self) -> Option<&Access> {
        self.0.as_deref()
    }

    /// Decides about one right.
    #[must_use]
    pub fn decide(&self, caller: &Caller, right: &Right<'_>) -> Decision {
        let decision = self.decide_without_ceiling(caller, right);
        match &caller.ceiling {
            // A client that is told of the ceiling asks for another token, which would not help it
            // where the rules do not give the right.
            Some(ceiling) if decision.is_allowed() && !ceiling.covers(right) => {
                Decision::Denied(Why::Ceiling)
            }
            _ => decision,
        }
    }

    /// Decides about one right, whatever the caller's session token covers.
    pub(super) fn decide_without_ceiling(&self, caller: &Caller, right: &Right<'_>) -> Decision {
        match &caller.grant {
            None => self.by_rules(&caller.identity, caller, right),
            Some(grant)
                if grant.gives(right) && self.owner_has(grant.user.as_ref(), caller, right) =>
            {
                Decision::Allowed(By::Grant)
            }
            // Without rules a deploy token has the rights in its line and no more.
            Some(_) if self.0.is_none() => Decision::Denied(Why::NoRule),
            Some(_) => self.by_rules(&Identity::Anonymous, caller, right),
        }
    }

    /// Whether the user that bounds a deploy token has the right. Without such a user, yes.
    fn owner_has(&self, owner: Option<&Arc<str>>, caller: &Caller, right: &Right<'_>) -> bool {
        owner.is_none_or(|owner| {
            self.by_rules(&Identity::User(Arc::clone(owner)), caller, right).is_allowed()
        })
    }

    fn by_rules(&self, identity: &Identity, caller: &Caller, right: &Right<'_>) -> Decision {
        let Some(access) = &self.0 else { return Decision::Allowed(By::Everything) };
        if matches!(right, Right::List) && !matches!(identity, Identity::Anonymous) {
            return Decision::Allowed(By::Listing);
        }
        match access.deciding_rule(&access.subject(identity, caller.address), right) {
            Some(number) => Decision::Allowed(By::Rule(number)),
            None => Decision::Denied(Why::NoRule),
        }
    }

    /// Whether a rule can let in a caller without a name that comes from `address`.
    #[must_use]
    pub fn admits_anonymous(&self, address: Option<IpAddr>) -> bool {
        self.0.as_ref().is_some_and(|access| {
            let nobody = access.subject(&Identity::Anonymous, address);
            access.deciding_rule(&nobody, &Right::List).is_some()
        })
    }

    /// The texts that the names of all repositories begin with that the caller may pull, without one
    /// that begins with another; the empty text stands for every name.
    #[must_use]
    pub fn prefixes(&self, caller: &Caller) -> Vec<String> {
        let mut prefixes = match (&self.0, &caller.grant) {
            (None, None) => vec![String::new()],
            (None, Some(grant)) => grant.repositories.iter().map(|glob| glob.prefix(&[])).collect(),
            (Some(access), None) => access.prefixes(&subject_of(access, caller)),
            (Some(access), Some(grant)) => {
                let mut prefixes = access.prefixes(&subject_of(access, caller));
                prefixes.extend(grant.repositories.iter().map(|glob| glob.prefix(&[])));
                prefixes
            }
        };
        prefixes.sort_unstable();
        prefixes.dedup_by(|next, kept| next.starts_with(&**kept));
        prefixes
    }
}

/// The subject of the rules for a caller: a deploy token may do what callers without a name may.
fn subject_of<'a>(access: &'a Access, caller: &'a Caller) -> Subject<'a> {
    match caller.grant {
        None => access.subject(&caller.identity, caller.address),
        Some(_) => access.subject(&Identity::Anonymous, caller.address),
    }
}
