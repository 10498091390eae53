//! The limits of a caller: how many requests it may send, and how many bytes it may push and pull, in a time
//! (`http.limits`).
//!
//! A caller with a name has one account, by whatever connections and credentials it comes; callers without a
//! name have one for each network. A request over the rate waits, because docker gives a pull up after a 429
//! and containerd repeats the request at once; only where it would wait for longer than `delay` is it refused.
//! Bytes are never refused: they are held back.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use moka::{policy::EvictionPolicy, sync::Cache};
use tokio::time::{Instant, sleep};

use self::bucket::{Allowance, Bucket};
use crate::{gate::Identity, network::Network};

mod bucket;
mod options;
mod paced;
mod rate;

pub use options::LimitsOptions;
pub use rate::{ByteRate, InvalidRate, Rate};

pub(super) use paced::{Paced, Upload};

/// How many callers with a name have an account at a time, and how many networks; the least recently used
/// are forgotten first, and begin anew. Networks do not push out names: a client needs no password to send
/// from many networks.
const MAX_ACCOUNTS: u64 = 10_000;

/// How many requests wait at a time. Each keeps its head; a request that finds no place is refused.
const MAX_WAITING: usize = 4096;

/// How much unused time later bytes may make up for: timers are late by a millisecond or more.
const CATCH_UP: Duration = Duration::from_millis(100);

/// The limits in force, and the accounts of callers.
#[derive(Debug)]
pub(super) struct RateLimits {
    /// `None` without any limit.
    rates: ArcSwapOption<Rates>,
    names: Cache<Identity, Arc<Buckets>>,
    /// The key is `None` for Unix sockets.
    networks: Cache<Option<Network>, Arc<Buckets>>,
    /// The zero of the times in buckets.
    epoch: Instant,
    waiting: AtomicUsize,
    delayed: AtomicU64,
    refused: AtomicU64,
    held_back: AtomicU64,
}

/// The limits of each account.
#[derive(Debug)]
struct Rates {
    requests: Option<Requests>,
    download: Option<Allowance>,
    upload: Option<Allowance>,
}

#[derive(Debug)]
struct Requests {
    rate: Rate,
    allowance: Allowance,
    delay: Duration,
}

/// What an account has used of each limit.
#[derive(Debug, Default)]
struct Buckets {
    requests: Bucket,
    download: Bucket,
    upload: Bucket,
}

/// The direction of bytes, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Download,
    Upload,
}

/// The account of a caller.
#[derive(Clone, Debug)]
pub(super) struct Account {
    limits: Arc<RateLimits>,
    buckets: Arc<Buckets>,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitCounts {
    /// Requests that wait now.
    pub waiting: u64,
    /// Requests that have waited since the start.
    pub delayed: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Bytes that were held back.
    pub held_back: u64,
}

/// Whether a request may go on.
#[derive(Debug)]
pub(super) enum Admission {
    /// At once.
    Now,
    /// When this future resolves.
    After(Hold),
    /// Never: it would have to wait for too long.
    Refused(Box<Limited>),
}

/// A request that is refused for its rate.
#[derive(Debug)]
pub struct Limited {
    /// Whose account it is; without a name that of an address.
    who: Identity,
    rate: Rate,
    /// When a request would not have to wait.
    pub(super) retry_after: Duration,
}

/// Clients show this message.
impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who, rate, .. } = self;
        match who {
            Identity::Anonymous => write!(f, "this address may send {rate}"),
            who => write!(f, "{who} may send {rate}"),
        }
    }
}

/// A request that waits, until it is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    limits: Arc<RateLimits>,
    time: Duration,
}

