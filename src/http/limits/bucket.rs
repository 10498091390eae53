//! The generic cell rate algorithm (ITU-T I.371) with reservations: who has to wait is told for how long, in
//! the order of arrival, and those who wait are never more than the rate lets pass in the time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::Rate;

/// A rate, and how far a caller may run ahead of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    rate: Rate,
    /// In nanoseconds at the rate.
    ahead: u64,
}

impl Allowance {
    /// The rate, with the units of this time at once.
    pub(super) fn new(rate: Rate, ahead: Duration) -> Self {
        Self { rate, ahead: nanoseconds(ahead) }
    }

    /// The rate, with `burst` units at once.
    pub(super) fn of(rate: Rate, burst: u32) -> Self {
        Self { rate, ahead: rate.time(burst.into()) }
    }
}

/// What has been used of an allowance: the time at which all of it is available again, in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Bucket(AtomicU64);

impl Bucket {
    /// Takes `units`, and returns for how long they have to wait.
    ///
    /// # Errors
    ///
    /// The time that they would have to wait, when that is more than `patience`. Nothing is taken then.
    pub(super) fn reserve(
        &self,
        allowance: &Allowance,
        units: u64,
        now: u64,
        patience: Duration,
    ) -> Result<Duration, Duration> {
        let cost = allowance.rate.time(units);
        let patience = nanoseconds(patience);
        let mut wait = 0;
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
            let due = due.max(now).saturating_add(cost);
            wait = (due - now).saturating_sub(allowance.ahead);
            (wait <= patience).then_some(due)
        });
        let wait = Duration::from_nanos(wait);
        taken.map(|_| wait).map_err(|_| wait)
    }

    /// Takes `units`, however long they have to wait.
    pub(super) fn take(&self, allowance: &Allowance, units: u64, now: u64) -> Duration {
        match self.reserve(allowance, units, now, Duration::MAX) {
            Ok(wait) | Err(wait) => wait,
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(text: &str) -> Rate {
        Rate::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn burst_passes_at_once_and_the_rest_at_the_rate() {
        let bucket = Bucket::default();
        let allowance = Allowance::of(rate("10/s"), 3);
        let ms = Duration::from_millis;
        let ask = |now| bucket.reserve(&allowance, 1, now, ms(250));
        let waits: Vec<_> = (0..6).map(|_| ask(0)).collect();
        let expected = [Ok(ms(0)), Ok(ms(0)), Ok(ms(0)), Ok(ms(100)), Ok(ms(200)), Err(ms(300))];
        assert_eq!(waits, expected);
        // What was refused has taken nothing.
        assert_eq!(ask(SECOND / 10), Ok(ms(200)));
        assert_eq!(ask(10 * SECOND), Ok(ms(0)), "the burst is there again, and no more");
        let again: Vec<_> = (0..3).map(|_| ask(10 * SECOND)).collect();
        assert_eq!(again, [Ok(ms(0)), Ok(ms(0)), Ok(ms(100))]);
    }

    #[test]
    fn large_pieces_and_high_rates_are_exact() {
        let bucket = Bucket::default();
        let allowance = Allowance::new(rate("300000000/s"), Duration::from_millis(100));
        let mut wait = Duration::ZERO;
        for _ in 0..3000 {
            wait = bucket.take(&allowance, 1_000_000, 0);
        }
        assert_eq!(wait.as_millis(), 9_899, "10 s, without those of the 100 ms at once");
    }
}
