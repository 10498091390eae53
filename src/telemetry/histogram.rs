//! Numbers by their size, counted without a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The bounds of durations, in nanoseconds: those that registry:2 has.
pub const DURATIONS: &[u64] = &[
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    25_000_000_000,
    60_000_000_000,
];

/// The bounds of what a storage does, in nanoseconds. registry:2 has those that Prometheus gives to
/// whoever names none.
pub const ACTIONS: &[u64] = DURATIONS.split_at(11).0;

/// The bounds of sizes, in bytes: from 1 KiB by twos to 2 GiB, as registry:2 has them.
pub const SIZES: &[u64] = &{
    let mut bounds = [1024; 22];
    let mut index = 1;
    while index < bounds.len() {
        bounds[index] = bounds[index - 1] * 2;
        index += 1;
    }
    bounds
};

/// How often numbers of each size came.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what is greater than the last.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one with these bounds, which ascend.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts a number.
    pub fn note(&self, number: u64) {
        let index = self.bounds.partition_point(|bound| *bound < number);
        self.counts[index].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(number, Ordering::Relaxed);
    }

    /// Counts a duration, as nanoseconds.
    pub fn note_duration(&self, duration: Duration) {
        self.note(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What was counted so far, with bounds and sum divided by `unit`. `None` when that is nothing.
    #[must_use]
    pub fn snapshot(&self, unit: f64) -> Option<Snapshot> {
        let counts: Vec<u64> = self.counts.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        let count = counts.iter().sum();
        let bounds = self.bounds.iter().map(|bound| *bound as f64 / unit).chain([f64::INFINITY]);
        let buckets = bounds.zip(counts).collect();
        let sum = self.sum.load(Ordering::Relaxed) as f64 / unit;
        (count > 0).then_some(Snapshot { buckets, count, sum })
    }
}

/// A histogram at some moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Bounds, each with how many numbers are not greater but are greater than the one before. The
    /// last is that of all numbers.
    pub buckets: Vec<(f64, u64)>,
    /// How many numbers there were.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

/// What makes seconds of nanoseconds.
pub const SECONDS: f64 = 1e9;

/// What leaves bytes as they are.
pub const BYTES: f64 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_by_the_least_bound_that_is_not_less() {
        let histogram = Histogram::new(&[10, 20]);
        assert_eq!(histogram.snapshot(BYTES), None);
        for number in [0, 10, 11, 20, 21, 1000] {
            histogram.note(number);
        }
        let snapshot = histogram.snapshot(BYTES).unwrap();
        assert_eq!(snapshot.buckets, [(10.0, 2), (20.0, 2), (f64::INFINITY, 2)]);
        assert_eq!((snapshot.count, snapshot.sum), (6, 1062.0));
        assert_eq!((SIZES[0], SIZES[21]), (1024, 2 << 30));
        assert_eq!(ACTIONS.last(), Some(&10_000_000_000));
    }
}
