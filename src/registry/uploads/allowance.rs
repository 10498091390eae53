//! A token bucket: how many uploads a user may begin within an hour.

use std::time::Duration;

use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3600);

/// The tolerance for rounding, in uploads.
const ROUNDING: f64 = 1e-6;

/// A bucket with `most` tokens, which refills evenly within an hour.
#[derive(Debug)]
pub(super) struct Allowance {
    most: f64,
    /// The number of taken tokens at `then`.
    taken: f64,
    then: Instant,
}

impl Allowance {
    /// A full bucket of `most` tokens.
    pub(super) fn new(most: usize) -> Self {
        // A number beyond `u32` is no limit in practice.
        let most = u32::try_from(most).map_or(f64::INFINITY, f64::from);
        Self { most, taken: 0.0, then: Instant::now() }
    }

    /// Takes a token.
    ///
    /// # Errors
    ///
    /// The time until the next token, when the bucket is empty.
    pub(super) fn take(&mut self) -> Result<(), Duration> {
        let taken = self.taken_now() + 1.0;
        let too_many = taken - self.most;
        if too_many <= ROUNDING {
            (self.taken, self.then) = (taken, Instant::now());
            return Ok(());
        }
        // A bucket without tokens never refills; an hour is as good an answer as any.
        let part = (too_many / self.most).min(1.0);
        Err(HOUR.mul_f64(part))
    }

    /// Returns a token.
    pub(super) fn give_back(&mut self) {
        self.taken = (self.taken - 1.0).max(0.0);
    }

    /// Whether the bucket is full.
    pub(super) fn is_whole(&self) -> bool {
        self.taken_now() <= ROUNDING
    }

    fn taken_now(&self) -> f64 {
        let returned = self.then.elapsed().as_secs_f64() / HOUR.as_secs_f64() * self.most;
        // An endless bucket is always full.
        if returned.is_nan() { 0.0 } else { (self.taken - returned).max(0.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn allowance_is_whole_again_after_an_hour() {
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
    async fn allowance_may_be_nothing_or_unlimited() {
        assert_eq!(Allowance::new(0).take(), Err(HOUR));
        let mut endless = Allowance::new(usize::MAX);
        for _ in 0..1000 {
            endless.take().unwrap();
        }
        assert!(endless.is_whole());
    }
}
