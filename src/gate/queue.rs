//! The queue for bcrypt: a fair and bounded order of password checks.
//!
//! A *check* is a run of bcrypt for one keyed hash of credentials. Callers with equal credentials
//! wait for one check; each of them takes a place, so that the number of waiting callers is bounded.
//! A caller that finds no place is refused at once and asked to come back later, and delays no other.
//!
//! Turns go round-robin among sites (an address of IPv4, a /48), within a site among its networks
//! (/64), and within a network in the order of arrival: a caller waits for one check of each other
//! site, and not for all checks that one site asks for. When there are too many checks, the newest
//! check of the site with most checks is dropped. *Known* callers, whose user was authenticated from
//! the same network within a day, have lines and places of their own and go first; all others are
//! *strangers*.

mod lines;

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use self::lines::Lines;
use super::verifier::KeyedHash;
use crate::network::{Network, Site};

/// How long a caller waits for its turn. docker gives up after 15 seconds.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Waiting checks, of known callers and of strangers each. At a quarter of a second a check, a small
/// machine could not run more of them in time.
const MAX_CHECKS: usize = 64;

/// Waiting callers of a network, of a site and in all, for known callers and for strangers each. A
/// caller holds its request's head while it waits (its body waits in the client): 32 KiB at most,
/// so strangers hold 16 MiB at most, and those of one network 2 MiB.
const MAX_CALLERS_OF_NETWORK: usize = 64;
const MAX_CALLERS_OF_SITE: usize = 256;
const MAX_CALLERS: usize = 512;

/// How many known callers have their turns in a row while a stranger waits.
const KNOWN_IN_A_ROW: u32 = 3;

/// The caller that waits, as far as its place depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) network: Network,
    /// Whether this user was authenticated from this network within a day.
    pub(super) known: bool,
}

/// How a wait ended.
#[derive(Debug)]
pub(super) enum Waited {
    /// It is this caller's turn.
    Turn(Turn),
    /// A caller with equal credentials had a turn: whether they are right.
    Decided(bool),
    /// A caller with equal credentials had a turn and came to no result.
    Abandoned,
}

/// There is no place, or no turn within [`MAX_WAIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How many more checks may run.
    free: usize,
    checks: HashMap<KeyedHash, Check>,
    known: Class,
    strangers: Class,
    /// Turns of known callers since the last one of a stranger.
    in_a_row: u32,
    /// The number of the next waiter.
    next: u64,
}

/// Lines and places of the known callers, or of the strangers.
#[derive(Debug, Default)]
struct Class {
    lines: Lines,
    places: Places,
}

/// A check that runs, or that callers wait for.
#[derive(Debug, Default)]
struct Check {
    running: bool,
    /// In the order of arrival.
    waiters: Vec<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    caller: Caller,
    wake: oneshot::Sender<Woken>,
}

#[derive(Debug)]
enum Woken {
    Slot(Slot),
    Decided(bool),
    Abandoned,
    PushedOut,
}

