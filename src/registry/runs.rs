//! Counts the runs of a task that maintains the registry, for metrics.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

/// The runs of a task since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Runs that succeeded.
    pub succeeded: u64,
    /// Runs that failed.
    pub failed: u64,
    /// How long all of them took together.
    pub duration: Duration,
    /// When the last successful run ended, in seconds since 1970; `None` before the first.
    pub last_success: Option<u64>,
}

/// Counts runs.
#[derive(Debug, Default)]
pub(super) struct RunCounter {
    succeeded: AtomicU64,
    failed: AtomicU64,
    milliseconds: AtomicU64,
    /// Seconds since 1970; zero before the first.
    last_success: AtomicU64,
}

impl RunCounter {
    /// Counts a run that has ended.
    pub(super) fn count(&self, succeeded: bool, duration: Duration) {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.milliseconds.fetch_add(milliseconds, Ordering::Relaxed);
        if succeeded {
            self.succeeded.fetch_add(1, Ordering::Relaxed);
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.last_success.store(now.as_secs(), Ordering::Relaxed);
        } else {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn runs(&self) -> Runs {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Runs {
            succeeded: read(&self.succeeded),
            failed: read(&self.failed),
            duration: Duration::from_millis(read(&self.milliseconds)),
            last_success: Some(read(&self.last_success)).filter(|seconds| *seconds > 0),
        }
    }
}
