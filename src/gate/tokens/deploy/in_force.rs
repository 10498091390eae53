//! The deploy tokens in force: finds that of a request, and knows when each was last used.
//!
//! The time that a look takes depends neither on the secret nor on whether there is a token of that
//! name: an unknown name is compared with a digest that no secret has. A secret that is not found goes
//! on to bcrypt as any wrong password does.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{DeployTokens, Expiry, LastUses, SecretDigest};
use crate::gate::{Grant, Identity};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A token that was not used for this long is worth a line of the log when it is used again.
const LONG_UNUSED: i64 = 30 * DAY;

/// How long before its end a token is warned of, once a day.
const WARNED_BEFORE: i64 = 7 * DAY;

/// The tokens of the file that was read last.
#[derive(Debug)]
pub(in crate::gate) struct TokensInForce {
    by_name: HashMap<Arc<str>, Vec<Line>>,
    /// The names of the tokens with these secrets, for requests that have a secret only.
    names: HashMap<SecretDigest, Arc<str>>,
    /// What the digest of a secret under an unknown name is compared with.
    dummies: Vec<Line>,
}

/// A usable line of the file.
#[derive(Debug)]
pub(in crate::gate) struct Line {
    pub(in crate::gate) name: Arc<str>,
    pub(in crate::gate) grant: Arc<Grant>,
    pub(in crate::gate) expires: Expiry,
    digest: SecretDigest,
    /// The second of the expiry.
    end: i64,
    created: Option<Date>,
    state: Arc<State>,
}

/// What is remembered of a token across changes of the file, in seconds since 1970; zero: never.
#[derive(Debug, Default)]
struct State {
    last_used: AtomicI64,
    told_of_end: AtomicI64,
    told_of_expired: AtomicI64,
}

/// The result of a look for a token.
#[derive(Debug)]
pub(in crate::gate) enum Found<'a> {
    /// The line with this secret.
    Valid(&'a Line),
    /// The same, and the token has expired.
    Expired(&'a Line),
    /// There is no such line.
    Nothing,
}

impl TokensInForce {
    /// The tokens of a file. What `before` remembers of a token stays.
    pub(in crate::gate) fn new(tokens: &DeployTokens, before: Option<&Self>) -> Self {
        let mut by_name: HashMap<Arc<str>, Vec<Line>> = HashMap::new();
        let mut names = HashMap::new();
        for entry in tokens.entries() {
            let token = &entry.token;
            let known = before.and_then(|before| before.by_name.get(token.name.as_str()));
            let known = known.or_else(|| by_name.get(token.name.as_str())).and_then(|l| l.first());
            let (name, state) = match known {
                Some(line) => (Arc::clone(&line.name), Arc::clone(&line.state)),
                None => (Arc::from(token.name.as_str()), Arc::default()),
            };
            names.insert(token.digest, Arc::clone(&name));
            by_name.entry(Arc::clone(&name)).or_default().push(Line {
                name,
                grant: Arc::new(token.grant()),
                expires: token.expires,
                digest: token.digest,
                end: token.expires.instant().map_or(i64::MAX, Timestamp::as_second),
                created: token.created,
                state,
            });
        }
        Self { by_name, names, dummies: vec![Line::dummy()] }
    }

    /// Looks for a token. An empty name stands for that of the token with this secret.
    pub(in crate::gate) fn find(&self, name: &str, secret: &SecretDigest, now: i64) -> Found<'_> {
        let name = match name {
            "" => self.names.get(secret).map_or("", |name| &**name),
            name => name,
        };
        self.find_line(name, now, |line| line.digest.is(secret))
    }

    /// Looks among the lines of a token for the one that `is_it`.
    pub(in crate::gate) fn find_line(
        &self,
        name: &str,
        now: i64,
        is_it: impl Fn(&Line) -> bool,
    ) -> Found<'_> {
        let mut found = Found::Nothing;
        for line in self.by_name.get(name).unwrap_or(&self.dummies) {
            if is_it(line) {
                found =
                    if now < line.end { return Found::Valid(line) } else { Found::Expired(line) };
            }
        }
        found
    }

    /// Whether there is a token of this name.
    pub(in crate::gate) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The names that are in these tokens and not in the others, sorted.
    pub(in crate::gate) fn without(&self, others: &Self) -> Vec<Arc<str>> {
        let mut names: Vec<_> =
            self.by_name.keys().filter(|name| !others.contains(name)).cloned().collect();
        names.sort_unstable();
        names
    }

    /// When each token was last used, as far as known.
    pub(in crate::gate) fn last_uses(&self) -> LastUses {
        let uses = self.by_name.iter().filter_map(|(name, lines)| {
            let second = lines.first()?.state.last_used.load(Ordering::Relaxed);
            let time = Timestamp::from_second(second).ok().filter(|_| second > 0)?;
            Some((name.as_ref().to_owned(), time))
        });
        uses.collect()
    }

    /// Remembers uses of an earlier process.
    pub(in crate::gate) fn remember(&self, uses: &LastUses) {
        for (name, time) in uses {
            if let Some(line) = self.by_name.get(&**name).and_then(|lines| lines.first()) {
                line.state.last_used.fetch_max(time.as_second(), Ordering::Relaxed);
            }
        }
    }

    /// The seconds until the next expiry of a token that has not expired; `None` where none will.
    pub(in crate::gate) fn next_expiry(&self, now: i64) -> Option<i64> {
        self.latest()
            .map(|line| line.end)
            .filter(|end| (now..i64::MAX).contains(end))
            .min()
            .map(|end| end - now)
    }

    /// Logs which tokens are about to expire, each once a day.
    pub(in crate::gate) fn warn_of_expiry(&self, now: i64) {
        for line in self.latest() {
            let is_near = now < line.end && line.end.saturating_sub(now) <= WARNED_BEFORE;
            if is_near && is_due(&line.state.told_of_end, now, DAY) {
                let (name, expires) = (&line.name, line.expires);
                tracing::warn!(
                    token = %name,
                    "deploy token {name} expires on {expires}: `portcullis token rotate {name}` gives it \
                     another secret"
                );
            }
        }
    }

    /// Of each token the line that expires last: after a rotation the other one is meant to expire.
    fn latest(&self) -> impl Iterator<Item = &Line> {
        self.by_name.values().filter_map(|lines| lines.iter().max_by_key(|line| line.end))
    }
}

