//! A histogram without a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The bounds of the durations of requests, in nanoseconds: registry:2's.
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

/// The bounds of the durations of storage operations, in nanoseconds: as in registry:2, the default
/// bounds of Prometheus' client.
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

/// Counts of values by bucket.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One count for each bound, and one for values greater than the last bound.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty histogram with these ascending bounds.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        self.counts[index].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a duration, as nanoseconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The present counts, with bounds and sum divided by `unit`; `None` for an empty histogram.
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
    /// The upper bounds, each with the count of values in its bucket: those above the bound before.
    /// The last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// The count of all values.
    pub count: u64,
    /// The sum of all values.
    pub sum: f64,
}

/// The unit of a histogram that counts nanoseconds and is served in seconds.
pub const SECONDS: f64 = 1e9;

/// The unit of a histogram of bytes.
pub const BYTES: f64 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_counts_in_the_bucket_of_the_least_bound_that_is_not_less() {
        let histogram = Histogram::new(&[10, 20]);
        assert_eq!(histogram.snapshot(BYTES), None);
        for number in [0, 10, 11, 20, 21, 1000] {
            histogram.observe(number);
        }
        let snapshot = histogram.snapshot(BYTES).unwrap();
        assert_eq!(snapshot.buckets, [(10.0, 2), (20.0, 2), (f64::INFINITY, 2)]);
        assert_eq!((snapshot.count, snapshot.sum), (6, 1062.0));
        assert_eq!((SIZES[0], SIZES[21]), (1024, 2 << 30));
        assert_eq!(ACTIONS.last(), Some(&10_000_000_000));
    }
}
