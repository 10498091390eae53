//! When a certificate is renewed, and when a failed attempt is repeated. Nothing here knows the time or how long
//! certificates live: Let's Encrypt shortens their lifetimes year by year.

use jiff::{SignedDuration, Timestamp};

/// The times of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

/// A lifetime below which a certificate is renewed at its half, as Let's Encrypt advises.
const SHORT: SignedDuration = SignedDuration::from_hours(10 * 24);

impl Validity {
    fn lifetime(self) -> SignedDuration {
        self.not_before.duration_until(self.not_after)
    }

    /// When the certificate is renewed where the authority suggests no time: at two thirds of its lifetime, or
    /// at half of it where that is under ten days.
    pub(super) fn renewal(self) -> Timestamp {
        let lifetime = self.lifetime();
        let used = if lifetime < SHORT { lifetime / 2 } else { lifetime / 3 * 2 };
        after(self.not_before, used)
    }

    /// When the certificate is renewed at the latest, whatever the authority suggests: at nine tenths.
    pub(super) fn latest_renewal(self) -> Timestamp {
        after(self.not_before, self.lifetime() / 10 * 9)
    }

    /// Whether the last third of the lifetime has begun.
    pub(super) fn is_in_last_third(self, now: Timestamp) -> bool {
        now >= after(self.not_before, self.lifetime() / 3 * 2)
    }
}

/// The window in which the authority suggests a renewal (RFC 9773 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

impl Window {
    /// A moment of the window: its start at fraction 0, its end at 1.
    pub(super) fn moment(self, fraction: f64) -> Timestamp {
        let length = self.start.duration_until(self.end).max(SignedDuration::ZERO);
        after(self.start, length.mul_f64_saturating(fraction))
    }
}

/// How long after each failure the next attempt begins; after further ones, as after the last.
const PAUSES: [SignedDuration; 4] = [
    SignedDuration::from_mins(1),
    SignedDuration::from_mins(10),
    SignedDuration::from_hours(1),
    SignedDuration::from_hours(6),
];

/// The longest wait that an authority can ask for.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// How long after the `failures`th failure in succession the next attempt begins: the pause, give or take 20 %
/// by `fraction`, or what the authority asks for (`Retry-After`), a minute at least and a day at most.
pub(super) fn pause(
    failures: usize,
    retry_after: Option<SignedDuration>,
    fraction: f64,
) -> SignedDuration {
    if let Some(asked) = retry_after {
        return asked.clamp(PAUSES[0], LONGEST);
    }
    let pause = PAUSES[failures.saturating_sub(1).min(PAUSES.len() - 1)];
    pause.mul_f64_saturating(0.8 + 0.4 * fraction)
}

/// How many orders for one host are made in [`PER`].
const ORDERS: usize = 4;
const PER: SignedDuration = SignedDuration::from_hours(1);

/// When the next order for a host may be made after these, which are in order.
pub(super) fn next_order(orders: &[Timestamp]) -> Option<Timestamp> {
    let fourth_last = orders.len().checked_sub(ORDERS)?;
    Some(after(orders[fourth_last], PER))
}

/// The orders that still count, with one more.
pub(super) fn with_order(orders: &[Timestamp], now: Timestamp) -> Vec<Timestamp> {
    let first = orders.len().saturating_sub(ORDERS - 1);
    orders[first..].iter().copied().chain([now]).collect()
}

/// The time between two questions for the window: what the authority says, an hour at least, so that a wrong
/// answer costs little, and a day at most.
pub(super) fn ask_again(asked: SignedDuration) -> SignedDuration {
    asked.clamp(PAUSES[2], LONGEST)
}

/// A moment after another, or the last that there is.
pub(super) fn after(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

trait Scaled {
    fn mul_f64_saturating(self, factor: f64) -> SignedDuration;
}

impl Scaled for SignedDuration {
    fn mul_f64_saturating(self, factor: f64) -> SignedDuration {
        Self::try_from_secs_f64(self.as_secs_f64() * factor).unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn renewal_is_at_two_thirds_of_the_lifetime_or_at_half_of_a_short_one() {
        for (not_before, not_after, renewal) in [
            ("2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z", "2026-03-02T00:00:00Z"),
            ("2027-03-01T00:00:00Z", "2027-04-15T00:00:00Z", "2027-03-31T00:00:00Z"),
            ("2026-01-01T00:00:00Z", "2026-01-07T00:00:00Z", "2026-01-04T00:00:00Z"),
        ] {
            let validity = Validity { not_before: at(not_before), not_after: at(not_after) };
            assert_eq!(validity.renewal(), at(renewal));
        }
        let validity = Validity {
            not_before: at("2026-01-01T00:00:00Z"),
            not_after: at("2026-01-07T00:00:00Z"),
        };
        assert!(!validity.is_in_last_third(at("2026-01-04T23:59:59Z")));
        assert!(validity.is_in_last_third(at("2026-01-05T00:00:00Z")));
    }

    #[test]
    fn moment_is_in_the_window() {
        let window = Window { start: at("2026-01-02T04:00:00Z"), end: at("2026-01-03T04:00:00Z") };
        assert_eq!(window.moment(0.0), window.start);
        assert_eq!(window.moment(0.5), at("2026-01-02T16:00:00Z"));
        assert_eq!(window.moment(1.0), window.end);
        let backwards = Window { start: window.end, end: window.start };
        assert_eq!(backwards.moment(0.7), backwards.start);
    }

    #[test]
    fn pauses_grow_and_the_authority_can_ask_for_others() {
        let minutes = |failures, fraction| pause(failures, None, fraction).as_mins();
        assert_eq!([1, 2, 3, 4, 5, 99].map(|n| minutes(n, 0.5)), [1, 10, 60, 360, 360, 360]);
        assert_eq!([minutes(2, 0.0), minutes(2, 1.0)], [8, 12]);
        for (asked, expected) in [(0, 60), (90, 90), (7200, 7200), (9_999_999, 86_400)] {
            let asked = SignedDuration::from_secs(asked);
            assert_eq!(pause(4, Some(asked), 0.5), SignedDuration::from_secs(expected));
        }
    }

    #[test]
    fn fifth_order_waits_until_the_first_is_an_hour_old() {
        let mut orders = Vec::new();
        for minute in [0, 1, 2, 3] {
            assert_eq!(next_order(&orders), None);
            let now = at(&format!("2026-01-01T00:0{minute}:00Z"));
            orders = with_order(&orders, now);
        }
        assert_eq!(next_order(&orders), Some(at("2026-01-01T01:00:00Z")));
        orders = with_order(&orders, at("2026-01-01T01:00:00Z"));
        assert_eq!(orders.len(), 4);
        assert_eq!(next_order(&orders), Some(at("2026-01-01T01:01:00Z")));
    }

    #[test]
    fn question_for_the_window_is_repeated_within_a_day() {
        for (asked, expected) in [(0, 1), (6, 6), (100, 24)] {
            let asked = SignedDuration::from_hours(asked);
            assert_eq!(ask_again(asked), SignedDuration::from_hours(expected));
        }
    }
}
