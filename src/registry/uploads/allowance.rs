//! How often something may be done within an hour.

use std::time::Duration;

use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3600);

/// An allowance that is short of a whole upload by no more than this counts as whole.
const ROUNDING: f64 = 1e-6;

/// So many times at once, and then as often as they come back: all of them within an hour, evenly.
#[derive(Debug)]
pub(super) struct Allowance {
    most: f64,
    /// How many had been taken then.
    taken: f64,
    then: Instant,
}

impl Allowance {
    /// `most` times an hour.
    pub(super) fn new(most: usize) -> Self {
        // More than 2^52 an hour is no limit, and how it is rounded does not matter.
        let most = u32::try_from(most).map_or(f64::INFINITY, f64::from);
        Self { most, taken: 0.0, then: Instant::now() }
    }

    /// Takes one.
    ///
    /// # Errors
    ///
    /// When none is left: how long it is until there is one.
    pub(super) fn take(&mut self) -> Result<(), Duration> {
        let taken = self.taken_now() + 1.0;
        let too_many = taken - self.most;
        if too_many <= ROUNDING {
            (self.taken, self.then) = (taken, Instant::now());
            return Ok(());
        }
        // Where there is never one, an hour is as good an answer as any.
        let part = (too_many / self.most).min(1.0);
        Err(HOUR.mul_f64(part))
    }

    /// Gives back one that was taken.
    pub(super) fn give_back(&mut self) {
        self.taken = (self.taken - 1.0).max(0.0);
    }

    /// Whether all are there.
    pub(super) fn is_whole(&self) -> bool {
        self.taken_now() <= ROUNDING
    }

    fn taken_now(&self) -> f64 {
        let returned = self.then.elapsed().as_secs_f64() / HOUR.as_secs_f64() * self.most;
        // Nothing of an endless allowance is ever missing.
        if returned.is_nan() { 0.0 } else { (self.taken - returned).max(0.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_comes_back_within_an_hour() {
        let mut allowance = Allowance::new(4);
        for _ in 0..4 {
            allowance.take().unwrap();
        }
        assert_eq!(allowance.take(), Err(HOUR / 4));
        tokio::time::sleep(HOUR / 4).await;
        allowance.take().unwrap();
        assert!(allowance.take().is_err());
        allowance.give_back();
        allowance.take().unwrap();
        assert!(!allowance.is_whole());
        tokio::time::sleep(HOUR).await;
        assert!(allowance.is_whole());
    }

    #[tokio::test(start_paused = true)]
    async fn none_and_all_are_limits_too() {
        assert_eq!(Allowance::new(0).take(), Err(HOUR));
        let mut endless = Allowance::new(usize::MAX);
        for _ in 0..1000 {
            endless.take().unwrap();
        }
        assert!(endless.is_whole());
    }
}
