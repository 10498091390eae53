//! Counts of the gate's decisions.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Refusal;

/// The gate's decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Admitted without a name: the gate is open, or a rule is for `anyone`.
    Anonymous,
    /// Admitted by a run of bcrypt.
    Bcrypt,
    /// Admitted without one: the credentials are remembered, or a request with equal credentials ran it.
    Memory,
    /// Admitted by a session token.
    Session,
    /// Admitted by the secret of a deploy token.
    Token,
    /// Admitted by a client certificate.
    Certificate,
    /// Admitted by a token of an external issuer.
    Issuer,
    /// The request had no credentials, or malformed ones.
    Missing,
    /// The password was wrong, there is no such user, or the session token or the deploy token is not valid
    /// any more.
    Refused,
    /// The password was not checked, because too many were wrong.
    Throttled,
    /// The password was not checked, because too many waited.
    Busy,
}

const NAMES: [(Outcome, &str); 11] = [
    (Outcome::Anonymous, "anonymous"),
    (Outcome::Bcrypt, "bcrypt"),
    (Outcome::Memory, "memory"),
    (Outcome::Session, "session"),
    (Outcome::Token, "token"),
    (Outcome::Certificate, "certificate"),
    (Outcome::Issuer, "issuer"),
    (Outcome::Missing, "missing"),
    (Outcome::Refused, "refused"),
    (Outcome::Throttled, "throttled"),
    (Outcome::Busy, "busy"),
];

/// How many requests had each outcome.
#[derive(Debug, Default)]
pub(super) struct Outcomes([AtomicU64; NAMES.len()]);

impl Outcomes {
    pub(super) fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Names and numbers of all outcomes.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.iter().zip(&self.0).map(|((_, name), number)| (*name, number.load(Ordering::Relaxed)))
    }
}

impl From<&Refusal> for Outcome {
    /// The outcome of credentials that were refused. A request without any is `Missing` instead.
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Busy { .. } => Self::Busy,
            Refusal::Throttled { .. } => Self::Throttled,
            Refusal::TokenExpired { .. } | Refusal::Unauthenticated | Refusal::InvalidToken => {
                Self::Refused
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_counted_under_its_name() {
        let outcomes = Outcomes::default();
        for (times, (outcome, _)) in NAMES.into_iter().enumerate() {
            for _ in 0..times {
                outcomes.count(outcome);
            }
        }
        let names = NAMES.map(|(_, name)| name);
        assert_eq!(
            outcomes.numbers().collect::<Vec<_>>(),
            names.into_iter().zip(0..).collect::<Vec<_>>()
        );
    }
}
