//! Numbers of bytes as the configuration has them: `20GiB`, `500MB`.

use std::fmt;

use serde::Deserialize;

/// A number of bytes, more than zero.
///
/// Written with a unit: `KiB`, `MiB`, `GiB` and `TiB` are powers of 1024, `kB`, `MB`, `GB` and `TB` powers
/// of 1000. A number without a unit counts bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ByteSize(u64);

/// The text is no number of bytes. The message is the end of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidByteSize {
    /// Zero.
    #[error("it must be more than zero; leave the key out for no limit")]
    Zero,
    /// A unit that some programs take for a power of 1000 and others for one of 1024.
    #[error("the unit `{0}` stands for a power of 1000 or of 1024: write `{0}B` or `{0}iB`")]
    Ambiguous(char),
    /// Anything else.
    #[error("it is no number of bytes such as `500MB` or `20GiB`")]
    Malformed,
    /// More bytes than a disk has.
    #[error("it is more than 16 EiB")]
    TooLarge,
}

/// The units of one base, the largest first.
type Units = [(&'static str, u64); 4];

const BINARY: Units = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
const BYTES: Units = [("B", 1); 4];
const DECIMAL: Units =
    [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];

impl ByteSize {
    /// The number of bytes; `None` for zero.
    #[must_use]
    pub const fn new(bytes: u64) -> Option<Self> {
        match bytes {
            0 => None,
            bytes => Some(Self(bytes)),
        }
    }

    /// Reads a number with a unit.
    ///
    /// # Errors
    ///
    /// When the text is malformed, and for zero.
    pub fn parse(text: &str) -> Result<Self, InvalidByteSize> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = unit.trim_start();
        let scale = match unit {
            "" | "B" => 1,
            "k" | "K" | "M" | "G" | "T" => {
                let letter = unit.chars().next().unwrap_or_default();
                return Err(InvalidByteSize::Ambiguous(letter));
            }
            _ => {
                let units = BINARY.into_iter().chain(DECIMAL);
                let mut scales = units.filter(|(name, _)| name.eq_ignore_ascii_case(unit));
                scales.next().ok_or(InvalidByteSize::Malformed)?.1
            }
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |digits: &str| {
            let fits = (1..=19).contains(&digits.len());
            digits.parse::<u64>().ok().filter(|_| fits).ok_or(InvalidByteSize::Malformed)
        };
        let (whole, tenths) = (digits(whole)?, digits(fraction)?);
        let places = u32::try_from(fraction.len()).unwrap_or(u32::MAX);
        let part = u128::from(tenths) * u128::from(scale) / 10_u128.pow(places);
        let bytes = u128::from(whole) * u128::from(scale) + part;
        let bytes = u64::try_from(bytes).map_err(|_| InvalidByteSize::TooLarge)?;
        Self::new(bytes).ok_or(InvalidByteSize::Zero)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Displays another number of bytes in the units that this one is displayed in, so that a message can
    /// compare the two.
    #[must_use]
    pub fn beside(self, bytes: u64) -> impl fmt::Display {
        // Two numbers that look the same cannot be compared.
        let looks_equal = bytes != self.0
            && Displayed { bytes, units: self.units() }.to_string() == self.to_string();
        let units = if looks_equal { BYTES } else { self.units() };
        Displayed { bytes, units }
    }

    /// Powers of 1000 where these give a shorter number.
    fn units(self) -> Units {
        let is_whole = |units: Units| {
            let fitting = units.into_iter().find(|(_, scale)| self.0 >= *scale);
            fitting.is_some_and(|(_, scale)| self.0.is_multiple_of(scale))
        };
        if is_whole(DECIMAL) && !is_whole(BINARY) { DECIMAL } else { BINARY }
    }
}

impl TryFrom<String> for ByteSize {
    type Error = InvalidByteSize;

    fn try_from(written: String) -> Result<Self, InvalidByteSize> {
        Self::parse(&written)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Displayed { bytes: self.0, units: self.units() }.fmt(f)
    }
}

/// A number of bytes in the largest unit of which it has at least one, with one decimal place where it is
/// no whole number.
struct Displayed {
    bytes: u64,
    units: Units,
}

impl fmt::Display for Displayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, units } = *self;
        let Some((unit, scale)) = units.into_iter().find(|(_, scale)| bytes >= *scale) else {
            return write!(f, "{bytes} B");
        };
        let tenths = u128::from(bytes) * 10 / u128::from(scale);
        match (tenths / 10, tenths % 10) {
            (whole, 0) => write!(f, "{whole} {unit}"),
            (whole, tenths) => write!(f, "{whole}.{tenths} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("1", 1),
            ("512B", 512),
            ("20GiB", 20 << 30),
            ("20 GiB", 20 << 30),
            ("1.5KiB", 1536),
            ("0.1MB", 100_000),
            ("500mb", 500_000_000),
            ("3TB", 3_000_000_000_000),
        ] {
            assert_eq!(ByteSize::parse(text).map(ByteSize::get), Ok(bytes), "{text}");
        }
        for (text, error) in [
            ("0", InvalidByteSize::Zero),
            ("0GiB", InvalidByteSize::Zero),
            ("20G", InvalidByteSize::Ambiguous('G')),
            ("", InvalidByteSize::Malformed),
            ("GiB", InvalidByteSize::Malformed),
            ("-1GiB", InvalidByteSize::Malformed),
            ("1.GiB", InvalidByteSize::Malformed),
            ("1.2.3GiB", InvalidByteSize::Malformed),
            ("1GiB/s", InvalidByteSize::Malformed),
            ("99999999999TiB", InvalidByteSize::TooLarge),
        ] {
            assert_eq!(ByteSize::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn sizes_are_displayed_in_the_units_in_which_they_are_round() {
        for (text, shown) in [
            ("20GiB", "20 GiB"),
            ("1.5GiB", "1.5 GiB"),
            ("20GB", "20 GB"),
            ("1000", "1 kB"),
            ("1024", "1 KiB"),
            ("999", "999 B"),
        ] {
            assert_eq!(ByteSize::parse(text).unwrap().to_string(), shown, "{text}");
        }
        let quota = ByteSize::parse("50GiB").unwrap();
        assert_eq!(quota.beside(53_365_000_000).to_string(), "49.7 GiB");
        assert_eq!(quota.beside(0).to_string(), "0 B");
        assert_eq!(quota.beside(50 << 30).to_string(), "50 GiB");
        assert_eq!(quota.beside((50 << 30) + 1).to_string(), "53687091201 B");
        let quota = ByteSize::parse("50GB").unwrap();
        assert_eq!(quota.beside(1_234_567).to_string(), "1.2 MB");
    }
}
