//! Durations as Go writes them, because registry:2's configuration does.

use std::time::Duration;

/// Reads `1h30m`, `1.5h`, `300ms`, `0`: numbers with a unit each, added up (Go's
/// `time.ParseDuration`).
///
/// # Errors
///
/// When the text is malformed. The message is the end of a sentence.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    if text.starts_with('-') {
        return Err("a duration cannot be negative");
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err("it is empty");
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = split(after, |c: char| !c.is_ascii_digit() && c != '.');
        total = total.checked_add(nanoseconds(number, unit)?).ok_or(TOO_LONG)?;
        rest = after;
    }
    from_nanoseconds(total)
}

/// A bare number counts nanoseconds, as in Go.
pub(super) fn from_nanoseconds(nanoseconds: u128) -> Result<Duration, &'static str> {
    // Go's durations end here, at 292 years. So do ours: nothing after this has to think about
    // sums that overflow.
    match i64::try_from(nanoseconds) {
        Ok(nanoseconds) => Ok(Duration::from_nanos(nanoseconds.unsigned_abs())),
        Err(_) => Err(TOO_LONG),
    }
}

const TOO_LONG: &str = "it is longer than 292 years";

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

fn nanoseconds(number: &str, unit: &str) -> Result<u128, &'static str> {
    let scale: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        "" => return Err("a unit is missing (ns, us, ms, s, m or h)"),
        _ => return Err("units are ns, us, ms, s, m and h"),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err("a number is missing or has two points");
    }
    let mut sum = if whole.is_empty() {
        0
    } else {
        let whole: u64 = whole.parse().map_err(|_| TOO_LONG)?;
        u128::from(whole) * scale
    };
    let mut place = scale;
    for digit in fraction.bytes() {
        place /= 10;
        sum += u128::from(digit - b'0') * place;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, expected) in [
            ("5m", Duration::from_secs(300)),
            ("1h30m", Duration::from_secs(5400)),
            ("1.5h", Duration::from_secs(5400)),
            (".5s", Duration::from_millis(500)),
            ("1.s", Duration::from_secs(1)),
            ("300ms", Duration::from_millis(300)),
            ("2us", Duration::from_micros(2)),
            ("2µs", Duration::from_micros(2)),
            ("2μs", Duration::from_micros(2)),
            ("1h2m3s4ms5us6ns", Duration::new(3723, 4_005_006)),
            ("0.000000001s", Duration::from_nanos(1)),
            ("168h", Duration::from_secs(604_800)),
            ("+1s", Duration::from_secs(1)),
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "+",
            "5",
            "1d",
            "5 m",
            "m",
            ".s",
            ".",
            "1.2.3s",
            "-5m",
            "1h30",
            "٣s",
            "9e9s",
            "3000000h",
            "99999999999999999999999999s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn duration_beyond_int64_nanoseconds_is_refused() {
        assert!(from_nanoseconds(i64::MAX.unsigned_abs().into()).is_ok());
        assert!(from_nanoseconds(1 << 63).is_err());
    }
}
