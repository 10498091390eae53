//! Checks passwords: the first time by bcrypt, then from memory.
//!
//! The memory holds no password, but a keyed hash (HMAC-SHA-256 under a random key that lives as long
//! as the process) over the user's name, the hash that the password file has for the user *now*, and
//! the password. So a changed or deleted line needs no invalidation: no request produces the keys of
//! old successes and failures any more.
//!
//! bcrypt runs on blocking threads, a few at a time. `queue.rs` orders the runs, and lets equal
//! credentials that arrive together wait for one run. Credentials that were wrong within the
//! throttle's window are refused without another run.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::{hmac, rand::SystemRandom};
use moka::{policy::EvictionPolicy, sync::Cache};
use zeroize::Zeroizing;

use super::{
    HtpasswdOptions, NoRandomness, Refusal,
    checks::{Check, Checks},
    credentials::Credentials,
    htpasswd::Htpasswd,
    outcomes::Outcome,
    queue::{Caller, Full, Queue, Turn, Waited},
    session::Session,
    throttle::{Attempt, Claim, Throttle, Throttled},
};
use crate::network::Network;

/// A keyed hash: of credentials with the hash that they are checked against, or of a user's name.
pub(super) type KeyedHash = [u8; 32];

/// How many successes are remembered; the least frequently used are forgotten first, so that a user
/// at work does not have to wait again behind guessers.
const MAX_REMEMBERED: u64 = 10_000;

/// How many failures are remembered; the least recently used are forgotten first.
const MAX_WRONG: u64 = 10_000;

/// A user who was authenticated from a network within this time is known there and does not queue
/// with strangers. At most [`MAX_KNOWN`] are remembered; the least recently used are forgotten first.
const KNOWN_FOR: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_KNOWN: u64 = 10_000;

/// A bcrypt run takes a quarter of a second at the usual cost, so the queue is shorter after this.
const RETRY_AFTER: Duration = Duration::from_secs(5);

const BUSY: Refusal = Refusal::Busy { retry_after: RETRY_AFTER };

#[derive(Debug)]
pub(super) struct Verifier {
    users: ArcSwap<Checks>,
    key: hmac::Key,
    verified: Cache<KeyedHash, ()>,
    /// Credentials that were wrong within the throttle's window, by the network that sent them: an
    /// answer must not show what clients of other networks have tried.
    wrong: Cache<(Network, KeyedHash), ()>,
    /// Users and the networks that they were authenticated from.
    known: Cache<Claim, ()>,
    queue: Arc<Queue>,
    runs: AtomicU64,
    throttle: Throttle,
}

/// The check for credentials.
struct Lookup<'a> {
    check: &'a Arc<Check>,
    /// Of the credentials, with the hash that they are checked against.
    key: KeyedHash,
    /// Whether this connection was authenticated by the same credentials before.
    proven: bool,
}

/// A request that cannot be decided from memory.
struct Pending<'a> {
    credentials: &'a Credentials,
    address: IpAddr,
    claim: Claim,
    lookup: Lookup<'a>,
}

