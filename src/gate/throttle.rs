//! Slows down those who guess passwords.
//!
//! What counts is a wrong password: by the client's address, by the user that was named, and by
//! both together. Over a limit no password is looked at any more, the right one included: to answer
//! it otherwise would tell a guesser which one is right, at the speed of memory instead of that of
//! bcrypt. So somebody who guesses locks out who shares their address, and nobody elsewhere: what is
//! counted by user alone is held only against addresses that have guessed wrong themselves.
//!
//! The limit for one user from one address is the lowest. A machine that has an old password and
//! tries it all day reaches it, counts no further, and leaves the rest of its network alone.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use moka::sync::Cache;
use serde::Deserialize;

/// So many addresses, users and pairs of them are counted at a time; the least used make room.
const MOST: u64 = 20_000;

/// `auth.htpasswd.throttle`, which registry:2 does not have.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct ThrottleOptions {
    /// How long a wrong password counts, from the first on. Zero: none counts.
    pub window: Duration,
    /// So many wrong passwords for one user from one address.
    pub failures: u32,
    /// So many from one address, for all users. Of IPv6 an address is 64 bits: what one customer
    /// gets.
    pub addressfailures: u32,
    /// So many for one user, from all addresses.
    pub userfailures: u32,
}

impl Default for ThrottleOptions {
    fn default() -> Self {
        let window = Duration::from_secs(60);
        Self { window, failures: 10, addressfailures: 100, userfailures: 100 }
    }
}

/// A user by a keyed hash of the name: names from outside can be long.
type UserTag = [u8; 32];

#[derive(Debug)]
pub(super) struct Throttle {
    options: ThrottleOptions,
    addresses: Cache<IpAddr, Arc<Count>>,
    users: Cache<UserTag, Arc<Count>>,
    pairs: Cache<(IpAddr, UserTag), Arc<Count>>,
    /// When the throttle began, and how many milliseconds later the last password was wrong: mostly
    /// that is long ago, and nothing need be looked up.
    began: Instant,
    last: AtomicU64,
}

/// Wrong passwords, and those that are being checked.
#[derive(Debug)]
struct Count {
    number: AtomicU32,
    since: Instant,
}

/// Who wants in, from where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    address: IpAddr,
    user: UserTag,
}

impl Claim {
    pub(super) fn new(address: IpAddr, user: UserTag) -> Self {
        Self { address: network(address), user }
    }
}

/// Limits are reached; when they will not be any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Throttled {
    pub(super) retry_after: Duration,
}

/// A password that is being checked. It counts as a wrong one until it is known to be right.
#[derive(Debug)]
pub(super) struct Attempt {
    counts: [Arc<Count>; 3],
}

