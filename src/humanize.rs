//! Ages, durations and sizes in words.

use std::{fmt, time::Duration};

/// Displays an age in whole days, hours or minutes: the largest unit of which it has at least two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ago(pub(crate) Duration);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.0.as_secs() / 60;
        let (number, unit) = match minutes {
            0..120 => (minutes, "minute"),
            120..2880 => (minutes / 60, "hour"),
            _ => (minutes / 1440, "day"),
        };
        match number {
            0 => f.write_str("just now"),
            1 => write!(f, "1 {unit} ago"),
            _ => write!(f, "{number} {unit}s ago"),
        }
    }
}

/// Displays a duration in the largest unit of which it is a whole number: `30 days`, `90 minutes`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
        let whole =
            units.into_iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
        let (unit, name) = whole.unwrap_or((1, "second"));
        match seconds / unit {
            1 => write!(f, "1 {name}"),
            number => write!(f, "{number} {name}s"),
        }
    }
}

/// Displays a number of bytes in powers of 1000, as docker shows sizes: `999 B`, `1.2 GB`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
        let powers = std::iter::successors(Some(1000_u64), |power| power.checked_mul(1000));
        let text =
            match units.into_iter().zip(powers).take_while(|(_, power)| bytes >= *power).last() {
                None => format!("{bytes} B"),
                Some((unit, power)) => match bytes / (power / 10) {
                    tenths @ ..100 => format!("{}.{} {unit}", tenths / 10, tenths % 10),
                    tenths => format!("{} {unit}", tenths / 10),
                },
            };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_powers_of_1000() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9_990, "9.9 kB"),
            (10_000, "10 kB"),
            (999_999, "999 kB"),
            (1_200_000_000, "1.2 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
        assert_eq!(format!("{:>8}|", Size(1000)), "  1.0 kB|");
    }

    #[test]
    fn spans_are_readable() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (90, "90 seconds"),
            (5400, "90 minutes"),
            (7200, "2 hours"),
            (86_400, "1 day"),
            (2_592_000, "30 days"),
        ] {
            assert_eq!(Span(Duration::from_secs(seconds)).to_string(), text);
        }
    }

    #[test]
    fn times_are_readable() {
        for (seconds, text) in [
            (59, "just now"),
            (60, "1 minute ago"),
            (7199, "119 minutes ago"),
            (7200, "2 hours ago"),
            (172_799, "47 hours ago"),
            (172_800, "2 days ago"),
        ] {
            assert_eq!(Ago(Duration::from_secs(seconds)).to_string(), text);
        }
    }
}