impl Hold {
    /// Waits until the request may go on.
    pub(super) async fn wait(self) {
        sleep(self.time).await;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.limits.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RateLimits {
    pub(super) fn new(options: &LimitsOptions) -> Self {
        let limits = Self {
            rates: ArcSwapOption::empty(),
            names: accounts(),
            networks: accounts(),
            epoch: Instant::now(),
            waiting: AtomicUsize::new(0),
            delayed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
        };
        limits.set(options);
        limits
    }

    /// Limits callers by these options from now on, those of running transfers too. Accounts stay.
    pub(super) fn set(&self, options: &LimitsOptions) {
        let bytes = |rate: ByteRate| Allowance::new(rate.into(), CATCH_UP);
        let rates = Rates {
            requests: options.requests.map(|rate| Requests {
                rate,
                allowance: Allowance::of(rate, options.burst_of(rate)),
                delay: options.delay,
            }),
            download: options.download.map(bytes),
            upload: options.upload.map(bytes),
        };
        let Rates { requests, download, upload } = &rates;
        let is_any = requests.is_some() || download.is_some() || upload.is_some();
        self.rates.store(is_any.then(|| Arc::new(rates)));
    }

    /// Whether there is any limit.
    pub(super) fn is_on(&self) -> bool {
        self.rates.load().is_some()
    }

    /// The account of a caller; `None` without limits.
    pub(super) fn account(
        self: &Arc<Self>,
        who: &Identity,
        address: Option<IpAddr>,
    ) -> Option<Account> {
        if !self.is_on() {
            return None;
        }
        let buckets = match who {
            Identity::Anonymous => {
                let network = address.map(Network::of);
                let known = self.networks.get(&network);
                known.unwrap_or_else(|| self.networks.get_with(network, Arc::default))
            }
            who => {
                let known = self.names.get(who);
                known.unwrap_or_else(|| self.names.get_with(who.clone(), Arc::default))
            }
        };
        Some(Account { limits: Arc::clone(self), buckets })
    }

    /// The present counts.
    pub(super) fn counts(&self) -> LimitCounts {
        LimitCounts {
            waiting: self.waiting.load(Ordering::Relaxed) as u64,
            delayed: self.delayed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            held_back: self.held_back.load(Ordering::Relaxed),
        }
    }

    /// The present time in buckets.
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes a place among the waiting requests.
    fn hold(self: &Arc<Self>, time: Duration) -> Option<Hold> {
        let place = |waiting| (waiting < MAX_WAITING).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, place).ok()?;
        self.delayed.fetch_add(1, Ordering::Relaxed);
        Some(Hold { limits: Arc::clone(self), time })
    }
}

fn accounts<K: std::hash::Hash + Eq + Send + Sync + 'static>() -> Cache<K, Arc<Buckets>> {
    // The policy that moka has by default keeps a new account out while all others are in use.
    Cache::builder().max_capacity(MAX_ACCOUNTS).eviction_policy(EvictionPolicy::lru()).build()
}

impl Account {
    /// Counts a request of this caller, and says whether it may go on.
    pub(super) fn request(&self, who: &Identity) -> Admission {
        let rates = self.limits.rates.load();
        let Some(Requests { rate, allowance, delay }) =
            rates.as_ref().and_then(|rates| rates.requests.as_ref())
        else {
            return Admission::Now;
        };
        let reserved = self.buckets.requests.reserve(allowance, 1, self.limits.now(), *delay);
        let retry_after = match reserved {
            Ok(Duration::ZERO) => return Admission::Now,
            Ok(time) => match self.limits.hold(time) {
                Some(hold) => return Admission::After(hold),
                None => time,
            },
            Err(time) => time,
        };
        self.limits.refused.fetch_add(1, Ordering::Relaxed);
        Admission::Refused(Box::new(Limited { who: who.clone(), rate: *rate, retry_after }))
    }

    /// Takes bytes from the account, and says for how long they are to be held back.
    fn bytes(&self, direction: Direction, length: usize) -> Duration {
        let rates = self.limits.rates.load();
        let Some(rates) = rates.as_ref() else { return Duration::ZERO };
        let (allowance, bucket) = match direction {
            Direction::Download => (&rates.download, &self.buckets.download),
            Direction::Upload => (&rates.upload, &self.buckets.upload),
        };
        let Some(allowance) = allowance else { return Duration::ZERO };
        let time = bucket.take(allowance, length as u64, self.limits.now());
        if !time.is_zero() {
            self.limits.held_back.fetch_add(length as u64, Ordering::Relaxed);
        }
        time
    }

    /// Whether bytes in this direction have a limit now.
    fn limits(&self, direction: Direction) -> bool {
        let rates = self.limits.rates.load();
        rates.as_ref().is_some_and(|rates| match direction {
            Direction::Download => rates.download.is_some(),
            Direction::Upload => rates.upload.is_some(),
        })
    }
}

#[cfg(test)]
mod tests;
