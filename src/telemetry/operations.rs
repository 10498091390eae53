//! What the storage did, by registry:2's names: counted, timed, and what went wrong.
//!
//! Whoever does the work on the disk notes it, once it is done. What is answered from memory costs
//! one atomic addition and no look at a clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    histogram::{ACTIONS, Histogram, SECONDS},
    metrics::{Kind, Labels, Metrics},
};

/// What was done, by the names that registry:2 gives it; `Sync` is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// One object was deleted, or all below a key.
    Delete,
    /// A small object was read.
    GetContent,
    /// A page of names was read.
    List,
    /// An object was given another name.
    Move,
    /// A small object was written.
    PutContent,
    /// An object was opened to be read.
    Reader,
    /// Something was looked at.
    Stat,
    /// The bytes of an upload were made durable.
    Sync,
    /// An object was opened to be written at its end.
    Writer,
}

const ACTION_NAMES: [(Action, &str); 9] = [
    (Action::Delete, "Delete"),
    (Action::GetContent, "GetContent"),
    (Action::List, "List"),
    (Action::Move, "Move"),
    (Action::PutContent, "PutContent"),
    (Action::Reader, "Reader"),
    (Action::Stat, "Stat"),
    (Action::Sync, "Sync"),
    (Action::Writer, "Writer"),
];

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The disk or the quota is full.
    NoSpace,
    /// There was no file descriptor left.
    TooManyFiles,
    /// Anything else.
    Other,
}

const FAILURE_NAMES: [(Failure, &str); 3] = [
    (Failure::NoSpace, "no_space"),
    (Failure::TooManyFiles, "too_many_files"),
    (Failure::Other, "other"),
];

/// All that one storage did.
#[derive(Debug)]
pub struct Operations {
    driver: &'static str,
    durations: [Histogram; ACTION_NAMES.len()],
    failures: [AtomicU64; FAILURE_NAMES.len()],
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Operations {
    /// Nothing yet, by the driver that registry:2 calls so.
    #[must_use]
    pub fn new(driver: &'static str) -> Self {
        Self {
            driver,
            durations: std::array::from_fn(|_| Histogram::new(ACTIONS)),
            failures: std::array::from_fn(|_| AtomicU64::new(0)),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Counts what was done on the disk, well or not, and how long it took.
    pub fn done(&self, action: Action, took: Duration) {
        self.durations[action as usize].note_duration(took);
    }

    /// Counts a failure.
    pub fn failed(&self, failure: Failure) {
        self.failures[failure as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what was known, so that the disk was not asked.
    pub fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what was not known, though it might have been.
    pub fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds all of it to what is served.
    pub fn register(self: &Arc<Self>, metrics: &mut Metrics) {
        let operations = Arc::clone(self);
        metrics.histograms(
            "registry_storage_action_seconds",
            "How long the storage took, by what it did",
            move || {
                let numbers = ACTION_NAMES.iter().zip(&operations.durations);
                let labels = |name: &str| -> Labels {
                    vec![("driver", operations.driver.to_owned()), ("action", name.to_owned())]
                };
                numbers
                    .filter_map(|((_, name), of)| Some((labels(name), of.snapshot(SECONDS)?)))
                    .collect()
            },
        );
        let operations = Arc::clone(self);
        let help = "Small files, lengths and lists, by whether the disk was asked";
        metrics.family("registry_storage_cache", help, Kind::Counter, move || {
            let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
            let hits = of(&operations.hits);
            let misses = of(&operations.misses);
            let labelled = |(name, number): (&str, u64)| (vec![("type", name.to_owned())], number);
            [("Request", hits + misses), ("Hit", hits), ("Miss", misses)].map(labelled).into()
        });
        let operations = Arc::clone(self);
        let help = "What the storage could not do, by what was in the way";
        metrics.family("portcullis_storage_errors", help, Kind::Counter, move || {
            let numbers = FAILURE_NAMES.iter().zip(&operations.failures);
            numbers
                .map(|((_, name), number)| {
                    (vec![("kind", (*name).to_owned())], number.load(Ordering::Relaxed))
                })
                .collect()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_stands_under_its_name() {
        for (index, (action, _)) in ACTION_NAMES.into_iter().enumerate() {
            assert_eq!(action as usize, index);
        }
        for (index, (failure, _)) in FAILURE_NAMES.into_iter().enumerate() {
            assert_eq!(failure as usize, index);
        }
        let operations = Arc::new(Operations::new("filesystem"));
        operations.done(Action::Move, Duration::from_millis(3));
        operations.done(Action::Move, Duration::from_secs(11));
        operations.failed(Failure::TooManyFiles);
        operations.hit();
        operations.hit();
        operations.miss();
        let mut metrics = Metrics::default();
        operations.register(&mut metrics);
        let text = metrics.text();
        let of = "driver=\"filesystem\",action=\"Move\"";
        for line in [
            format!("registry_storage_action_seconds_bucket{{le=\"0.005\",{of}}} 1"),
            format!("registry_storage_action_seconds_bucket{{le=\"10.0\",{of}}} 1"),
            format!("registry_storage_action_seconds_bucket{{le=\"+Inf\",{of}}} 2"),
            "registry_storage_cache_total{type=\"Request\"} 3".to_owned(),
            "registry_storage_cache_total{type=\"Hit\"} 2".to_owned(),
            "registry_storage_cache_total{type=\"Miss\"} 1".to_owned(),
            "portcullis_storage_errors_total{kind=\"no_space\"} 0".to_owned(),
            "portcullis_storage_errors_total{kind=\"too_many_files\"} 1".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing: {text}");
        }
        assert!(!text.contains("Reader"), "{text}");
    }
}
