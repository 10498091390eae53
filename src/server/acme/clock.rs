//! The time and chance, which tests decide.

use std::fmt;

use jiff::Timestamp;

/// Tells the time, and throws dice.
pub(super) trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time.
    fn now(&self) -> Timestamp;

    /// A number from 0 to 1, each as likely as another.
    fn fraction(&self) -> f64;
}

/// The time of the system.
#[derive(Debug)]
pub(super) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn fraction(&self) -> f64 {
        let mut bytes = [0; 4];
        // Without random numbers the moment is the first of its window.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
    }
}
