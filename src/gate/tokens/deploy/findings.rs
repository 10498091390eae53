//! Remarks about the lines of a token file that open less, or for longer, than their author may think.

use std::{fmt, time::Duration};

use jiff::{Timestamp, tz::TimeZone};

use super::{DeployTokens, Entry};

/// A remark about a line. Its `Display` is a sentence for the log, without the values of fields that
/// may be secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The line's number; the first is 1.
    pub line: usize,
    text: String,
}

impl DeployTokens {
    /// Remarks about the lines, in the order of the file: lines that cannot be used, tokens that have
    /// the name of a user or are bound to one that there is not, and tokens that live longer than
    /// `maxlifetime`, unless that is zero.
    #[must_use]
    pub fn findings(&self, is_user: impl Fn(&str) -> bool, maxlifetime: Duration) -> Vec<Finding> {
        let problems = self.problems().iter();
        let mut findings: Vec<_> = problems
            .map(|problem| Finding { line: problem.line, text: problem.to_string() })
            .collect();
        for Entry { line, token } in self.entries() {
            let name = &token.name;
            let mut tell = |text: String| {
                findings.push(Finding {
                    line: *line,
                    text: format!("line {line} (token {name}): {text}"),
                });
            };
            if is_user(name.as_str()) {
                tell(format!(
                    "{name} is a user, whose password counts: `portcullis token revoke {name}`, and \
                     choose another name"
                ));
            }
            if let Some(user) = token.user.as_ref().filter(|user| !is_user(user.as_str())) {
                tell(format!("there is no user {user}, so the token opens nothing"));
            }
            let created = token.created.and_then(|date| date.to_zoned(TimeZone::UTC).ok());
            let created = created.map_or(Timestamp::MAX, |created| created.timestamp());
            // The hour of its making is not in the line.
            let most = maxlifetime.saturating_add(Duration::from_secs(86_400));
            if !maxlifetime.is_zero() && token.expires.exceeds(most, created) {
                tell(format!(
                    "it lives longer than auth.htpasswd.tokens.maxlifetime: `portcullis token rotate \
                     {name}`"
                ));
            }
        }
        findings.sort_by_key(|finding| finding.line);
        findings
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_open_less_or_for_longer_are_told_with_their_numbers() {
        let line = |name: &str, rest: &str| {
            let digest = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
            format!("{name} sha256={digest} may=pull repositories=** {rest}\n")
        };
        let text = line("ann", "expires=2026-12-26 created=2026-11-26")
            + "ci\n"
            + &line("k8s", "expires=2026-12-27 created=2026-11-26 user=bob")
            + &line("old", "expires=2026-12-27")
            + &line("robot", "expires=never user=ann")
            + &line("long", "expires=2026-12-28 created=2026-11-26");
        let tokens = DeployTokens::parse(text.as_bytes());
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let findings = |most| -> Vec<String> {
            let findings = tokens.findings(|name| name == "ann", days(most));
            findings.iter().map(ToString::to_string).collect()
        };
        let always = findings(0);
        assert_eq!(always.len(), 3, "{always:#?}");
        assert!(always[0].starts_with("line 1 (token ann): ann is a user, "), "{always:#?}");
        assert!(always[1].starts_with("line 2 (token ci): sha256 is missing"), "{always:#?}");
        assert!(always[2].starts_with("line 3 (token k8s): there is no user bob"), "{always:#?}");
        let bounded = findings(30);
        assert_eq!(bounded.len(), 5, "{bounded:#?}");
        assert!(bounded[3].starts_with("line 5 (token robot): it lives longer"), "{bounded:#?}");
        assert!(bounded[4].starts_with("line 6 (token long): it lives longer"), "{bounded:#?}");
    }
}
