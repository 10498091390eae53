//! The metrics of the storage, by registry:2's names: durations, cache hits and failures of its
//! operations.
//!
//! The code that works on the disk records each operation at its end. A cache hit costs one atomic
//! addition and does not read the clock.

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

/// An operation, by registry:2's names; `Sync` is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Deletes one object, or all objects below a key.
    Delete,
    /// Reads a small object.
    GetContent,
    /// Reads a page of names.
    List,
    /// Renames an object.
    Move,
    /// Writes a small object.
    PutContent,
    /// Opens an object for reading.
    Reader,
    /// Reads the metadata of an object.
    Stat,
    /// Makes the bytes of an upload durable.
    Sync,
    /// Opens an object for appending.
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

/// The cause of a failed operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The disk or the quota is full.
    NoSpace,
    /// No file descriptor is left.
    TooManyFiles,
    /// Any other cause.
    Other,
}

const FAILURE_NAMES: [(Failure, &str); 3] = [
    (Failure::NoSpace, "no_space"),
    (Failure::TooManyFiles, "too_many_files"),
    (Failure::Other, "other"),
];

/// The counts of one storage.
#[derive(Debug)]
pub struct Operations {
    driver: &'static str,
    durations: [Histogram; ACTION_NAMES.len()],
    failures: [AtomicU64; FAILURE_NAMES.len()],
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Operations {
    /// Counts of zero, for the driver with this name in registry:2.
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

    /// Counts an operation on the disk, successful or failed, with its duration.
    pub fn done(&self, action: Action, duration: Duration) {
        self.durations[action as usize].observe_duration(duration);
    }

    /// Counts a failed operation by its cause.
    pub fn failed(&self, failure: Failure) {
        self.failures[failure as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a cache hit, which needs no operation on the disk.
    pub fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a cache miss.
    pub fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds the counts to the served metrics.
    pub fn register(self: &Arc<Self>, metrics: &mut Metrics) {
        let operations = Arc::clone(self);
        metrics.histograms(
            "registry_storage_action_seconds",
            "Duration of storage operations, by action",
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
        let help = "Reads of small files, lengths and lists, by cache result";
        metrics.family("registry_storage_cache", help, Kind::Counter, move || {
            let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
            let hits = of(&operations.hits);
            let misses = of(&operations.misses);
            let labelled = |(name, number): (&str, u64)| (vec![("type", name.to_owned())], number);
            [("Request", hits + misses), ("Hit", hits), ("Miss", misses)].map(labelled).into()
        });
        let operations = Arc::clone(self);
        let help = "Failed storage operations, by cause";
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
    fn each_count_is_served_under_its_name() {
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
