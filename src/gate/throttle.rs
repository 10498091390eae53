//! Slows down those who guess passwords.
//!
//! What counts is a wrong password: by the client's address, by the user that was named, and by
//! both together. Over a limit no password is looked at any more, the right one included: to answer
//! it otherwise would tell a guesser which one is right, at the speed of memory instead of that of
//! bcrypt. So somebody who guesses locks out who shares their address, and nobody elsewhere: what is
//! counted by user alone is held only against addresses that have guessed wrong themselves.
//!
//! The limit for one user from one address is the lowest, so that one machine does not lock out the
//! rest of its network. What is wrong in the same way again does not count: `verifier.rs` remembers
//! it, so a machine that has an old password and tries it all day has been wrong once.

use std::{
    hash::Hash,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use moka::{policy::EvictionPolicy, sync::Cache};
use serde::Deserialize;

use super::verifier::KeyedHash;
use crate::network::{Network, Site};

/// So many addresses, users and pairs of them are counted at a time; the least recently used make
/// room.
const MOST: u64 = 20_000;

/// A /48 of IPv6 may be wrong this many times as often as an address: it can be an organisation, and
/// it can be the customers of a host. Without a limit whoever has one guesses from 65,536 addresses.
const SITE: u32 = 10;

/// `auth.htpasswd.throttle`, which registry:2 does not have.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct ThrottleOptions {
    /// How long a wrong password counts, from the first on. Zero: none counts.
    pub window: Duration,
    /// So many wrong passwords for one user from one address.
    pub failures: u32,
    /// So many from one address, for all users. Of IPv6 an address is 64 bits: what one customer
    /// gets; and ten times as many from 48 bits.
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

#[derive(Debug)]
pub(super) struct Throttle {
    options: ThrottleOptions,
    networks: Counts<Network>,
    /// Of IPv6 only.
    sites: Counts<Site>,
    /// By a keyed hash of the name: names from outside can be long.
    users: Counts<KeyedHash>,
    pairs: Counts<(Network, KeyedHash)>,
    /// When the throttle began, and how many milliseconds later the last password was wrong: mostly
    /// that is long ago, and nothing need be looked up.
    began: Instant,
    last: AtomicU64,
}

/// Wrong passwords by something, within the window.
type Counts<K> = Cache<K, Arc<Count>>;

/// Wrong passwords, and those that are being checked.
#[derive(Debug)]
struct Count {
    number: AtomicU32,
    since: Instant,
}

/// Who wants in, from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Claim {
    pub(super) network: Network,
    /// A keyed hash of the user's name.
    pub(super) user: KeyedHash,
}

