//! What became of those who came to the gate, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Refusal;

/// What became of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The gate is open: nobody was asked for a name.
    Anonymous,
    /// Let in by a run of bcrypt.
    Bcrypt,
    /// Let in without one: by what is remembered, or by the run for an equal caller at that moment.
    Memory,
    /// There were no credentials, or none that can be read.
    Missing,
    /// The password was wrong, or there is no such user.
    Refused,
    /// No password was looked at, for too many were wrong.
    Throttled,
    /// No password was looked at, for too many waited.
    Busy,
}

const NAMES: [(Outcome, &str); 7] = [
    (Outcome::Anonymous, "anonymous"),
    (Outcome::Bcrypt, "bcrypt"),
    (Outcome::Memory, "memory"),
    (Outcome::Missing, "missing"),
    (Outcome::Refused, "refused"),
    (Outcome::Throttled, "throttled"),
    (Outcome::Busy, "busy"),
];

/// How often each outcome was.
#[derive(Debug, Default)]
pub(super) struct Outcomes([AtomicU64; NAMES.len()]);

impl Outcomes {
    pub(super) fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Each by its name.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.iter().zip(&self.0).map(|((_, name), number)| (*name, number.load(Ordering::Relaxed)))
    }
}

impl From<Refusal> for Outcome {
    /// For refused credentials; that there were none is no refusal of any.
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy { .. } => Self::Busy,
            Refusal::Throttled { .. } => Self::Throttled,
            Refusal::Unauthenticated => Self::Refused,
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
