//! Rates, as the configuration writes them.

use std::{fmt, num::NonZeroU64};

use serde::Deserialize;

use crate::byte_size::{ByteSize, InvalidByteSize};

const SECOND: u64 = 1_000_000_000;

/// A rate of requests, such as `100/s`, `6000/m` or `1000/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate {
    amount: NonZeroU64,
    per: Per,
}

/// A rate of bytes, such as `50MiB/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ByteRate(Rate);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Per {
    Second,
    Minute,
    Hour,
}

/// A text that is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRate {
    /// Not a rate of requests.
    #[error("expected requests in a time, such as `100/s`, `6000/m` or `1000/h`, not {0:?}")]
    Requests(String),
    /// Not a rate of bytes.
    #[error("expected bytes in a time, such as `50MiB/s` or `500kB/s`, not {0:?}")]
    Bytes(String),
    /// A time with a malformed number of bytes.
    #[error("{text:?}: {error}")]
    Size {
        /// What was written.
        text: String,
        /// The reason.
        error: InvalidByteSize,
    },
    /// A rate of zero.
    #[error("{0:?} lets nothing pass: leave the key out for no limit")]
    Zero(String),
    /// A rate at which no image can be moved.
    #[error("{0:?} is less than 1KiB/s, at which no image arrives; leave the key out for no limit")]
    Slow(String),
}

impl Per {
    /// The time, and the number before it.
    fn split(text: &str) -> Option<(&str, Self)> {
        let (number, time) = text.split_once('/')?;
        let per = match time {
            "s" => Self::Second,
            "m" => Self::Minute,
            "h" => Self::Hour,
            _ => return None,
        };
        Some((number, per))
    }

    const fn nanoseconds(self) -> u64 {
        match self {
            Self::Second => SECOND,
            Self::Minute => 60 * SECOND,
            Self::Hour => 3600 * SECOND,
        }
    }
}

impl Rate {
    /// How many nanoseconds `units` take at this rate.
    pub(super) fn time(self, units: u64) -> u64 {
        let time = u128::from(units) * u128::from(self.per.nanoseconds());
        u64::try_from(time / u128::from(self.amount.get())).unwrap_or(u64::MAX)
    }

    /// The units of one second, at least one.
    pub(super) fn of_a_second(self) -> u32 {
        let units = self.amount.get() / (self.per.nanoseconds() / SECOND);
        u32::try_from(units).unwrap_or(u32::MAX).max(1)
    }
}

impl TryFrom<String> for Rate {
    type Error = InvalidRate;

    fn try_from(text: String) -> Result<Self, InvalidRate> {
        let Some((number, per)) = Per::split(&text) else {
            return Err(InvalidRate::Requests(text));
        };
        match digits(number).map(NonZeroU64::new) {
            Some(Some(amount)) => Ok(Self { amount, per }),
            Some(None) => Err(InvalidRate::Zero(text)),
            None => Err(InvalidRate::Requests(text)),
        }
    }
}

impl TryFrom<String> for ByteRate {
    type Error = InvalidRate;

    fn try_from(text: String) -> Result<Self, InvalidRate> {
        let Some((size, per)) = Per::split(&text) else { return Err(InvalidRate::Bytes(text)) };
        let amount = match ByteSize::parse(size).map(|size| NonZeroU64::new(size.get())) {
            Ok(Some(amount)) => amount,
            Ok(None) => return Err(InvalidRate::Zero(text)),
            Err(error) => return Err(InvalidRate::Size { text, error }),
        };
        let rate = Rate { amount, per };
        if rate.time(1024) > SECOND {
            return Err(InvalidRate::Slow(text));
        }
        Ok(Self(rate))
    }
}

impl From<ByteRate> for Rate {
    fn from(ByteRate(rate): ByteRate) -> Self {
        rate
    }
}

/// As a sentence says it: `100 requests a second`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.amount.get() == 1 { "request" } else { "requests" };
        let time = match self.per {
            Per::Second => "a second",
            Per::Minute => "a minute",
            Per::Hour => "an hour",
        };
        write!(f, "{} {noun} {time}", self.amount)
    }
}

/// A whole number in digits alone: `parse` would take a sign as well.
fn digits(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Result<Rate, InvalidRate> {
        Rate::try_from(text.to_owned())
    }

    fn byte_rate(text: &str) -> Result<ByteRate, InvalidRate> {
        ByteRate::try_from(text.to_owned())
    }

    #[test]
    fn rate_is_a_number_in_a_time() {
        for (text, units, time, said) in [
            ("100/s", 100, SECOND, "100 requests a second"),
            ("6000/m", 100, SECOND, "6000 requests a minute"),
            ("1/h", 1, 3600 * SECOND, "1 request an hour"),
        ] {
            let rate = rate(text).unwrap();
            assert_eq!((rate.time(units), &*rate.to_string()), (time, said), "{text}");
        }
        assert_eq!(rate("6000/m").unwrap().of_a_second(), 100);
        assert_eq!(rate("1/h").unwrap().of_a_second(), 1);
        for text in ["", "100", "100/", "/s", "-1/s", "+1/s", "1.5/s", "100/d", "100 /s", "1MiB/s"]
        {
            assert_eq!(rate(text), Err(InvalidRate::Requests(text.to_owned())));
        }
        assert_eq!(rate("0/s"), Err(InvalidRate::Zero("0/s".to_owned())));
    }

    #[test]
    fn byte_rate_has_a_unit() {
        for (text, bytes) in [
            ("50MiB/s", 50 << 20),
            ("500kB/s", 500_000),
            ("2GiB/s", 2 << 30),
            ("3072B/s", 3072),
            ("60MB/m", 1_000_000),
        ] {
            assert_eq!(Rate::from(byte_rate(text).unwrap()).time(bytes), SECOND, "{text}");
        }
        for text in ["", "50MiB", "50MiB/", "50MiB/d"] {
            assert_eq!(byte_rate(text), Err(InvalidRate::Bytes(text.to_owned())));
        }
        for text in ["MiB/s", "50M/s", "0MiB/s", "-5MiB/s", "99999999999999999GiB/s"] {
            assert!(matches!(byte_rate(text), Err(InvalidRate::Size { .. })), "{text}");
        }
        assert_eq!(byte_rate("1MiB/h"), Err(InvalidRate::Slow("1MiB/h".to_owned())));
    }
}
