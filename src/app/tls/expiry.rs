//! When a certificate has to be renewed, and how: a warning before it expires.

use std::path::Path;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::server::certificates::Description;

/// The origin of the next certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) enum Renewal {
    /// From the program or the operator that writes the files.
    Files,
    /// From the local authority, whose key is here.
    Authority,
    /// From the local authority, whose key is kept elsewhere.
    KeyElsewhere,
}

impl Renewal {
    /// How long before the expiry a warning is due. Programs that renew files do so earlier: with a
    /// renewal every few days, before three quarters of the lifetime are over. The local authority
    /// renews within the last 30 days.
    fn warning(self, lifetime: SignedDuration) -> SignedDuration {
        match self {
            Self::Files => SignedDuration::from_hours(7 * 24).min(lifetime / 4),
            Self::Authority | Self::KeyElsewhere => SignedDuration::from_hours(30 * 24),
        }
    }
}

/// The warning about a certificate that has expired, expires soon or is not valid yet; `None` for
/// others.
pub(in crate::app) fn warning(
    leaf: &Description,
    now: Timestamp,
    renewal: Renewal,
    path: &Path,
) -> Option<String> {
    let file = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let file = file.display();
    let lifetime = leaf.not_before.duration_until(leaf.not_after);
    let left = now.duration_until(leaf.not_after);
    let what = if now < leaf.not_before {
        format!("is not valid before {}: is the clock right?", day(leaf.not_before))
    } else if left <= SignedDuration::ZERO {
        format!("has expired at {}, and clients refuse it", day(leaf.not_after))
    } else if left <= renewal.warning(lifetime) {
        format!("expires at {}", day(leaf.not_after))
    } else {
        return None;
    };
    let folder = path.parent().unwrap_or_else(|| Path::new(".")).display();
    let way_out = match renewal {
        Renewal::Files => "put a renewed one there, which is in force within seconds".to_owned(),
        Renewal::Authority => {
            format!(
                "`portcullis certs --out {folder}` makes another, which is in force within seconds"
            )
        }
        Renewal::KeyElsewhere => format!(
            "run `portcullis certs` where ca.key is kept, beside ca.crt and this one, and put \
             server.crt and server.key into {folder}, where they are in force within seconds"
        ),
    };
    Some(format!("the certificate in {file} {what}; {way_out}"))
}

fn day(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(not_before: &str, not_after: &str) -> Description {
        Description {
            subject: String::new(),
            issuer: String::new(),
            names: Vec::new(),
            not_before: not_before.parse().unwrap(),
            not_after: not_after.parse().unwrap(),
            fingerprint: String::new(),
        }
    }

    #[test]
    fn warning_of_the_end_comes_in_time_and_has_the_remedy() {
        let year = description("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        let week = description("2026-12-01T00:00:00Z", "2026-12-09T00:00:00Z");
        let path = Path::new("/certs/server.crt");
        for (leaf, now, renewal, expected) in [
            (&year, "2026-12-01T00:00:00Z", Renewal::Files, None),
            (
                &year,
                "2026-12-26T00:00:00Z",
                Renewal::Files,
                Some("expires at 2027-01-01 00:00 UTC; put"),
            ),
            (&year, "2026-12-01T00:00:00Z", Renewal::Authority, None),
            (
                &year,
                "2026-12-02T00:00:00Z",
                Renewal::Authority,
                Some("`portcullis certs --out /certs`"),
            ),
            (&year, "2026-12-02T00:00:00Z", Renewal::KeyElsewhere, Some("where ca.key is kept")),
            (
                &year,
                "2027-01-01T00:00:00Z",
                Renewal::Files,
                Some("has expired at 2027-01-01 00:00"),
            ),
            (&year, "2025-01-01T00:00:00Z", Renewal::Files, Some("is not valid before 2026-01-01")),
            (&week, "2026-12-06T00:00:00Z", Renewal::Files, None),
            (&week, "2026-12-07T12:00:00Z", Renewal::Files, Some("expires at 2026-12-09 00:00")),
        ] {
            let found = warning(leaf, now.parse().unwrap(), renewal, path);
            match (&found, expected) {
                (None, None) => {}
                (Some(found), Some(expected)) => {
                    assert!(found.contains(expected), "{now}: {found}");
                    assert!(found.starts_with("the certificate in /certs/server.crt "), "{found}");
                }
                _ => panic!("{now} {renewal:?}: {found:?}"),
            }
        }
    }
}
