//! How long a deploy token lives, as an option says it.

use std::{str::FromStr, time::Duration};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::{
    config::parse_duration,
    gate::tokens::deploy::{DeployToken, Expiry},
};

const DAY: Duration = Duration::from_secs(86_400);

/// How long a token lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Without end. Only the word `never` means this.
    Endless,
    /// For this long.
    For(Duration),
    /// To the end of a day, or to a time.
    Until(Expiry),
}

impl Lifetime {
    /// The life of a token for which no other is asked.
    pub(super) const DEFAULT: Self = Self::For(Duration::from_secs(90 * 86_400));

    /// The life of a token from its making to its end, in whole days; the default where the line does
    /// not say when it was made.
    pub(super) fn of(token: &DeployToken) -> Self {
        let Some(end) = token.expires.instant() else { return Self::Endless };
        let made = token.created.and_then(|date| date.to_zoned(TimeZone::UTC).ok());
        let lived = made.map(|made| end.duration_since(made.timestamp()));
        match lived.map(|lived: SignedDuration| lived.as_secs() / 86_400) {
            // A date is the last day.
            Some(days @ 1..) if matches!(token.expires, Expiry::EndOf(_)) => {
                Self::days((days - 1).max(1))
            }
            Some(days @ 1..) => Self::days(days),
            _ => Self::DEFAULT,
        }
    }

    fn days(days: i64) -> Self {
        Self::For(DAY.saturating_mul(u32::try_from(days).unwrap_or(u32::MAX)))
    }

    /// The shorter of this and `most`, unless that is zero.
    pub(super) fn within(self, most: Duration) -> Self {
        match self {
            _ if most.is_zero() => self,
            Self::Endless => Self::For(most),
            Self::For(lifetime) => Self::For(lifetime.min(most)),
            Self::Until(_) => self,
        }
    }

    /// The expiry of a token that is made `now`.
    pub(super) fn from(self, now: Timestamp) -> Expiry {
        match self {
            Self::Endless => Expiry::Never,
            Self::For(lifetime) => Expiry::after(lifetime, now),
            Self::Until(expiry) => expiry,
        }
    }
}

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(Expiry::Never) => Ok(Self::Endless),
            Ok(expiry) => Ok(Self::Until(expiry)),
            Err(_) => duration(text).map(Self::For).map_err(|_| {
                "expected a time such as 90d or 36h, a date such as 2027-02-24, or `never`"
                    .to_owned()
            }),
        }
    }
}

/// Reads a number of days such as `7d`, or a duration as in Go.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u16>().ok());
    let duration = match days {
        Some(days) => Ok(DAY * u32::from(days)),
        None => parse_duration(text),
    };
    match duration {
        Ok(duration) if duration < Duration::from_secs(1) => {
            Err("it is less than a second".to_owned())
        }
        Ok(duration) => Ok(duration),
        Err(_) => Err("expected a time such as 7d or 24h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_hours_dates_and_never_are_lifetimes() {
        let hours = |hours: u64| Ok(Lifetime::For(Duration::from_secs(hours * 3600)));
        for (text, expected) in [
            ("90d", hours(90 * 24)),
            ("36h", hours(36)),
            ("1h30m", Ok(Lifetime::For(Duration::from_secs(5400)))),
            ("never", Ok(Lifetime::Endless)),
            ("2027-02-24", Ok(Lifetime::Until("2027-02-24".parse().unwrap()))),
        ] {
            assert_eq!(text.parse::<Lifetime>(), expected, "{text}");
        }
        for text in ["", "0", "0d", "-1d", "90", "d", "1.5d", "99999d", "Never", "forever", "1y"] {
            assert!(text.parse::<Lifetime>().is_err(), "{text}");
        }
    }

    #[test]
    fn rotated_token_lives_as_long_as_before() {
        let token = |fields: &str| -> DeployToken {
            let digest = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
            format!("ci sha256={digest} may=pull repositories=** {fields}").parse().unwrap()
        };
        let days = |days: u64| Lifetime::For(Duration::from_secs(days * 86_400));
        for (fields, expected) in [
            ("expires=never", Lifetime::Endless),
            ("expires=2027-02-24 created=2026-11-26", days(90)),
            ("expires=2026-11-27 created=2026-11-26", days(1)),
            ("expires=2026-11-26 created=2026-11-26", days(1)),
            ("expires=2026-11-28T12:00:00Z created=2026-11-26", days(2)),
            ("expires=2026-11-26T12:00:00Z created=2026-11-26", Lifetime::DEFAULT),
            ("expires=2027-02-24", Lifetime::DEFAULT),
        ] {
            assert_eq!(Lifetime::of(&token(fields)), expected, "{fields}");
        }
    }

    #[test]
    fn bound_shortens_what_was_not_asked_for() {
        let week = Duration::from_secs(7 * 86_400);
        assert_eq!(Lifetime::DEFAULT.within(week), Lifetime::For(week));
        assert_eq!(Lifetime::Endless.within(week), Lifetime::For(week));
        assert_eq!(Lifetime::For(DAY).within(week), Lifetime::For(DAY));
        assert_eq!(Lifetime::Endless.within(Duration::ZERO), Lifetime::Endless);
    }
}
