//! Checks passwords: by bcrypt once, from memory after that.
//!
//! What is remembered is not the password but a keyed hash (HMAC-SHA-256 under a random key that
//! lives as long as the process) over the user's name, the bcrypt hash that the htpasswd file has
//! for them *now*, and the password. So a changed or deleted line needs no invalidation: the keys
//! under which old successes and failures lie can no longer be asked for.
//!
//! bcrypt runs on blocking threads, a few at a time; `queue.rs` says whose turn it is, and that
//! equal credentials that arrive together wait for one run. Credentials that were wrong a moment ago
//! are wrong without another run.

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

/// A keyed hash, of credentials with the line that they are held against or of a user's name.
pub(super) type KeyedHash = [u8; 32];

/// Successes that are remembered; the least used make room. One that is used stays: whoever is at
/// work must not wait again behind all who guess.
const MAX_REMEMBERED: u64 = 10_000;

/// Failures that are remembered; the least recently used make room.
const MAX_WRONG: u64 = 10_000;

/// Users who were let in from a network within this time are known there and need not queue with
/// strangers. So many of them are remembered; the least recently used make room.
const KNOWN_FOR: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_KNOWN: u64 = 10_000;

/// bcrypt is a quarter of a second of work at the usual cost: the queue is shorter after this.
const RETRY_AFTER: Duration = Duration::from_secs(5);

const BUSY: Refusal = Refusal::Busy { retry_after: RETRY_AFTER };

#[derive(Debug)]
pub(super) struct Verifier {
    users: ArcSwap<Checks>,
    key: hmac::Key,
    verified: Cache<KeyedHash, ()>,
    /// Credentials that were wrong within the throttle's window, by who sent them: what others have
    /// tried is nobody's business.
    wrong: Cache<(Network, KeyedHash), ()>,
    /// Who was let in from where.
    known: Cache<Claim, ()>,
    queue: Arc<Queue>,
    runs: AtomicU64,
    throttle: Throttle,
}

/// What credentials are held against.
struct Found<'a> {
    check: &'a Arc<Check>,
    /// Of the credentials, with the line that they are held against.
    key: KeyedHash,
    /// Whether this connection has shown these very credentials before, and was let in.
    proven: bool,
}

