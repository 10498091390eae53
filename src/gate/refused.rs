//! The log of refused logins: a line for each, with the address and the user, for people and for
//! programs such as fail2ban, which block the address.
//!
//! A guesser can be refused thousands of times a second, and must not fill the log. So an address (a
//! /64 of IPv6) gets a few lines a minute, which is more than such programs need, and all addresses
//! together get some hundreds; one line at the end of the minute has the number of the others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Credentials, Refusal, tokens::deploy::Form};
use crate::network::Network;

/// How long lines are counted before the count starts again.
const PERIOD: Duration = Duration::from_secs(60);

/// How many lines an address, or a /64 of IPv6, gets in a period.
const MAX_LINES_OF_NETWORK: u32 = 10;

/// How many lines all addresses get in a period; so it also bounds how many addresses are counted.
const MAX_LINES: u32 = 600;

/// How many bytes of a user's name are logged.
const MAX_NAME_BYTES: usize = 64;

/// Logs refused logins, within limits.
#[derive(Debug, Default)]
pub(super) struct RefusedLogins {
    period: Mutex<Option<Period>>,
}

/// A period in which lines are counted.
#[derive(Debug)]
struct Period {
    since: Instant,
    lines: u32,
    of_network: HashMap<Network, u32>,
    suppressed: u64,
}

impl Period {
    fn new(since: Instant) -> Self {
        Self { since, lines: 0, of_network: HashMap::new(), suppressed: 0 }
    }

    /// Takes a line for an address; `false` when a limit is reached.
    fn take_line(&mut self, address: IpAddr) -> bool {
        if self.lines < MAX_LINES {
            let lines = self.of_network.entry(Network::of(address)).or_default();
            if *lines < MAX_LINES_OF_NETWORK {
                *lines += 1;
                self.lines += 1;
                return true;
            }
        }
        self.suppressed += 1;
        false
    }

    /// Logs how many logins got no line.
    fn close(self) {
        if self.suppressed > 0 {
            let addresses = self.of_network.len();
            tracing::warn!(logins = self.suppressed, addresses, "more logins refused");
        }
    }
}

impl RefusedLogins {
    /// Logs that a login was refused, or counts it when the address has no line left.
    pub(super) fn note(&self, address: IpAddr, login: &Credentials, refusal: &Refusal) {
        self.note_at(Instant::now(), address, login, refusal);
    }

    fn note_at(&self, now: Instant, address: IpAddr, login: &Credentials, refusal: &Refusal) {
        let reason = match refusal {
            Refusal::Unauthenticated if Form::of(login.password()) == Form::Mistyped => {
                "mistyped token"
            }
            Refusal::Unauthenticated => "wrong user or password",
            Refusal::Throttled { .. } => "too many wrong passwords",
            // The password was not checked, or there was none: a client whose token has ended asks for
            // another.
            Refusal::Busy { .. } | Refusal::InvalidToken => return,
            // It has a line of its own. The caller has the secret, and guesses nothing.
            Refusal::TokenExpired { .. } => return,
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
            let user = clipped(login.user_bytes());
            // Programs recognise this line by its beginning, no part of which a client can choose.
            tracing::warn!(%address, user, reason, "login refused");
        }
    }

    /// Closes the period if it is over.
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

/// A name; of one that is too long, its beginning and its length in bytes. Bytes that are not UTF-8
/// become U+FFFD.
fn clipped(user: &[u8]) -> String {
    // At least one character beyond the limit, so that a longer name is recognised.
    let text = String::from_utf8_lossy(&user[..user.len().min(MAX_NAME_BYTES + 4)]);
    if text.len() <= MAX_NAME_BYTES {
        return text.into_owned();
    }
    let end =
        (0..=MAX_NAME_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}...[{}]", &text[..end], user.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::testing::logged;

    fn login(user: &[u8]) -> Credentials {
        Credentials::new(zeroize::Zeroizing::new([user, b":x"].concat())).unwrap()
    }

    fn address(nth: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0xc000_0200 + nth).into()
    }

    #[test]
    fn refused_login_is_a_line_with_address_and_user() {
        let refused = RefusedLogins::default();
        let lines = logged(|| {
            let mapped = "::ffff:192.0.2.7".parse().unwrap();
            refused.note(mapped, &login(b"ann"), &Refusal::Unauthenticated);
            let retry_after = PERIOD;
            refused.note(
                "2001:db8::1".parse().unwrap(),
                &login(b"b \xff"),
                &Refusal::Throttled { retry_after },
            );
            refused.note(address(1), &login(b"ann"), &Refusal::Busy { retry_after });
            let mistyped = Credentials::new(b"ci:pcl_x".to_vec().into()).unwrap();
            refused.note(address(1), &mistyped, &Refusal::Unauthenticated);
            refused.note(
                address(1),
                &login("\u{e4}".repeat(50).as_bytes()),
                &Refusal::Unauthenticated,
            );
        });
        let long = "\u{e4}".repeat(32);
        assert_eq!(
            lines,
            [
                "warn message=login refused address=192.0.2.7 user=\"ann\" \
                 reason=\"wrong user or password\"",
                "warn message=login refused address=2001:db8::1 user=\"b \u{fffd}\" \
                 reason=\"too many wrong passwords\"",
                "warn message=login refused address=192.0.2.1 user=\"ci\" reason=\"mistyped token\"",
                &format!(
                    "warn message=login refused address=192.0.2.1 user=\"{long}...[100]\" \
                     reason=\"wrong user or password\""
                ),
            ]
        );
    }

    #[test]
    fn address_gets_ten_lines_a_minute_and_one_for_the_rest() {
        let refused = RefusedLogins::default();
        let begun = Instant::now();
        let note = |seconds, nth| {
            let now = begun + Duration::from_secs(seconds);
            refused.note_at(now, address(nth), &login(b"ann"), &Refusal::Unauthenticated);
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
                refused.note(address(nth), &login(b"ann"), &Refusal::Unauthenticated);
            }
            drop(refused);
        });
        assert_eq!(lines.len(), MAX_LINES as usize + 1);
        let last = lines.last().unwrap();
        assert_eq!(last, "warn message=more logins refused logins=9400 addresses=600");
    }
}
