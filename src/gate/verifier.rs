//! Checks passwords: by bcrypt once, from memory after that.
//!
//! What is remembered is not the password but a keyed hash (HMAC-SHA-256 under a random key that
//! lives as long as the process) over the user's name, the bcrypt hash that the htpasswd file has
//! for them *now*, and the password. So a changed or deleted line needs no invalidation: the keys
//! under which old successes lie can no longer be asked for.
//!
//! bcrypt runs on blocking threads, at most [`Verifier::slots`] at a time, and a bounded number of
//! callers waits for a turn. Equal credentials that arrive together wait for one run. A user who
//! does not exist costs the run that one who does would cost. A password that is stored as one of
//! the quick hashes that the file may have as well costs a bcrypt on top: whose it is must not show
//! in the time, and guessing it here must not be quicker.

use std::{
    collections::HashMap,
    hint::black_box,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::{hmac, rand::SystemRandom};
use futures_util::FutureExt as _;
use moka::future::Cache;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::{
    HtpasswdOptions, NoRandomness, Refusal,
    basic::Credentials,
    htpasswd::{BcryptHash, Htpasswd, PasswordHash},
    outcomes::Outcome,
    throttle::{Claim, Throttle, Throttled},
};

/// Successes that are remembered; the least used make room. One that is used stays: whoever is at
/// work must not wait again behind all who guess.
const MAX_REMEMBERED: u64 = 10_000;

/// Callers that may wait for bcrypt. At a quarter of a second each the last waits some seconds,
/// which clients bear.
const MAX_WAITING: usize = 64;

/// bcrypt is a quarter of a second of work at the usual cost: the queue is shorter after this.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The cost that a user who does not exist is given when nobody does, and the one of the bcrypt that
/// a quick hash comes with when nobody has bcrypt.
const USUAL_COST: u8 = 12;

#[derive(Debug)]
pub(super) struct Verifier {
    users: ArcSwap<Users>,
    key: hmac::Key,
    verified: Cache<[u8; 32], ()>,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    runs: AtomicU64,
    throttle: Throttle,
}

/// The users in force.
#[derive(Debug)]
struct Users {
    checks: HashMap<String, Arc<Check>>,
    /// Checks that no password passes, one for each user and as much work: whoever is not a user
    /// gets one of them.
    decoys: Vec<Arc<Check>>,
}

/// What a password is held against.
#[derive(Debug)]
struct Check {
    hash: PasswordHash,
    /// What is done as well, and for nothing, when the hash is a quick one.
    ballast: Option<BcryptHash>,
}

impl Check {
    fn new(hash: PasswordHash, cost: u8) -> Self {
        let ballast = match hash {
            PasswordHash::Bcrypt(_) => None,
            PasswordHash::Legacy(_) => Some(BcryptHash::decoy(cost)),
        };
        Self { hash, ballast }
    }

    fn passes(&self, password: &[u8]) -> bool {
        let right = self.hash.verify(password);
        if let Some(ballast) = &self.ballast {
            // Nobody wants to know, and the compiler must not notice.
            black_box(ballast.verify(password));
        }
        right
    }
}

impl Verifier {
    pub(super) fn new(users: &Htpasswd, options: &HtpasswdOptions) -> Result<Self, NoRandomness> {
        let remember = options.cachettl;
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| NoRandomness)?;
        let verified = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_idle(remember).build();
        Ok(Self {
            users: ArcSwap::from_pointee(Users::new(users)),
            key,
            verified,
            slots: Arc::new(Semaphore::new(Self::slots())),
            waiting: AtomicUsize::new(0),
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
        self.users.store(Arc::new(Users::new(users)));
    }

    pub(super) fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// Lets a user in who comes from `address` with the right password, and says by what.
    pub(super) async fn verify(
        &self,
        credentials: &Credentials,
        address: IpAddr,
    ) -> Result<Outcome, Refusal> {
        let user = credentials.user();
        let mut outcome = Outcome::Memory;
        let claim = || Claim::new(address, self.tag(&[user.as_bytes()]));
        if self.throttle.is_at_work() {
            self.throttle.check(&claim())?;
        }
        loop {
            let users = self.users.load_full();
            let check = match users.checks.get(user) {
                Some(check) => check,
                None => users.decoy(self.tag(&[user.as_bytes()])),
            };
            let key = self.tag(&[
                user.as_bytes(),
                check.hash.as_str().as_bytes(),
                credentials.password().as_bytes(),
            ]);
            if self.verified.get(&key).await.is_none() {
                // On the heap: every request would carry room for this around, and hardly any
                // needs it.
                if self.check(key, check, credentials, (address, claim())).boxed().await? {
                    outcome = Outcome::Bcrypt;
                }
            }
            match self.users.load().checks.get(user) {
                Some(now) if now.hash == check.hash => return Ok(outcome),
                // While bcrypt ran, the line has changed: the password may be the old one, and it
                // may be the same one with another salt.
                Some(_) => {}
                None => return Err(Refusal::Unauthenticated),
            }
        }
    }

    /// Checks credentials that are not known to be right; `false` when somebody else's check of the
    /// same ones was waited for.
    async fn check(
        &self,
        key: [u8; 32],
        check: &Arc<Check>,
        credentials: &Credentials,
        (address, claim): (IpAddr, Claim),
    ) -> Result<bool, Refusal> {
        loop {
            let mut asked = false;
            let checked = self
                .verified
                .try_get_with(key, async {
                    asked = true;
                    let attempt = self.throttle.attempt(&claim)?;
                    let right = self.compare(check, credentials).await;
                    match right {
                        Err(Refusal::Unauthenticated) => {
                            self.throttle.was_wrong(&attempt, address, credentials.user());
                        }
                        _ => attempt.forget(),
                    }
                    right
                })
                .await;
            // What goes wrong for one of those who wait together goes wrong for all, but for what
            // is held against the place that one of them comes from.
            match checked.map_err(|refusal| *refusal) {
                Err(Refusal::Throttled { .. }) if !asked => self.throttle.check(&claim)?,
                checked => return checked.map(|()| asked),
            }
        }
    }

    /// Runs bcrypt.
    async fn compare(&self, check: &Arc<Check>, credentials: &Credentials) -> Result<(), Refusal> {
        let busy = Refusal::Busy { retry_after: RETRY_AFTER };
        let turn = {
            let _waiting = Waiting::enter(&self.waiting).ok_or(busy)?;
            Arc::clone(&self.slots).acquire_owned().await.map_err(|_| busy)?
        };
        self.runs.fetch_add(1, Ordering::Relaxed);
        let check = Arc::clone(check);
        let password = Zeroizing::new(credentials.password().to_owned());
        let right = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            check.passes(password.as_bytes())
        });
        match right.await {
            Ok(true) => Ok(()),
            _ => Err(Refusal::Unauthenticated),
        }
    }

    /// A keyed hash of `parts`, each with its length, so that no two lists give the same bytes.
    fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
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

impl Users {
    fn new(file: &Htpasswd) -> Self {
        let hashes = || file.entries().iter().map(|entry| &entry.hash);
        let mut costs: Vec<u8> = hashes()
            .filter_map(|hash| match hash {
                PasswordHash::Bcrypt(hash) => Some(hash.cost()),
                PasswordHash::Legacy(_) => None,
            })
            .collect();
        costs.sort_unstable();
        let usual = costs.get(costs.len() / 2).copied().unwrap_or(USUAL_COST);
        let check = |hash| Arc::new(Check::new(hash, usual));
        let checks = file.entries().iter();
        let checks = checks.map(|entry| (entry.user.clone(), check(entry.hash.clone()))).collect();
        let mut decoys: Vec<_> = hashes().map(|hash| check(hash.decoy())).collect();
        if decoys.is_empty() {
            decoys.push(check(PasswordHash::Bcrypt(BcryptHash::decoy(usual))));
        }
        Self { checks, decoys }
    }

    /// The decoy of somebody who is not a user: always the same one, and its work spread over names
    /// as that of users is.
    fn decoy(&self, tag: [u8; 32]) -> &Arc<Check> {
        let [a, b, c, d, ..] = tag;
        let index = u32::from_be_bytes([a, b, c, d]) as usize % self.decoys.len();
        &self.decoys[index]
    }
}

/// A place in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};

    use super::*;
    use crate::gate::htpasswd::Formats;

    fn users(text: &str) -> Htpasswd {
        Htpasswd::parse(text.as_bytes(), Formats::WithLegacy)
    }

    /// The only user, with a salt of its own at each call.
    fn ann(password: &str) -> Htpasswd {
        users(&format!("ann:{}\n", bcrypt::hash(password, 4).unwrap()))
    }

    /// What becomes of ann's password when the file changes while it is checked.
    async fn verified_while_it_becomes(after: &Htpasswd) -> Result<Outcome, Refusal> {
        let verifier = Verifier::new(&ann("right"), &HtpasswdOptions::default()).unwrap();
        let value = format!("Basic {}", BASE64_STANDARD.encode("ann:right"));
        let credentials = Credentials::parse(value.as_bytes()).unwrap();
        // bcrypt has to wait until the file has changed.
        let slots = u32::try_from(Verifier::slots()).unwrap();
        let busy = verifier.slots.acquire_many(slots).await.unwrap();
        let (verified, ()) = tokio::join!(biased; verifier.verify(&credentials, [192, 0, 2, 1].into()), async {
            assert_eq!(verifier.waiting.load(Ordering::Relaxed), 1, "the old line is under way");
            verifier.set_users(after);
            drop(busy);
        });
        verified
    }

    #[tokio::test]
    async fn a_line_that_changes_meanwhile_is_checked_as_it_is_now() {
        assert_eq!(verified_while_it_becomes(&ann("right")).await, Ok(Outcome::Bcrypt));
        let refused = Err(Refusal::Unauthenticated);
        assert_eq!(verified_while_it_becomes(&ann("another")).await, refused);
        assert_eq!(verified_while_it_becomes(&users("")).await, refused);
    }

    #[test]
    fn a_quick_hash_comes_with_the_bcrypt_that_most_users_have() {
        let hash = |cost| BcryptHash::decoy(cost).as_str().to_owned();
        let quick = "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=";
        for (file, cost) in [
            (format!("a:{quick}\n"), USUAL_COST),
            (format!("a:{quick}\nb:{}\n", hash(5)), 5),
            (format!("a:{quick}\nb:{}\nc:{}\nd:{}\n", hash(4), hash(6), hash(16)), 6),
        ] {
            let users = Users::new(&users(&file));
            let ballast = |check: &Arc<Check>| check.ballast.as_ref().map(BcryptHash::cost);
            assert_eq!(ballast(&users.checks["a"]), Some(cost), "{file}");
            // Who is no user is told apart neither by having it nor by lacking it.
            let of = |mut ballasts: Vec<_>| {
                ballasts.sort_unstable();
                ballasts
            };
            let of_users = of(users.checks.values().map(ballast).collect());
            assert_eq!(of(users.decoys.iter().map(ballast).collect()), of_users, "{file}");
        }
    }
}
