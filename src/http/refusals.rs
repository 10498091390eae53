//! Refusals: what a caller gets whom the gate does not let in, or whom the policy denies what it asks for.
//!
//! A caller without a name gets the same `401` for everything that it may not do, whether the path names a
//! repository that exists or none, or no endpoint: it learns what it may send, and nothing else. A `403`
//! would end there, too: containerd sends its credentials after a `401` only. A caller with a name gets a
//! `403` that says who may not do what.

use std::sync::Arc;

use super::{Error, call::Head, challenge::Challenges};
use crate::gate::{Caller, Denied, Gate, Identity, Refusal, Why};

/// Makes the errors of refused requests.
#[derive(Debug)]
pub(super) struct Refusals {
    gate: Arc<Gate>,
    challenges: Arc<Challenges>,
}

impl Refusals {
    pub(super) const fn new(gate: Arc<Gate>, challenges: Arc<Challenges>) -> Self {
        Self { gate, challenges }
    }

    /// Whether a name would give the caller more: it has none, and the gate asks for one.
    pub(super) fn is_nobody(&self, caller: &Caller) -> bool {
        caller.identity == Identity::Anonymous && self.gate.realm().is_some()
    }

    /// The error of a request whose caller the gate does not let in.
    pub(super) fn refused(&self, refusal: Refusal, head: &Head) -> Error {
        let challenge = self.challenges.of(&refusal, head);
        Error::Unauthenticated { refusal, challenge }
    }

    /// The error of a request that takes a name, of a caller who has none.
    pub(super) fn nameless(&self, caller: &Caller, head: &Head) -> Error {
        let refusal = Refusal::Unauthenticated;
        let challenge = match caller.ceiling {
            Some(_) => self.challenges.of_nameless_token(head),
            None => self.challenges.of(&refusal, head),
        };
        Error::Unauthenticated { refusal, challenge }
    }

    /// The error of a request that the policy denies. Counts and logs what a caller with a name is
    /// denied.
    pub(super) fn denied(&self, denied: Denied, head: &Head) -> Error {
        if denied.why == Why::Ceiling {
            return self.challenges.beyond(head, denied);
        }
        if self.is_nobody(&denied.caller) {
            return self.nameless(&denied.caller, head);
        }
        self.gate.denials().note(&denied, &head.id);
        Error::Denied(Box::new(denied))
    }
}