impl Line {
    fn dummy() -> Self {
        let mut bytes = [0; 32];
        // Without randomness it is the digest of no known text all the same.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        Self {
            name: Arc::from(""),
            grant: Arc::new(Grant { may: vec![], repositories: vec![], user: None }),
            expires: Expiry::Never,
            digest: SecretDigest::from(bytes),
            end: i64::MIN,
            created: None,
            state: Arc::default(),
        }
    }

    pub(in crate::gate) fn identity(&self) -> Identity {
        Identity::Token(Arc::clone(&self.name))
    }

    /// What a session token's fingerprint is made of: the name and the digest of the secret.
    pub(in crate::gate) fn parts(&self) -> [&[u8]; 2] {
        [self.name.as_bytes(), self.digest.as_bytes()]
    }

    /// Records a use. Logs it if the token was not used for a month.
    pub(in crate::gate) fn note_use(&self, now: i64) {
        let last_used = &self.state.last_used;
        // Mostly another request has noted the same second.
        if last_used.load(Ordering::Relaxed) >= now {
            return;
        }
        let created = self.created.and_then(|date| date.to_zoned(TimeZone::UTC).ok());
        let created = created.map_or(i64::MAX, |made| made.timestamp().as_second());
        let before = match last_used.fetch_max(now, Ordering::Relaxed) {
            0 => created,
            before => before,
        };
        if now.saturating_sub(before) > LONG_UNUSED {
            let days = (now - before) / DAY;
            tracing::info!(token = %self.name, "deploy token is used for the first time in {days} days");
        }
    }

    /// Whether a use of the token after its end is to be logged: once an hour.
    pub(in crate::gate) fn tells_of_expired(&self, now: i64) -> bool {
        is_due(&self.state.told_of_expired, now, HOUR)
    }
}