/// A request that cannot be decided from memory.
struct Asking<'a> {
    credentials: &'a Credentials,
    address: IpAddr,
    claim: Claim,
    /// Of the credentials, with the line that they are held against.
    key: KeyedHash,
    check: &'a Arc<Check>,
    /// Whether this connection has shown these very credentials before, and was let in.
    proven: bool,
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

    /// How many runs of bcrypt may go on at once: half of the processors, so that wrong passwords
    /// at full rate leave the other half to those who are in.
    fn slots() -> usize {
        std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).max(1))
    }

    pub(super) fn set_users(&self, users: &Htpasswd) {
        self.users.store(Arc::new(Checks::new(users)));
    }

    pub(super) fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// How many requests wait for a check.
    pub(super) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Decides about credentials that came from `address`, as far as that takes neither bcrypt nor a
    /// wait; `None` where it takes them.
    pub(super) fn recall(
        &self,
        credentials: &Credentials,
        address: IpAddr,
        session: &Session,
    ) -> Option<Result<Outcome, Refusal>> {
        let users = self.users.load();
        let found = match self.look_up(&users, credentials, address, session) {
            Ok(found) => found,
            Err(throttled) => return Some(Err(throttled.into())),
        };
        // Only credentials of users are ever remembered, so the check is that of a line.
        self.verified.get(&found.key)?;
        self.is_in_force(credentials, found.check)?.then(|| {
            self.admit(credentials, address, session);
            Ok(Outcome::Memory)
        })
    }

    /// Lets a user in who comes from `address` with the right password, and says by what.
    pub(super) async fn verify(
        self: &Arc<Self>,
        credentials: &Credentials,
        address: IpAddr,
        session: &Session,
    ) -> Result<Outcome, Refusal> {
        let mut outcome = Outcome::Memory;
        loop {
            let users = self.users.load_full();
            let Found { check, key, proven } =
                self.look_up(&users, credentials, address, session)?;
            if self.verified.get(&key).is_none() {
                let claim = Claim::new(address, self.hash_of_name(credentials));
                let asking = Asking { credentials, address, claim, key, check, proven };
                if self.ask(&asking, session).await? == Outcome::Bcrypt {
                    outcome = Outcome::Bcrypt;
                }
            }
            match self.is_in_force(credentials, check) {
                Some(true) => {
                    self.admit(credentials, address, session);
                    return Ok(outcome);
                }
                // While bcrypt ran, the line has changed: the password may be the old one, and it
                // may be the same one with another salt.
                Some(false) => {}
                None => return Err(Refusal::Unauthenticated),
            }
        }
    }

    /// Finds what credentials are held against, unless the throttle refuses them.
    fn look_up<'a>(
        &self,
        users: &'a Checks,
        credentials: &Credentials,
        address: IpAddr,
        session: &Session,
    ) -> Result<Found<'a>, Throttled> {
        // The file has only names that are text.
        let check = match credentials.user().and_then(|user| users.of(user)) {
            Some(check) => check,
            None => users.dummy(self.hash_of_name(credentials)),
        };
        let key = self.keyed_hash(&[
            credentials.user_bytes(),
            check.hash().as_str().as_bytes(),
            credentials.password(),
        ]);
        let proven = session.presents(&key);
        if !proven && self.throttle.is_at_work() {
            self.throttle.check(&Claim::new(address, self.hash_of_name(credentials)))?;
        }
        Ok(Found { check, key, proven })
    }

    /// Whether a check is that of the user's line now; `None` when the file has no such user.
    fn is_in_force(&self, credentials: &Credentials, check: &Check) -> Option<bool> {
        let users = self.users.load();
        let now = users.of(credentials.user()?)?;
        Some(now.hash() == check.hash())
    }

    /// Notes that a connection was let in, and where its user is known from now on.
    fn admit(&self, credentials: &Credentials, address: IpAddr, session: &Session) {
        if session.admit() {
            self.known.insert(Claim::new(address, self.hash_of_name(credentials)), ());
        }
    }

    fn hash_of_name(&self, credentials: &Credentials) -> KeyedHash {
        self.keyed_hash(&[credentials.user_bytes()])
    }

    /// Decides about credentials that are not known to be right.
    ///
    /// What waits here keeps its request's head, which is needed for the answer; the queue bounds
    /// how many do, so that a smaller form of it would save nothing that matters.
    async fn ask(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        session: &Session,
    ) -> Result<Outcome, Refusal> {
        let Asking { claim, key, .. } = asking;
        let _undecided = session.wait().ok_or(BUSY)?;
        let caller = Caller { network: claim.network, known: self.known.contains_key(claim) };
        loop {
            // Each look at what is remembered precedes a wait, and follows the one before it: what
            // a check found is remembered before the check ends.
            if self.wrong.get(&(claim.network, *key)).is_some() {
                return Err(Refusal::Unauthenticated);
            }
            match self.queue.wait(caller, *key).await? {
                Waited::Decided(true) => return Ok(Outcome::Memory),
                Waited::Decided(false) => return Err(Refusal::Unauthenticated),
                Waited::Turn(turn) => return self.run(asking, turn).await,
                // What is held against the network that somebody else came from is not held against
                // this one.
                Waited::Abandoned if asking.proven => {}
                Waited::Abandoned => self.throttle.check(claim)?,
            }
        }
    }

    /// Runs bcrypt, unless that has become needless.
    async fn run(self: &Arc<Self>, asking: &Asking<'_>, turn: Turn) -> Result<Outcome, Refusal> {
        let Asking { credentials, address, claim, key, check, proven } = *asking;
        if self.verified.get(&key).is_some() {
            turn.decide(true);
            return Ok(Outcome::Memory);
        }
        if self.wrong.get(&(claim.network, key)).is_some() {
            turn.decide(false);
            return Err(Refusal::Unauthenticated);
        }
        // What this connection has proven is right and need not be counted meanwhile.
        let attempt = if proven { None } else { Some(self.throttle.attempt(&claim)?) };
        self.runs.fetch_add(1, Ordering::Relaxed);
        let verifier = Arc::clone(self);
        let (check, password) =
            (Arc::clone(check), Zeroizing::new(credentials.password().to_owned()));
        let user = String::from_utf8_lossy(credentials.user_bytes()).into_owned();
        // It ends, and its result holds, whether or not its client waits for it.
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

    /// Remembers that credentials are right, and who came with them from where.
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
