//! When a deploy token expires.

use std::{fmt, str::FromStr, time::Duration};

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};

const DAY: Duration = Duration::from_secs(86_400);

/// When a deploy token expires. As text: `never`, a date, or a time as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It does not expire.
    Never,
    /// At the end of this day, UTC.
    EndOf(Date),
    /// At this time.
    At(Timestamp),
}

/// The text is no expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a date such as 2027-02-24, a time such as 2027-02-24T12:00:00Z, or `never`")]
pub struct InvalidExpiry;

impl Expiry {
    /// The expiry of a token that is made `now` and lives for `lifetime`: a date, at the end of which it
    /// expires, for whole days, and a time for others.
    #[must_use]
    pub fn after(lifetime: Duration, now: Timestamp) -> Self {
        let later = Self::after_exactly(lifetime, now);
        match later {
            Self::At(time)
                if lifetime >= DAY && lifetime.as_secs().is_multiple_of(DAY.as_secs()) =>
            {
                Self::EndOf(TimeZone::UTC.to_datetime(time).date())
            }
            _ => later,
        }
    }

    /// The expiry of a secret that is accepted for `lifetime` from `now` on, to the second.
    #[must_use]
    pub fn after_exactly(lifetime: Duration, now: Timestamp) -> Self {
        let later = SignedDuration::try_from(lifetime)
            .ok()
            .and_then(|lifetime| now.checked_add(lifetime).ok())
            .unwrap_or(Timestamp::MAX);
        Self::At(Timestamp::from_second(later.as_second()).unwrap_or(later))
    }

    /// From when on the token is refused; `None` if never.
    #[must_use]
    pub fn instant(&self) -> Option<Timestamp> {
        match self {
            Self::Never => None,
            Self::EndOf(date) => {
                let next = date.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?;
                Some(next.timestamp())
            }
            Self::At(time) => Some(*time),
        }
    }

    /// Whether a token with this expiry lives longer than `lifetime` from `since` on. A date may exceed
    /// it by the rest of its day.
    #[must_use]
    pub fn exceeds(&self, lifetime: Duration, since: Timestamp) -> bool {
        let Some(end) = self.instant() else { return true };
        let most = lifetime.saturating_add(match self {
            Self::EndOf(_) => DAY,
            Self::Never | Self::At(_) => Duration::ZERO,
        });
        Duration::try_from(end.duration_since(since)).is_ok_and(|lives| lives > most)
    }

    /// The earlier of two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        match (self.instant(), other.instant()) {
            (Some(own), Some(others)) if own <= others => self,
            (Some(_), None) => self,
            _ => other,
        }
    }
}

impl FromStr for Expiry {
    type Err = InvalidExpiry;

    fn from_str(text: &str) -> Result<Self, InvalidExpiry> {
        if text == "never" {
            return Ok(Self::Never);
        }
        // A time without a zone parses as a date, too.
        let expiry = match text.contains(['T', 't', ' ']) {
            true => text.parse().map(Self::At),
            false => text.parse().map(Self::EndOf),
        };
        let expiry = expiry.map_err(|_| InvalidExpiry)?;
        // One form for each expiry, so that files can be searched for it.
        if expiry.to_string() == text { Ok(expiry) } else { Err(InvalidExpiry) }
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::EndOf(date) => write!(f, "{date}"),
            Self::At(time) => write!(f, "{time}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn days_end_with_a_date_and_hours_at_a_time() {
        let now = time("2026-11-26T14:15:16.789Z");
        for (hours, expected, instant) in [
            (90 * 24, "2027-02-24", "2027-02-25T00:00:00Z"),
            (24, "2026-11-27", "2026-11-28T00:00:00Z"),
            (25, "2026-11-27T15:15:16Z", "2026-11-27T15:15:16Z"),
            (0, "2026-11-26T14:15:16Z", "2026-11-26T14:15:16Z"),
        ] {
            let expiry = Expiry::after(Duration::from_secs(hours * 3600), now);
            assert_eq!(expiry.to_string(), expected);
            assert_eq!(expiry.instant(), Some(time(instant)));
            assert_eq!(expected.parse::<Expiry>(), Ok(expiry));
        }
        let _ = Expiry::after(Duration::MAX, now).instant();
    }

    #[test]
    fn other_texts_are_no_expiry() {
        assert_eq!("never".parse(), Ok(Expiry::Never));
        for text in [
            "",
            "Never",
            "90d",
            "2027-2-24",
            "24.02.2027",
            "20270224",
            "2027-02-30",
            "2027-02-24T12:00",
            "2027-02-24T12:00:00",
            "2027-02-24 12:00:00Z",
            "2027-02-24T12:00:00+01:00",
            "2027-02-24T12:00:00Z ",
        ] {
            assert_eq!(text.parse::<Expiry>(), Err(InvalidExpiry), "{text}");
        }
        assert_eq!(
            "9999-12-31".parse::<Expiry>().unwrap().instant(),
            None,
            "the last day there is"
        );
    }

    #[test]
    fn lifetime_of_whole_days_does_not_exceed_itself() {
        let now = time("2026-11-26T14:15:16Z");
        let days = |number: u64| number * DAY.as_secs();
        for seconds in [days(1), days(90), 3600, days(1) + 1] {
            let lifetime = Duration::from_secs(seconds);
            let expiry = Expiry::after(lifetime, now);
            assert!(!expiry.exceeds(lifetime, now), "{expiry}");
            let shorter = Duration::from_secs(seconds.saturating_sub(days(1)));
            assert!(expiry.exceeds(shorter, now), "{expiry}");
        }
        assert!(Expiry::Never.exceeds(DAY, now));
    }

    #[test]
    fn earlier_of_two_is_the_one_that_ends_first() {
        let day: Expiry = "2027-02-24".parse().unwrap();
        let noon: Expiry = "2027-02-24T12:00:00Z".parse().unwrap();
        assert_eq!((day.min(noon), noon.min(day)), (noon, noon));
        assert_eq!((day.min(Expiry::Never), Expiry::Never.min(day)), (day, day));
        assert_eq!(Expiry::Never.min(Expiry::Never), Expiry::Never);
    }
}