/// Whether `period` has passed since `last`, which then is `now`.
fn is_due(last: &AtomicI64, now: i64, period: i64) -> bool {
    let before = last.load(Ordering::Relaxed);
    now.saturating_sub(before) >= period
        && last.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{super::Secret, *};

    fn line(name: &str, secret: &Secret, expires: &str) -> String {
        format!("{name} sha256={} may=pull repositories=** expires={expires}\n", secret.digest())
    }

    fn in_force(text: &str, before: Option<&TokensInForce>) -> TokensInForce {
        TokensInForce::new(&DeployTokens::parse(text.as_bytes()), before)
    }

    fn second(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn found(tokens: &TokensInForce, name: &str, secret: &Secret, now: i64) -> &'static str {
        match tokens.find(name, &secret.digest(), now) {
            Found::Valid(_) => "valid",
            Found::Expired(_) => "expired",
            Found::Nothing => "nothing",
        }
    }

    #[test]
    fn token_is_found_by_its_name_or_by_its_secret_alone() {
        let secrets: [Secret; 3] = std::array::from_fn(|_| Secret::generate().unwrap());
        let [ci, k8s, unknown] = &secrets;
        let tokens = in_force(&(line("ci", ci, "never") + &line("k8s", k8s, "2026-11-27")), None);
        let now = second("2026-11-27T23:59:59Z");
        for (name, secret, expected) in [
            ("ci", ci, "valid"),
            ("", ci, "valid"),
            ("k8s", k8s, "valid"),
            ("", k8s, "valid"),
            ("ci", k8s, "nothing"),
            ("ci", unknown, "nothing"),
            ("", unknown, "nothing"),
            ("nobody", ci, "nothing"),
            ("CI", ci, "nothing"),
        ] {
            assert_eq!(found(&tokens, name, secret, now), expected, "{name}");
        }
        assert_eq!(found(&tokens, "k8s", k8s, now + 1), "expired");
        assert_eq!(found(&tokens, "k8s", ci, now + 1), "nothing");
        let empty = in_force("", None);
        assert_eq!(found(&empty, "", ci, now), "nothing");
    }

    #[test]
    fn each_line_of_a_rotated_token_has_its_own_end() {
        let (old, new) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        let text = line("ci", &old, "2026-11-27T12:00:00Z") + &line("ci", &new, "2027-02-24");
        let tokens = in_force(&text, None);
        let noon = second("2026-11-27T12:00:00Z");
        assert_eq!(found(&tokens, "ci", &old, noon - 1), "valid");
        assert_eq!(found(&tokens, "ci", &old, noon), "expired");
        assert_eq!(found(&tokens, "ci", &new, noon), "valid");
        assert_eq!(tokens.next_expiry(noon), Some(second("2027-02-25T00:00:00Z") - noon));
        assert_eq!(in_force("", None).next_expiry(noon), None);
        assert_eq!(in_force(&line("ci", &old, "never"), None).next_expiry(noon), None);
        assert_eq!(in_force(&line("ci", &old, "2026-01-01"), None).next_expiry(noon), None);
    }

    #[test]
    fn last_use_outlives_another_file_and_a_restart() {
        let secret = Secret::generate().unwrap();
        let tokens = in_force(&line("ci", &secret, "never"), None);
        assert_eq!(tokens.last_uses(), LastUses::new());
        let Found::Valid(found) = tokens.find("ci", &secret.digest(), 0) else { panic!() };
        found.note_use(1000);
        found.note_use(999);
        let changed = in_force(
            &(line("ci", &secret, "2027-01-01") + &line("b", &secret, "never")),
            Some(&tokens),
        );
        let uses = changed.last_uses();
        assert_eq!(
            uses,
            LastUses::from([("ci".to_owned(), Timestamp::from_second(1000).unwrap())])
        );
        let restarted = in_force(&line("ci", &secret, "never"), None);
        restarted.remember(&uses);
        restarted.remember(&LastUses::from([
            ("ci".to_owned(), Timestamp::UNIX_EPOCH),
            ("x".to_owned(), Timestamp::MAX),
        ]));
        assert_eq!(restarted.last_uses(), uses);
        assert_eq!(changed.without(&restarted), [Arc::from("b")]);
    }

    #[test]
    fn what_is_told_is_told_once_in_a_period() {
        let last = AtomicI64::new(0);
        let now = 100 * DAY;
        let due: Vec<_> = [0, 1, HOUR - 1, HOUR, HOUR + 1, 3 * HOUR]
            .into_iter()
            .filter(|later| is_due(&last, now + later, HOUR))
            .collect();
        assert_eq!(due, [0, HOUR, 3 * HOUR]);
    }
}