impl Verifier {
    pub(super) fn new(users: &Htpasswd, options: &HtpasswdOptions) -> Result<Self, NoRandomness> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| NoRandomness)?;
        let lru = EvictionPolicy::lru;
        Ok(Self {
            users: ArcSwap::from_pointee(Checks::new(users)),
            key,
            verified: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_idle(options.cachettl)
                .build(),
            wrong: Cache::builder()
                .max_capacity(MAX_WRONG)
                .eviction_policy(lru())
                .time_to_live(options.throttle.window)
                .build(),
            known: Cache::builder()
                .max_capacity(MAX_KNOWN)
                .eviction_policy(lru())
                .time_to_live(KNOWN_FOR)
                .build(),
            queue: Queue::new(Self::slots()),
            runs: AtomicU64::new(0),
            throttle: Throttle::new(&options.throttle),
        })
    }

    /// How many runs of bcrypt may go on at once: on half of the processors, so that wrong passwords
    /// at full rate leave the other half to authenticated clients.
    fn slots() -> usize {
        std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).max(1))
    }

    pub(super) fn set_users(&self, users: &Htpasswd) {
        self.users.store(Arc::new(Checks::new(users)));
    }

    /// Whether a user of this name can log in.
    pub(super) fn is_user(&self, name: &str) -> bool {
        self.users.load().of(name).is_some()
    }

    pub(super) fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// How many requests wait for a check.
    pub(super) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Decides about credentials from `address`, if that takes neither bcrypt nor a wait; `None`
    /// otherwise.
    pub(super) fn recall(
        &self,
        credentials: &Credentials,
        address: IpAddr,
        session: &Session,
    ) -> Option<Result<Outcome, Refusal>> {
        let users = self.users.load();
        let lookup = match self.look_up(&users, credentials, address, session) {
            Ok(lookup) => lookup,
            Err(throttled) => return Some(Err(throttled.into())),
        };
        // Only credentials of users are ever remembered, so the check is a user's.
        self.verified.get(&lookup.key)?;
        self.is_in_force(credentials, lookup.check)?.then(|| {
            self.admit(credentials, address, session);
            Ok(Outcome::Memory)
        })
    }

    /// Authenticates a user who logs in from `address`. Returns how: by bcrypt, or from memory.
    pub(super) async fn verify(
        self: &Arc<Self>,
        credentials: &Credentials,
        address: IpAddr,
        session: &Session,
    ) -> Result<Outcome, Refusal> {
        let mut outcome = Outcome::Memory;
        loop {
            let users = self.users.load_full();
            let lookup = self.look_up(&users, credentials, address, session)?;
            let check = lookup.check;
            if self.verified.get(&lookup.key).is_none() {
                let claim = Claim::new(address, self.hash_of_name(credentials));
                let pending = Pending { credentials, address, claim, lookup };
                if self.check(&pending, session).await? == Outcome::Bcrypt {
                    outcome = Outcome::Bcrypt;
                }
            }
            match self.is_in_force(credentials, check) {
                Some(true) => {
                    self.admit(credentials, address, session);
                    return Ok(outcome);
                }
                // While bcrypt ran, the user's line has changed: to another password, or to the same
                // one with another salt.
                Some(false) => {}
                None => return Err(Refusal::Unauthenticated),
            }
        }
    }

    /// Finds the check for credentials, unless the throttle refuses them.
    fn look_up<'a>(
        &self,
        users: &'a Checks,
        credentials: &Credentials,
        address: IpAddr,
        session: &Session,
    ) -> Result<Lookup<'a>, Throttled> {
        // Every name in the file is UTF-8.
        let check = match credentials.user().and_then(|user| users.of(user)) {
            Some(check) => check,
            None => users.dummy(self.hash_of_name(credentials)),
        };
        let key = self.keyed_hash(&[
            credentials.user_bytes(),
            check.hash().as_str().as_bytes(),
            credentials.password(),
        ]);
        let proven = session.record(&key);
        if !proven && self.throttle.is_active() {
            self.throttle.check(&Claim::new(address, self.hash_of_name(credentials)))?;
        }
        Ok(Lookup { check, key, proven })
    }

    /// Whether a check is the user's current one; `None` when the file has no such user.
    fn is_in_force(&self, credentials: &Credentials, check: &Check) -> Option<bool> {
        let users = self.users.load();
        let now = users.of(credentials.user()?)?;
        Some(now.hash() == check.hash())
    }

    /// Calls `read` with the parts of a user's line as it is now; `None` when the file has no such user.
    pub(super) fn line<T>(&self, user: &str, read: impl FnOnce(&[&[u8]]) -> T) -> Option<T> {
        let users = self.users.load();
        let hash = users.of(user)?.hash();
        Some(read(&[user.as_bytes(), hash.as_str().as_bytes()]))
    }

    /// Records that a connection was authenticated, and that its user is known at its address.
    fn admit(&self, credentials: &Credentials, address: IpAddr, session: &Session) {
        if session.admit() {
            self.known.insert(Claim::new(address, self.hash_of_name(credentials)), ());
        }
    }

    fn hash_of_name(&self, credentials: &Credentials) -> KeyedHash {
        self.keyed_hash(&[credentials.user_bytes()])
    }

    /// Waits for a check of credentials that are not known to be right.
    ///
    /// A waiting request keeps its head, which the answer needs; the queue bounds how many wait, so
    /// that a smaller form of the head would save little.
    async fn check(
        self: &Arc<Self>,
        pending: &Pending<'_>,
        session: &Session,
    ) -> Result<Outcome, Refusal> {
        let Pending { claim, lookup: Lookup { key, proven, .. }, .. } = pending;
        let _undecided = session.wait().ok_or(BUSY)?;
        let caller = Caller { network: claim.network, known: self.known.contains_key(claim) };
        loop {
            // The memory is consulted before each wait, and so after the previous one: a check
            // records its result before it ends.
            if self.wrong.get(&(claim.network, *key)).is_some() {
                return Err(Refusal::Unauthenticated);
            }
            match self.queue.wait(caller, *key).await? {
                Waited::Decided(true) => return Ok(Outcome::Memory),
                Waited::Decided(false) => return Err(Refusal::Unauthenticated),
                Waited::Turn(turn) => return self.run(pending, turn).await,
                // The throttle may have refused the other caller for its network, which need not be
                // this caller's.
                Waited::Abandoned if *proven => {}
                Waited::Abandoned => self.throttle.check(claim)?,
            }
        }
    }

    /// Runs bcrypt, unless the result is remembered by now.
    async fn run(self: &Arc<Self>, pending: &Pending<'_>, turn: Turn) -> Result<Outcome, Refusal> {
        let Pending { credentials, address, claim, lookup: Lookup { check, key, proven } } =
            *pending;
        if self.verified.get(&key).is_some() {
            turn.decide(true);
            return Ok(Outcome::Memory);
        }
        if self.wrong.get(&(claim.network, key)).is_some() {
            turn.decide(false);
            return Err(Refusal::Unauthenticated);
        }
        // Proven credentials are right, and need not count as a wrong attempt meanwhile.
        let attempt = if proven { None } else { Some(self.throttle.attempt(&claim)?) };
        self.runs.fetch_add(1, Ordering::Relaxed);
        let verifier = Arc::clone(self);
        let check = Arc::clone(check);
        let password = Zeroizing::new(credentials.password().to_owned());
        let user = String::from_utf8_lossy(credentials.user_bytes()).into_owned();
        // It runs to its end and its result counts, even when the client no longer waits.
        let run = tokio::task::spawn_blocking(move || {
            let right = check.passes(&password);
            if right {
                verifier.was_right(claim, key, attempt);
            } else {
                verifier.wrong.insert((claim.network, key), ());
                if let Some(attempt) = attempt {
                    verifier.throttle.was_wrong(&attempt, address, &user);
                }
            }
            turn.decide(right);
            right
        });
        match run.await {
            Ok(true) => Ok(Outcome::Bcrypt),
            _ => Err(Refusal::Unauthenticated),
        }
    }

    /// Remembers that credentials are right, and that their user is known at the network.
    fn was_right(&self, claim: Claim, key: KeyedHash, attempt: Option<Attempt>) {
        self.verified.insert(key, ());
        self.known.insert(claim, ());
        if let Some(attempt) = attempt {
            attempt.forget();
        }
    }

    /// A keyed hash of `parts`, each with its length, so that no two lists give the same bytes.
    fn keyed_hash(&self, parts: &[&[u8]]) -> KeyedHash {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        hash
    }
}

impl From<Throttled> for Refusal {
    fn from(throttled: Throttled) -> Self {
        Self::Throttled { retry_after: throttled.retry_after }
    }
}

impl From<Full> for Refusal {
    fn from(Full: Full) -> Self {
        BUSY
    }
}

#[cfg(test)]
mod tests;