impl Queue {
    /// A queue that runs at most `slots` checks at a time.
    pub(super) fn new(slots: usize) -> Arc<Self> {
        let state = State {
            free: slots,
            checks: HashMap::new(),
            known: Class::default(),
            strangers: Class::default(),
            in_a_row: 0,
            next: 0,
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// How many callers wait, including those whose check runs.
    pub(super) fn waiting(&self) -> usize {
        let state = self.state();
        state.known.places.all + state.strangers.places.all
    }

    /// Waits for a check of these credentials.
    pub(super) async fn wait(
        self: &Arc<Self>,
        caller: Caller,
        credentials: KeyedHash,
    ) -> Result<Waited, Full> {
        let (place, mut woken) = self.enter(caller, credentials)?;
        self.grant();
        match tokio::time::timeout(MAX_WAIT, &mut woken).await {
            Ok(Ok(Woken::Slot(slot))) => Ok(Waited::Turn(Turn { slot, _place: place })),
            Ok(Ok(Woken::Decided(right))) => Ok(Waited::Decided(right)),
            Ok(Ok(Woken::Abandoned) | Err(_)) => Ok(Waited::Abandoned),
            Ok(Ok(Woken::PushedOut)) | Err(_) => Err(Full),
        }
    }

    /// Takes a place, and puts the check in line unless it runs already.
    fn enter(
        self: &Arc<Self>,
        caller: Caller,
        credentials: KeyedHash,
    ) -> Result<(Place, oneshot::Receiver<Woken>), Full> {
        let (wake, woken) = oneshot::channel();
        let mut state = self.state();
        state.class(caller.known).places.take(caller.network)?;
        let number = state.next;
        state.next += 1;
        let check = state.checks.entry(credentials).or_default();
        check.waiters.push(Waiter { number, caller, wake });
        if !check.running {
            state.class(caller.known).lines.push(caller.network, credentials);
            state.push_out(caller);
        }
        drop(state);
        Ok((Place { queue: Arc::clone(self), caller, credentials, number }, woken))
    }

    /// Begins waiting checks while slots are free.
    fn grant(self: &Arc<Self>) {
        loop {
            let mut state = self.state();
            let Some((credentials, wake)) = state.begin() else { return };
            // When the waiter is gone, `send` drops the slot, whose `drop` locks the state.
            drop(state);
            let slot = Slot { queue: Arc::clone(self), credentials, right: None };
            drop(wake.send(Woken::Slot(slot)));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn class(&mut self, known: bool) -> &mut Class {
        if known { &mut self.known } else { &mut self.strangers }
    }

    /// Takes the next check out of its line, and a slot for it. Returns the waiter that runs it.
    fn begin(&mut self) -> Option<(KeyedHash, oneshot::Sender<Woken>)> {
        if self.free == 0 {
            return None;
        }
        let no_strangers = self.strangers.lines.is_empty();
        let known_first = self.in_a_row < KNOWN_IN_A_ROW || no_strangers;
        let known = known_first && !self.known.lines.is_empty() || no_strangers;
        let (network, credentials) = self.class(known).lines.pop()?;
        let caller = Caller { network, known };
        let check = self.checks.get_mut(&credentials)?;
        let at = check.waiters.iter().position(|waiter| waiter.caller == caller)?;
        let waiter = check.waiters.remove(at);
        check.running = true;
        self.in_a_row = if known { self.in_a_row.saturating_add(1) } else { 0 };
        self.free -= 1;
        // All other waiters of this check wait for the result, in whichever line they are.
        self.known.lines.remove_everywhere(&credentials);
        self.strangers.lines.remove_everywhere(&credentials);
        Some((credentials, waiter.wake))
    }

    /// Drops checks until there are at most [`MAX_CHECKS`]: the newest check of the site with most
    /// checks; of several such sites, the newcomer's.
    fn push_out(&mut self, newcomer: Caller) {
        let known = newcomer.known;
        while self.count_checks(known) > MAX_CHECKS {
            let lines = &mut self.class(known).lines;
            let Some((network, credentials)) = lines.last_of_most(newcomer.network) else {
                return;
            };
            lines.remove(network, &credentials);
            let Some(check) = self.checks.get_mut(&credentials) else { return };
            let gone = |waiter: &mut Waiter| waiter.caller == Caller { network, known };
            for waiter in check.waiters.extract_if(.., gone) {
                let _ = waiter.wake.send(Woken::PushedOut);
            }
            if check.waiters.is_empty() {
                self.checks.remove(&credentials);
            }
        }
    }

    /// How many checks that do not run yet known callers, or strangers, wait for.
    fn count_checks(&self, known: bool) -> usize {
        let of_class = |check: &&Check| {
            !check.running && check.waiters.iter().any(|waiter| waiter.caller.known == known)
        };
        self.checks.values().filter(of_class).count()
    }

    /// Ends a check: all callers that wait for it learn the result.
    fn end(&mut self, credentials: &KeyedHash, right: Option<bool>) {
        self.free += 1;
        let Some(check) = self.checks.remove(credentials) else { return };
        for waiter in check.waiters {
            let _ = waiter.wake.send(right.map_or(Woken::Abandoned, Woken::Decided));
        }
    }

    /// Forgets a caller that waits no longer.
    fn leave(&mut self, caller: Caller, credentials: &KeyedHash, number: u64) {
        self.class(caller.known).places.give_back(caller.network);
        let Some(check) = self.checks.get_mut(credentials) else { return };
        check.waiters.retain(|waiter| waiter.number != number);
        if check.running || check.waiters.iter().any(|waiter| waiter.caller == caller) {
            return;
        }
        let is_abandoned = check.waiters.is_empty();
        self.class(caller.known).lines.remove(caller.network, credentials);
        if is_abandoned {
            self.checks.remove(credentials);
        }
    }
}

/// How many callers have a place, by network, by site and in all.
#[derive(Debug, Default)]
struct Places {
    networks: HashMap<Network, usize>,
    sites: HashMap<Site, usize>,
    all: usize,
}

impl Places {
    fn take(&mut self, network: Network) -> Result<(), Full> {
        let site = network.site();
        if count(&self.networks, &network) >= MAX_CALLERS_OF_NETWORK
            || count(&self.sites, &site) >= MAX_CALLERS_OF_SITE
            || self.all >= MAX_CALLERS
        {
            return Err(Full);
        }
        *self.networks.entry(network).or_default() += 1;
        *self.sites.entry(site).or_default() += 1;
        self.all += 1;
        Ok(())
    }

    fn give_back(&mut self, network: Network) {
        discount(&mut self.networks, network);
        discount(&mut self.sites, network.site());
        self.all -= 1;
    }
}

fn count<K: Hash + Eq>(counts: &HashMap<K, usize>, key: &K) -> usize {
    counts.get(key).copied().unwrap_or(0)
}

fn discount<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let std::collections::hash_map::Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

/// The right to run a check, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    slot: Slot,
    /// Dropped after the slot: a caller that runs a check waits until the check has ended.
    _place: Place,
}

impl Turn {
    /// Tells all callers that wait for this check whether the credentials are right, and ends the
    /// turn.
    pub(super) fn decide(mut self, right: bool) {
        self.slot.right = Some(right);
    }
}

/// One of the checks that may run at a time.
#[derive(Debug)]
struct Slot {
    queue: Arc<Queue>,
    credentials: KeyedHash,
    right: Option<bool>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.queue.state().end(&self.credentials, self.right);
        self.queue.grant();
    }
}

/// The place of a waiting caller.
#[derive(Debug)]
struct Place {
    queue: Arc<Queue>,
    caller: Caller,
    credentials: KeyedHash,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self { caller, credentials, number, .. } = &*self;
        self.queue.state().leave(*caller, credentials, *number);
    }
}

#[cfg(test)]
mod tests;
