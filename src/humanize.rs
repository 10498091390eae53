//! Ages in words.

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

#[cfg(test)]
mod tests {
    use super::*;

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
