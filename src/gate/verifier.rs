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
use futures_util::FutureExt as _;
use moka::{policy::EvictionPolicy, sync::Cache};
use zeroize::Zeroizing;

use super::{
    HtpasswdOptions, NoRandomness, Refusal,
    basic::Credentials,
    checks::{Check, Checks},
    htpasswd::Htpasswd,
    outcomes::Outcome,
    queue::{Caller, Full, Queue, Turn, Waited},
    session::Session,
    throttle::{Attempt, Claim, Throttle, Throttled},
};
use crate::network::Network;

/// A keyed hash, of credentials with the line that they are held against or of a user's name.
pub(super) type Tag = [u8; 32];

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
    verified: Cache<Tag, ()>,
    /// Credentials that were wrong within the throttle's window, by who sent them: what others have
    /// tried is nobody's business.
    wrong: Cache<(Network, Tag), ()>,
    /// Who was let in from where.
    known: Cache<Claim, ()>,
    queue: Arc<Queue>,
    runs: AtomicU64,
    throttle: Throttle,
}

/// A request that cannot be decided from memory.
struct Asking<'a> {
    credentials: &'a Credentials,
    address: IpAddr,
    claim: Claim,
    /// Of the credentials, with the line that they are held against.
    key: Tag,
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

    /// Lets a user in who comes from `address` with the right password, and says by what.
    pub(super) async fn verify(
        self: &Arc<Self>,
        credentials: &Credentials,
        address: IpAddr,
        session: &Session,
    ) -> Result<Outcome, Refusal> {
        // The file has no other names than text; whoever has one is no user.
        let user = credentials.user();
        let name = || self.tag(&[credentials.user_bytes()]);
        let mut outcome = Outcome::Memory;
        loop {
            let users = self.users.load_full();
            let check = match user.and_then(|user| users.of(user)) {
                Some(check) => check,
                None => users.decoy(name()),
            };
            let key = self.tag(&[
                credentials.user_bytes(),
                check.hash().as_str().as_bytes(),
                credentials.password(),
            ]);
            let proven = session.presents(&key);
            if !proven && self.throttle.is_at_work() {
                self.throttle.check(&Claim::new(address, name()))?;
            }
            if self.verified.get(&key).is_none() {
                let claim = Claim::new(address, name());
                let asking = Asking { credentials, address, claim, key, check, proven };
                // On the heap: every request would carry room for this around, and hardly any
                // needs it.
                if self.ask(&asking, session).boxed().await? == Outcome::Bcrypt {
                    outcome = Outcome::Bcrypt;
                }
            }
            match user
                .and_then(|user| self.users.load().of(user).map(|now| now.hash() == check.hash()))
            {
                Some(true) => {
                    if session.admit() {
                        self.known.insert(Claim::new(address, name()), ());
                    }
                    return Ok(outcome);
                }
                // While bcrypt ran, the line has changed: the password may be the old one, and it
                // may be the same one with another salt.
                Some(false) => {}
                None => return Err(Refusal::Unauthenticated),
            }
        }
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
    fn was_right(&self, claim: Claim, key: Tag, attempt: Option<Attempt>) {
        self.verified.insert(key, ());
        self.known.insert(claim, ());
        if let Some(attempt) = attempt {
            attempt.forget();
        }
    }

    /// A keyed hash of `parts`, each with its length, so that no two lists give the same bytes.
    fn tag(&self, parts: &[&[u8]]) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut tag = [0; 32];
        for (to, from) in tag.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        tag
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
