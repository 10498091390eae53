//! Limits wrong passwords, to slow down password guessing.
//!
//! Wrong passwords are counted by the client's address, by user, and by both together. Over a limit
//! no password is checked any more, not even the right one: a different answer to the right one
//! would tell a guesser which one it is, at the speed of memory instead of that of bcrypt. So a
//! guesser locks out clients that share its address, and no others: the count of a user alone is
//! held only against addresses from which a password was wrong.
//!
//! The limit for one user from one address is the lowest, so that one machine does not lock out the
//! rest of its network. The same wrong password counts once: `verifier.rs` remembers it, so a
//! machine that tries an old password all day has been wrong once.

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

/// How many addresses, users and pairs of them are counted at a time; the least recently used are
/// forgotten first.
const MAX_COUNTS: u64 = 20_000;

/// How many times the limit of an address a /48 of IPv6 has: it may be an organisation, or a hosting
/// provider with many customers. Without a limit, the owner of one guesses from 65,536 addresses.
const SITE_FACTOR: u32 = 10;

/// `auth.htpasswd.throttle`, which registry:2 does not have.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct ThrottleOptions {
    /// How long wrong passwords count, from the first one on. Zero switches the throttle off.
    pub window: Duration,
    /// The limit of wrong passwords for one user from one address.
    pub failures: u32,
    /// The limit for one address, for all users. An address of IPv6 is a /64, as one customer gets;
    /// a /48 has ten times this limit.
    pub addressfailures: u32,
    /// The limit for one user, from all addresses.
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
    /// By a keyed hash of the name, because a client may send a long name.
    users: Counts<KeyedHash>,
    pairs: Counts<(Network, KeyedHash)>,
    /// The time that `last` counts from.
    began: Instant,
    /// When the last password was wrong, in milliseconds since `began`; zero means never. Usually it
    /// is so long ago that no count need be looked up.
    last: AtomicU64,
}

/// Counts of wrong passwords within the window, by a key.
type Counts<K> = Cache<K, Arc<Count>>;

/// The number of wrong passwords, plus those that are being checked.
#[derive(Debug)]
struct Count {
    number: AtomicU32,
    since: Instant,
}

/// A user and the network that the user logs in from.
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

/// A limit is reached, for at least `retry_after` more.
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

    /// Whether any password was wrong within the window; if not, no claim is refused.
    pub(super) fn is_active(&self) -> bool {
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
        // Attempts at the same time may have reached the same limit meanwhile.
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

    /// Records that a password was wrong, and logs it when that reaches a limit.
    pub(super) fn was_wrong(&self, attempt: &Attempt, address: IpAddr, user: &str) {
        self.last.store(self.now().max(1), Ordering::Relaxed);
        let of_site = attempt.site.as_ref().map(|count| count.number());
        if attempt.pair.number() == self.options.failures
            || attempt.network.number() == self.options.addressfailures
            || of_site == Some(self.site_failures())
        {
            tracing::warn!(%address, user, "too many wrong passwords; no more are checked for now");
        }
    }

    const fn site_failures(&self) -> u32 {
        self.options.addressfailures.saturating_mul(SITE_FACTOR)
    }

    fn left_of_window(&self, count: &Count) -> Duration {
        self.options.window.saturating_sub(count.since.elapsed())
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }
}

/// An empty table of counts that end with the window. A new key always finds room: moka's default
/// policy keeps keys that are used often, so that a client which fills the table with its own keys
/// would keep new ones from being counted.
fn counts<K: Hash + Eq + Send + Sync + 'static>(window: Duration) -> Counts<K> {
    let policy = EvictionPolicy::lru();
    Cache::builder().max_capacity(MAX_COUNTS).eviction_policy(policy).time_to_live(window).build()
}

impl Attempt {
    /// Takes the attempt back: the password was right, or was not checked.
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

    /// Makes a wrong guess; returns whether the throttle admitted it.
    fn guess(throttle: &Throttle, claim: Claim) -> bool {
        let attempt = throttle.attempt(&claim);
        if let Ok(attempt) = &attempt {
            throttle.was_wrong(attempt, [192, 0, 2, 1].into(), "");
        }
        attempt.is_ok()
    }

    #[test]
    fn limit_of_a_pair_refuses_one_user_from_one_address_only() {
        let throttle = throttle();
        assert!(!throttle.is_active());
        assert!(guess(&throttle, claim("192.0.2.1", 1)) && guess(&throttle, claim("192.0.2.1", 1)));
        assert!(throttle.is_active());
        for _ in 0..100 {
            assert!(!guess(&throttle, claim("192.0.2.1", 1)), "what is refused does not count");
        }
        let refused = throttle.check(&claim("::ffff:192.0.2.1", 1)).unwrap_err();
        assert!(refused.retry_after > Duration::from_secs(3000), "{refused:?}");
        assert_eq!(throttle.check(&claim("192.0.2.1", 2)), Ok(()));
        assert_eq!(throttle.check(&claim("192.0.2.2", 1)), Ok(()));
    }

    #[test]
    fn address_is_refused_for_all_users_and_an_ipv6_address_with_its_network() {
        let throttle = throttle();
        for (host, user) in [("::1", 1), ("::2", 2), ("::3", 3), ("::4", 4)] {
            assert!(guess(&throttle, claim(&format!("2001:db8:0:1{host}"), user)));
        }
        assert!(throttle.check(&claim("2001:db8:0:1::5", 5)).is_err());
        assert_eq!(throttle.check(&claim("2001:db8:0:2::1", 1)), Ok(()));
    }

    #[test]
    fn limit_of_a_user_refuses_only_addresses_that_have_guessed() {
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
    fn counts_are_bounded() {
        let throttle = throttle();
        for address in 0..2 * MAX_COUNTS as u32 {
            let claim = Claim::new(std::net::Ipv4Addr::from_bits(address).into(), ANN);
            let _ = guess(&throttle, claim);
        }
        throttle.networks.run_pending_tasks();
        assert!(throttle.networks.entry_count() <= MAX_COUNTS);
    }

    /// A cache that keeps frequently used entries would not admit the new one.
    #[test]
    fn new_claim_counts_while_frequently_used_ones_fill_the_table() {
        let throttle = throttle();
        let settle = || {
            throttle.networks.run_pending_tasks();
            throttle.users.run_pending_tasks();
            throttle.pairs.run_pending_tasks();
        };
        for address in 0..2 * MAX_COUNTS as u32 {
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
    fn site_of_ipv6_has_a_limit_of_its_own() {
        let throttle = throttle();
        let from = |network: u32| claim(&format!("2001:db8:1:{network:x}::1"), 1 + network as u8);
        for network in 0..4 * SITE_FACTOR {
            assert!(guess(&throttle, from(network)), "{network}");
        }
        assert!(throttle.check(&from(4 * SITE_FACTOR)).is_err());
        assert_eq!(throttle.check(&claim("2001:db8:2::1", 1)), Ok(()));
        assert_eq!(throttle.check(&claim("192.0.2.1", 1)), Ok(()));
    }

    #[test]
    fn concurrent_guesses_stay_within_the_limit() {
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
    fn empty_window_counts_nothing() {
        let throttle =
            Throttle::new(&ThrottleOptions { window: Duration::ZERO, ..throttle().options });
        for _ in 0..100 {
            assert!(guess(&throttle, claim("192.0.2.1", 1)));
        }
    }
}