impl Throttle {
    pub(super) fn new(options: &ThrottleOptions) -> Self {
        let window = options.window;
        Self {
            options: options.clone(),
            addresses: Cache::builder().max_capacity(MOST).time_to_live(window).build(),
            users: Cache::builder().max_capacity(MOST).time_to_live(window).build(),
            pairs: Cache::builder().max_capacity(MOST).time_to_live(window).build(),
            began: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    /// Whether any password was wrong lately; if not, nobody is refused.
    pub(super) fn is_at_work(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last != 0 && self.now() <= last + millis(self.options.window)
    }

    /// Refuses a claim that is over a limit.
    pub(super) fn check(&self, claim: &Claim) -> Result<(), Throttled> {
        let Claim { address, user } = claim;
        let by_address = self.addresses.get(address);
        let guessed = by_address.as_ref().is_some_and(|count| count.number() > 0);
        let limited = [
            (self.pairs.get(&(*address, *user)), self.options.failures),
            (by_address, self.options.addressfailures),
            (self.users.get(user).filter(|_| guessed), self.options.userfailures),
        ];
        let longest = limited
            .into_iter()
            .filter_map(|(count, limit)| count.filter(|count| count.number() >= limit))
            .map(|count| self.options.window.saturating_sub(count.since.elapsed()))
            .max();
        match longest {
            None => Ok(()),
            Some(retry_after) => Err(Throttled { retry_after }),
        }
    }

    /// Counts a password that is about to be checked, unless the claim is over a limit.
    pub(super) fn attempt(&self, claim: &Claim) -> Result<Attempt, Throttled> {
        self.check(claim)?;
        let new = || Arc::new(Count { number: AtomicU32::new(0), since: Instant::now() });
        let counts = [
            self.pairs.get_with((claim.address, claim.user), new),
            self.addresses.get_with(claim.address, new),
            self.users.get_with(claim.user, new),
        ];
        for count in &counts {
            count.number.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Attempt { counts })
    }

    /// Notes that a password was wrong, and says so where that reaches a limit.
    pub(super) fn was_wrong(&self, attempt: &Attempt, address: IpAddr, user: &str) {
        // Zero means never.
        self.last.store(self.now().max(1), Ordering::Relaxed);
        let [pair, from, _] = attempt.counts.each_ref().map(|count| count.number());
        if pair == self.options.failures || from == self.options.addressfailures {
            tracing::warn!(%address, user, "too many wrong passwords; no more are checked for now");
        }
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }
}

impl Attempt {
    /// The password was right, or was not looked at.
    pub(super) fn forget(self) {
        for count in &self.counts {
            count.number.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Count {
    fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What is counted as one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: UserTag = [1; 32];

    fn throttle() -> Throttle {
        Throttle::new(&ThrottleOptions {
            window: Duration::from_secs(3600),
            failures: 2,
            addressfailures: 4,
            userfailures: 6,
        })
    }

    fn claim(address: &str, user: u8) -> Claim {
        Claim::new(address.parse().unwrap(), [user; 32])
    }

    /// Guesses wrong; whether that was possible.
    fn guess(throttle: &Throttle, claim: Claim) -> bool {
        let attempt = throttle.attempt(&claim);
        if let Ok(attempt) = &attempt {
            throttle.was_wrong(attempt, claim.address, "");
        }
        attempt.is_ok()
    }

    #[test]
    fn one_user_from_one_address_is_refused_and_nobody_else() {
        let throttle = throttle();
        assert!(!throttle.is_at_work());
        assert!(guess(&throttle, claim("192.0.2.1", 1)) && guess(&throttle, claim("192.0.2.1", 1)));
        assert!(throttle.is_at_work());
        for _ in 0..100 {
            assert!(!guess(&throttle, claim("192.0.2.1", 1)), "what is refused does not count");
        }
        let refused = throttle.check(&claim("::ffff:192.0.2.1", 1)).unwrap_err();
        assert!(refused.retry_after > Duration::from_secs(3000), "{refused:?}");
        assert_eq!(throttle.check(&claim("192.0.2.1", 2)), Ok(()));
        assert_eq!(throttle.check(&claim("192.0.2.2", 1)), Ok(()));
    }

    #[test]
    fn an_address_is_refused_for_all_users_and_an_address_of_ipv6_is_a_network() {
        let throttle = throttle();
        for (host, user) in [("::1", 1), ("::2", 2), ("::3", 3), ("::4", 4)] {
            assert!(guess(&throttle, claim(&format!("2001:db8:0:1{host}"), user)));
        }
        assert!(throttle.check(&claim("2001:db8:0:1::5", 5)).is_err());
        assert_eq!(throttle.check(&claim("2001:db8:0:2::1", 1)), Ok(()));
    }

    #[test]
    fn a_user_is_refused_where_somebody_guessed_and_let_in_from_elsewhere() {
        let throttle = throttle();
        for host in 1..=6 {
            assert!(guess(&throttle, claim(&format!("192.0.2.{host}"), 1)));
        }
        assert!(throttle.check(&claim("192.0.2.1", 1)).is_err(), "guessed only once, but for ann");
        assert_eq!(throttle.check(&claim("192.0.2.1", 2)), Ok(()));
        assert_eq!(throttle.check(&claim("192.0.2.99", 1)), Ok(()));
        assert!(guess(&throttle, claim("192.0.2.99", 1)), "once");
        assert!(!guess(&throttle, claim("192.0.2.99", 1)));
    }

    #[test]
    fn right_passwords_do_not_count_and_those_being_checked_do() {
        let throttle = throttle();
        let here = claim("192.0.2.1", 1);
        for _ in 0..100 {
            throttle.attempt(&here).unwrap().forget();
        }
        let both = (throttle.attempt(&here).unwrap(), throttle.attempt(&here).unwrap());
        assert!(throttle.attempt(&here).is_err(), "more at once than may be wrong");
        both.0.forget();
        assert!(throttle.attempt(&here).is_ok());
    }

    #[test]
    fn what_counts_is_bounded() {
        let throttle = throttle();
        for address in 0..2 * MOST as u32 {
            let claim = Claim::new(std::net::Ipv4Addr::from_bits(address).into(), ANN);
            let _ = guess(&throttle, claim);
        }
        throttle.addresses.run_pending_tasks();
        assert!(throttle.addresses.entry_count() <= MOST);
    }

    #[test]
    fn in_a_window_of_nothing_nothing_counts() {
        let throttle =
            Throttle::new(&ThrottleOptions { window: Duration::ZERO, ..throttle().options });
        for _ in 0..100 {
            assert!(guess(&throttle, claim("192.0.2.1", 1)));
        }
    }
}
