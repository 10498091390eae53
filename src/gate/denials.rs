//! What the policy denies callers with a name: counted by action, and a line in the log for each.
//!
//! A client that tries again and again is denied thousands of times a minute. So each combination of
//! caller, action, repository and address gets one line a minute, and all together get some hundreds;
//! one line at the end of the minute has the number of the others.

use std::{
    collections::HashSet,
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Action, Caller, Denied};
use crate::oci::RepositoryName;

/// How long lines are counted before the count starts again.
const PERIOD: Duration = Duration::from_secs(60);

/// How many lines there are in a period; so it also bounds how many combinations are remembered.
const MAX_LINES: usize = 600;

/// Counts and logs denials.
#[derive(Debug, Default)]
pub struct Denials {
    counts: [AtomicU64; Action::ALL.len()],
    period: Mutex<Option<Period>>,
    hashes: RandomState,
}

/// A minute in which lines are counted.
#[derive(Debug)]
struct Period {
    since: Instant,
    /// The hashes of the combinations that have a line.
    logged: HashSet<u64>,
    /// Denials of combinations that found no room.
    suppressed: u64,
}

impl Period {
    fn new(since: Instant) -> Self {
        Self { since, logged: HashSet::new(), suppressed: 0 }
    }

    /// Takes the line of a combination; `false` when it has one, or there is no room.
    fn take_line(&mut self, combination: u64) -> bool {
        if self.logged.contains(&combination) {
            return false;
        }
        if self.logged.len() < MAX_LINES {
            return self.logged.insert(combination);
        }
        self.suppressed += 1;
        false
    }

    /// Logs how many denials found no room.
    fn close(self) {
        if self.suppressed > 0 {
            tracing::info!(requests = self.suppressed, "more requests denied");
        }
    }
}

impl Denials {
    /// Counts a denial, and logs it with the id of the request unless its combination has a line.
    pub fn note(&self, denied: &Denied, request: &dyn fmt::Display) {
        self.note_at(Instant::now(), denied, request);
    }

    fn note_at(&self, now: Instant, denied: &Denied, request: &dyn fmt::Display) {
        let action = denied.action();
        self.counts[action as usize].fetch_add(1, Ordering::Relaxed);
        let Caller { identity, address, .. } = &denied.caller;
        let repository = denied.repository.as_ref();
        let combination = self.hashes.hash_one((identity, action, repository, address));
        let mut period = self.period();
        let ended = period.take_if(|period| now.duration_since(period.since) >= PERIOD);
        let has_line = period.get_or_insert_with(|| Period::new(now)).take_line(combination);
        drop(period);
        if let Some(ended) = ended {
            ended.close();
        }
        if has_line {
            let repository = repository.map_or("*", RepositoryName::as_str);
            let address = address.map_or_else(|| "unix".to_owned(), |address| address.to_string());
            tracing::info!(user = %identity, action = action.as_str(), repository, address, %request, "denied");
        }
    }

    /// Logs how many denials of the last minute have no line, once it is over.
    pub(super) fn sum_up(&self) {
        let now = Instant::now();
        let ended = self.period().take_if(|period| now.duration_since(period.since) >= PERIOD);
        if let Some(ended) = ended {
            ended.close();
        }
    }

    /// How many requests were denied since the start, by action.
    pub fn numbers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let of = |action: Action| {
            (action.as_str(), self.counts[action as usize].load(Ordering::Relaxed))
        };
        Action::ALL.into_iter().map(of)
    }

    fn period(&self) -> MutexGuard<'_, Option<Period>> {
        self.period.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Denials {
    fn drop(&mut self) {
        if let Some(period) = self.period().take() {
            period.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gate::{Ceiling, Gate, Identity, Policy, Right, testing::logged};

    /// A denial of a pull from a repository, to a caller whose session token covers nothing.
    fn denied(user: &str, repository: &str) -> Denied {
        let identity = Identity::User(user.into());
        let caller = Caller::new(identity, Some("192.0.2.7".parse().unwrap()));
        let caller = Caller { ceiling: Some(Arc::<Ceiling>::default()), ..caller };
        let repository = repository.parse().unwrap();
        Gate::open(Policy::everything()).authorise(caller, &[Right::Pull(&repository)]).unwrap_err()
    }

    #[test]
    fn combination_has_one_line_a_minute_and_each_denial_counts() {
        let denials = Denials::default();
        let begun = Instant::now();
        let note = |seconds, user: &str, repository: &str| {
            let now = begun + Duration::from_secs(seconds);
            denials.note_at(now, &denied(user, repository), &"an-id");
        };
        let lines = logged(|| (0..100).for_each(|_| note(0, "ann", "team/app")));
        let line = "info message=denied user=ann action=\"pull\" repository=\"team/app\" \
                    address=\"192.0.2.7\" request=an-id";
        assert_eq!(lines, [line]);
        assert_eq!(logged(|| note(1, "ann", "team/other")).len(), 1);
        assert_eq!(logged(|| note(59, "bob", "team/app")).len(), 1);
        assert_eq!(logged(|| note(59, "ann", "team/app")).len(), 0);
        assert_eq!(logged(|| note(60, "ann", "team/app")), [line]);
        let numbers: Vec<_> = denials.numbers().collect();
        assert_eq!(numbers, [("pull", 104), ("push", 0), ("delete", 0)]);
    }

    #[test]
    fn all_combinations_together_have_some_hundred_lines() {
        let denials = Denials::default();
        let lines = logged(|| {
            for nth in 0..1000 {
                denials.note(&denied("ann", &format!("team/app{nth}")), &"an-id");
            }
            drop(denials);
        });
        assert_eq!(lines.len(), MAX_LINES + 1);
        assert_eq!(lines[MAX_LINES], "info message=more requests denied requests=400");
    }
}
