//! The log of refused logins: a line for each, with the address and the user, for people and for
//! programs that read it to keep the address out (fail2ban).
//!
//! Whoever guesses can be refused thousands of times a second, and must not fill the log by it. So
//! an address (of IPv6: a /64) gets a few lines a minute, which is more than such programs need, and all addresses
//! together get some hundreds; how many more there were is said once the minute is over.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::Refusal;
use crate::network::Network;

/// How long lines are counted before the count begins anew.
const PERIOD: Duration = Duration::from_secs(60);

/// So many lines an address gets in that time, or a /64 of IPv6.
const LINES_OF_NETWORK: u32 = 10;

/// So many lines all addresses get, and so many addresses are counted.
const LINES: u32 = 600;

/// So many bytes of a user's name are written. Names of the password file are shorter.
const NAME: usize = 64;

/// What was written of refused logins lately.
#[derive(Debug, Default)]
pub(super) struct RefusedLogins {
    period: Mutex<Option<Period>>,
}

/// The time in which lines are counted.
#[derive(Debug)]
struct Period {
    since: Instant,
    lines: u32,
    of_network: HashMap<Network, u32>,
    not_written: u64,
}

impl Period {
    fn new(since: Instant) -> Self {
        Self { since, lines: 0, of_network: HashMap::new(), not_written: 0 }
    }

    /// Whether there is a line for an address; it is taken.
    fn take_line(&mut self, address: IpAddr) -> bool {
        if self.lines < LINES {
            let lines = self.of_network.entry(Network::of(address)).or_default();
            if *lines < LINES_OF_NETWORK {
                *lines += 1;
                self.lines += 1;
                return true;
            }
        }
        self.not_written += 1;
        false
    }

    /// Says how many logins have no line.
    fn close(self) {
        if self.not_written > 0 {
            let (logins, addresses) = (self.not_written, self.of_network.len());
            tracing::warn!(logins, addresses, "more logins refused");
        }
    }
}

impl RefusedLogins {
    /// Notes that somebody who named themselves was not let in.
    pub(super) fn note(&self, address: IpAddr, user: &[u8], refusal: Refusal) {
        self.note_at(Instant::now(), address, user, refusal);
    }

    fn note_at(&self, now: Instant, address: IpAddr, user: &[u8], refusal: Refusal) {
        let reason = match refusal {
            Refusal::Unauthenticated => "wrong user or password",
            Refusal::Throttled { .. } => "too many wrong passwords",
            // Nobody has looked at the password.
            Refusal::Busy { .. } => return,
        };
        let address = address.to_canonical();
        let mut period = self.period();
        let ended = period.take_if(|period| now.duration_since(period.since) >= PERIOD);
        let has_line = period.get_or_insert_with(|| Period::new(now)).take_line(address);
        drop(period);
        if let Some(ended) = ended {
            ended.close();
        }
        if has_line {
            let user = clipped(user);
            // Programs know this line by its beginning, in which nothing is the client's to choose.
            tracing::warn!(%address, user, reason, "login refused");
        }
    }

    /// Ends the minute, if it is over, and says what was not written in it.
    pub(super) fn sum_up(&self) {
        let now = Instant::now();
        let ended = self.period().take_if(|period| now.duration_since(period.since) >= PERIOD);
        if let Some(ended) = ended {
            ended.close();
        }
    }

    fn period(&self) -> MutexGuard<'_, Option<Period>> {
        self.period.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RefusedLogins {
    fn drop(&mut self) {
        if let Some(period) = self.period().take() {
            period.close();
        }
    }
}

/// A name, or the beginning of one that is too long and how many bytes it has. What is no text stands
/// as U+FFFD.
fn clipped(user: &[u8]) -> String {
    // One character more than there is room for.
    let text = String::from_utf8_lossy(&user[..user.len().min(NAME + 4)]);
    if text.len() <= NAME {
        return text.into_owned();
    }
    let end = (0..=NAME).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}...[{}]", &text[..end], user.len())
}

#[cfg(test)]
mod tests {
    use std::{fmt, sync::Arc};

    use tracing::{
        Event, Subscriber,
        field::{Field, Visit},
    };
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    use super::*;

    /// Keeps what is logged, as `name=value` in the order of the fields.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0.push_str(&format!("{field}={value:?} "));
        }
    }

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut line = Line(event.metadata().level().to_string().to_lowercase() + " ");
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0.trim_end().to_owned());
        }
    }

    fn logged(log: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::registry().with(kept.clone());
        tracing::subscriber::with_default(subscriber, log);
        let lines = kept.0.lock().unwrap();
        lines.clone()
    }

    fn address(nth: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0xc000_0200 + nth).into()
    }

    #[test]
    fn a_refused_login_is_a_line_with_address_and_user() {
        let refused = RefusedLogins::default();
        let lines = logged(|| {
            let mapped = "::ffff:192.0.2.7".parse().unwrap();
            refused.note(mapped, b"ann", Refusal::Unauthenticated);
            let retry_after = PERIOD;
            refused.note(
                "2001:db8::1".parse().unwrap(),
                b"b \xff",
                Refusal::Throttled { retry_after },
            );
            refused.note(address(1), b"ann", Refusal::Busy { retry_after });
            refused.note(address(1), "\u{e4}".repeat(50).as_bytes(), Refusal::Unauthenticated);
        });
        let long = "\u{e4}".repeat(32);
        assert_eq!(
            lines,
            [
                "warn message=login refused address=192.0.2.7 user=\"ann\" \
                 reason=\"wrong user or password\"",
                "warn message=login refused address=2001:db8::1 user=\"b \u{fffd}\" \
                 reason=\"too many wrong passwords\"",
                &format!(
                    "warn message=login refused address=192.0.2.1 user=\"{long}...[100]\" \
                     reason=\"wrong user or password\""
                ),
            ]
        );
    }

    #[test]
    fn an_address_gets_ten_lines_a_minute_and_the_rest_is_one() {
        let refused = RefusedLogins::default();
        let begun = Instant::now();
        let note = |seconds, nth| {
            let now = begun + Duration::from_secs(seconds);
            refused.note_at(now, address(nth), b"ann", Refusal::Unauthenticated);
        };
        let lines = logged(|| (0..1000).for_each(|_| note(0, 1)));
        assert_eq!(lines.len(), 10);
        let lines = logged(|| note(59, 2));
        assert_eq!(lines.len(), 1, "another address has its own");
        let lines = logged(|| note(60, 1));
        let [summary, line] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(summary, "warn message=more logins refused logins=990 addresses=2");
        assert!(line.contains("login refused address=192.0.2.1 "), "{line}");
        assert_eq!(logged(|| drop(refused)), Vec::<String>::new(), "nothing is left to be said");
    }

    #[test]
    fn all_addresses_together_get_some_hundred_lines() {
        let refused = RefusedLogins::default();
        let lines = logged(|| {
            for nth in 0..10_000 {
                refused.note(address(nth), b"ann", Refusal::Unauthenticated);
            }
            drop(refused);
        });
        assert_eq!(lines.len(), LINES as usize + 1);
        let last = lines.last().unwrap();
        assert_eq!(last, "warn message=more logins refused logins=9400 addresses=600");
    }
}