impl Claim {
    pub(super) fn new(address: IpAddr, user: KeyedHash) -> Self {
        Self { network: Network::of(address), user }
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
    pair: Arc<Count>,
    network: Arc<Count>,
    site: Option<Arc<Count>>,
    user: Arc<Count>,
}

impl Throttle {
    pub(super) fn new(options: &ThrottleOptions) -> Self {
        let window = options.window;
        Self {
            options: options.clone(),
            networks: counts(window),
            sites: counts(window),
            users: counts(window),
            pairs: counts(window),
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
        let Claim { network, user } = claim;
        let of_network = self.networks.get(network);
        let guessed = of_network.as_ref().is_some_and(|count| count.number() > 0);
        let of_site =
            if network.is_part_of_site() { self.sites.get(&network.site()) } else { None };
        let limited = [
            (self.pairs.get(&(*network, *user)), self.options.failures),
            (of_network, self.options.addressfailures),
            (of_site, self.site_failures()),
            (self.users.get(user).filter(|_| guessed), self.options.userfailures),
        ];
        let longest = limited
            .into_iter()
            .filter_map(|(count, limit)| count.filter(|count| count.number() >= limit))
            .map(|count| self.left_of_window(&count))
            .max();
        match longest {
            None => Ok(()),
            Some(retry_after) => Err(Throttled { retry_after }),
        }
    }

    /// Counts a password that is about to be checked, unless the claim is over a limit.
    pub(super) fn attempt(&self, claim: &Claim) -> Result<Attempt, Throttled> {
        self.check(claim)?;
        let Claim { network, user } = claim;
        let new = || Arc::new(Count { number: AtomicU32::new(0), since: Instant::now() });
        let attempt = Attempt {
            pair: self.pairs.get_with((*network, *user), new),
            network: self.networks.get_with(*network, new),
            site: network.is_part_of_site().then(|| self.sites.get_with(network.site(), new)),
            user: self.users.get_with(*user, new),
        };
        for count in attempt.counts() {
            count.number.fetch_add(1, Ordering::Relaxed);
        }
        // Others may have come to the same limit meanwhile.
        let over = [
            (&attempt.pair, self.options.failures),
            (&attempt.network, self.options.addressfailures),
        ]
        .into_iter()
        .find(|(count, limit)| count.number() > *limit);
        match over.map(|(count, _)| self.left_of_window(count)) {
            None => Ok(attempt),
            Some(retry_after) => {
                attempt.forget();
                Err(Throttled { retry_after })
            }
        }
    }

    /// Notes that a password was wrong, and says so where that reaches a limit.
    pub(super) fn was_wrong(&self, attempt: &Attempt, address: IpAddr, user: &str) {
        // Zero means never.
        self.last.store(self.now().max(1), Ordering::Relaxed);
        let (pair, network) = (attempt.pair.number(), attempt.network.number());
        let site = attempt.site.as_ref().map(|count| count.number());
        if pair == self.options.failures
            || network == self.options.addressfailures
            || site == Some(self.site_failures())
        {
            tracing::warn!(%address, user, "too many wrong passwords; no more are checked for now");
        }
    }

    const fn site_failures(&self) -> u32 {
        self.options.addressfailures.saturating_mul(SITE)
    }

    fn left_of_window(&self, count: &Count) -> Duration {
        self.options.window.saturating_sub(count.since.elapsed())
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }
}

/// Room for counts that end with the window. A new one always finds room: with moka's usual policy,
/// which keeps what is used often, whoever keeps it full of others would not be counted.
fn counts<K: Hash + Eq + Send + Sync + 'static>(window: Duration) -> Counts<K> {
    let policy = EvictionPolicy::lru();
    Cache::builder().max_capacity(MOST).eviction_policy(policy).time_to_live(window).build()
}

impl Attempt {
    /// The password was right, or was not looked at.
    pub(super) fn forget(self) {
        for count in self.counts() {
            count.number.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn counts(&self) -> impl Iterator<Item = &Count> {
        [&self.pair, &self.network, &self.user].into_iter().chain(&self.site).map(AsRef::as_ref)
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

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: KeyedHash = [1; 32];

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
            throttle.was_wrong(attempt, [192, 0, 2, 1].into(), "");
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
        throttle.networks.run_pending_tasks();
        assert!(throttle.networks.entry_count() <= MOST);
    }

    /// A cache that keeps what is used often would not take the newcomer.
    #[test]
    fn who_is_new_counts_while_others_that_are_used_all_the_time_fill_the_counts() {
        let throttle = throttle();
        let settle = || {
            throttle.networks.run_pending_tasks();
            throttle.users.run_pending_tasks();
            throttle.pairs.run_pending_tasks();
        };
        for address in 0..2 * MOST as u32 {
            let hot = Claim::new(std::net::Ipv4Addr::from_bits(address).into(), [2; 32]);
            for _ in 0..3 {
                let _ = guess(&throttle, hot);
                let _ = throttle.check(&hot);
            }
        }
        settle();
        let new = claim("198.51.100.1", 1);
        for _ in 0..2 {
            assert!(guess(&throttle, new));
            settle();
        }
        assert!(throttle.check(&new).is_err(), "two were wrong, and no more may be");
    }

    #[test]
    fn a_site_of_ipv6_has_a_limit_of_its_own() {
        let throttle = throttle();
        let from = |network: u32| claim(&format!("2001:db8:1:{network:x}::1"), 1 + network as u8);
        for network in 0..4 * SITE {
            assert!(guess(&throttle, from(network)), "{network}");
        }
        assert!(throttle.check(&from(4 * SITE)).is_err());
        assert_eq!(throttle.check(&claim("2001:db8:2::1", 1)), Ok(()));
        assert_eq!(throttle.check(&claim("192.0.2.1", 1)), Ok(()));
    }

    #[test]
    fn guesses_at_the_same_moment_are_no_more_than_the_limit() {
        for _ in 0..200 {
            let throttle = throttle();
            let guesses = || guess(&throttle, claim("192.0.2.1", 1));
            let judged = std::thread::scope(|scope| {
                let all: Vec<_> = (0..8).map(|_| scope.spawn(guesses)).collect();
                all.into_iter().map(|one| one.join().unwrap()).filter(|judged| *judged).count()
            });
            assert!(judged <= 2, "{judged}");
        }
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
