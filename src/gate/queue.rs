//! The queue for bcrypt: who waits for a check, and whose turn is next.
//!
//! A *check* is a run of bcrypt for one keyed hash of credentials. Callers with equal credentials
//! wait for one check; each of them takes a place, so that what waits is bounded. Whoever finds no
//! place is told to come back, and has cost the others nothing.
//!
//! Turns go round among sites (an address of IPv4, a /48), within a site among its networks (/64),
//! and within a network in the order of arrival: a caller waits for one check of each site that
//! waits, and not behind all that a single one asks for. When there are too many checks, the last of
//! the site that has most has to go. Callers who were let in from the same network lately have
//! lines and places of their own, and go first.

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

/// How long a caller waits. docker gives up after 15 seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Checks that wait, of those who are known and of strangers each. At a quarter of a second a check
/// more could not be done in time on a small machine.
const MAX_CHECKS: usize = 64;

/// Callers of a network, of a site and of all, for those who are known and for strangers each. A
/// caller holds its request's head while it waits (its body waits in the client): 32 KiB at most,
/// so strangers hold 16 MiB at most, and those of one network 2 MiB.
const MAX_CALLERS_OF_NETWORK: usize = 64;
const MAX_CALLERS_OF_SITE: usize = 256;
const MAX_CALLERS: usize = 512;

/// After so many turns of those who are known, a stranger has one.
const KNOWN_IN_A_ROW: u32 = 3;

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) network: Network,
    /// Whether this user was let in from this network lately.
    pub(super) known: bool,
}

/// What became of waiting.
#[derive(Debug)]
pub(super) enum Waited {
    /// It is this caller's turn.
    Turn(Turn),
    /// Somebody with equal credentials had a turn: whether they are right.
    Decided(bool),
    /// Somebody with equal credentials had a turn and came to no result.
    Abandoned,
}

/// There is no place, or no turn within the time that clients wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Checks that may begin.
    free: usize,
    checks: HashMap<KeyedHash, Check>,
    known: Lines,
    strangers: Lines,
    /// Turns of known callers since the last one of a stranger.
    in_a_row: u32,
    places: Places,
    /// The number of the next waiter.
    next: u64,
}

/// A check that runs, or that is waited for.
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
    /// A queue for so many checks at a time.
    pub(super) fn new(slots: usize) -> Arc<Self> {
        let state = State {
            free: slots,
            checks: HashMap::new(),
            known: Lines::default(),
            strangers: Lines::default(),
            in_a_row: 0,
            places: Places::default(),
            next: 0,
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// How many callers wait, those whose check runs included.
    pub(super) fn waiting(&self) -> usize {
        self.state().places.all.values().sum()
    }

    /// Waits for a check of these credentials.
    pub(super) async fn wait(
        self: &Arc<Self>,
        caller: Caller,
        credentials: KeyedHash,
    ) -> Result<Waited, Full> {
        let (place, mut woken) = self.enter(caller, credentials)?;
        self.grant();
        match tokio::time::timeout(PATIENCE, &mut woken).await {
            Ok(Ok(Woken::Slot(slot))) => Ok(Waited::Turn(Turn { slot, _place: place })),
            Ok(Ok(Woken::Decided(right))) => Ok(Waited::Decided(right)),
            Ok(Ok(Woken::Abandoned) | Err(_)) => Ok(Waited::Abandoned),
            Ok(Ok(Woken::PushedOut)) | Err(_) => Err(Full),
        }
    }

    /// Takes a place, and stands in line unless the check runs already.
    fn enter(
        self: &Arc<Self>,
        caller: Caller,
        credentials: KeyedHash,
    ) -> Result<(Place, oneshot::Receiver<Woken>), Full> {
        let (wake, woken) = oneshot::channel();
        let mut state = self.state();
        state.places.take(caller)?;
        let number = state.next;
        state.next += 1;
        let check = state.checks.entry(credentials).or_default();
        check.waiters.push(Waiter { number, caller, wake });
        if !check.running {
            state.lines(caller.known).push(caller.network, credentials);
            state.push_out(caller);
        }
        drop(state);
        Ok((Place { queue: Arc::clone(self), caller, credentials, number }, woken))
    }

    /// Lets checks begin for which there is a slot.
    fn grant(self: &Arc<Self>) {
        loop {
            let mut state = self.state();
            let Some((credentials, wake)) = state.begin() else { return };
            // A slot that nobody takes is given back by its `drop`, which locks the state.
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
    fn lines(&mut self, known: bool) -> &mut Lines {
        if known { &mut self.known } else { &mut self.strangers }
    }

    /// Takes the next check out of its line and a slot for it: who is to run it.
    fn begin(&mut self) -> Option<(KeyedHash, oneshot::Sender<Woken>)> {
        if self.free == 0 {
            return None;
        }
        let known_first = self.in_a_row < KNOWN_IN_A_ROW || self.strangers.is_empty();
        let known = known_first && !self.known.is_empty() || self.strangers.is_empty();
        let (network, credentials) = self.lines(known).pop()?;
        let caller = Caller { network, known };
        let check = self.checks.get_mut(&credentials)?;
        let at = check.waiters.iter().position(|waiter| waiter.caller == caller)?;
        let waiter = check.waiters.remove(at);
        check.running = true;
        self.in_a_row = if known { self.in_a_row.saturating_add(1) } else { 0 };
        self.free -= 1;
        // Others wait for the result, wherever they stood.
        self.known.remove_everywhere(&credentials);
        self.strangers.remove_everywhere(&credentials);
        Some((credentials, waiter.wake))
    }

    /// Sends callers away until there are not too many checks: the last of the site that has most,
    /// which is the newcomer's if it has as many as another.
    fn push_out(&mut self, newcomer: Caller) {
        let known = newcomer.known;
        while self.count_checks(known) > MAX_CHECKS {
            let Some((network, credentials)) = self.lines(known).last_of_most(newcomer.network)
            else {
                return;
            };
            self.lines(known).remove(network, &credentials);
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

    /// How many checks known callers or strangers wait for, those that run aside.
    fn count_checks(&self, known: bool) -> usize {
        let of_class = |check: &&Check| {
            !check.running && check.waiters.iter().any(|waiter| waiter.caller.known == known)
        };
        self.checks.values().filter(of_class).count()
    }

    /// Ends a check: all who wait for it learn the result.
    fn end(&mut self, credentials: &KeyedHash, right: Option<bool>) {
        self.free += 1;
        let Some(check) = self.checks.remove(credentials) else { return };
        for waiter in check.waiters {
            let _ = waiter.wake.send(right.map_or(Woken::Abandoned, Woken::Decided));
        }
    }

    /// Forgets somebody who waits no longer.
    fn leave(&mut self, caller: Caller, credentials: &KeyedHash, number: u64) {
        self.places.give_back(caller);
        let Some(check) = self.checks.get_mut(credentials) else { return };
        check.waiters.retain(|waiter| waiter.number != number);
        let (running, alone) = (check.running, check.waiters.is_empty());
        if running || check.waiters.iter().any(|waiter| waiter.caller == caller) {
            return;
        }
        self.lines(caller.known).remove(caller.network, credentials);
        if alone {
            self.checks.remove(credentials);
        }
    }
}

/// How many callers have a place.
#[derive(Debug, Default)]
struct Places {
    networks: HashMap<(bool, Network), usize>,
    sites: HashMap<(bool, Site), usize>,
    all: HashMap<bool, usize>,
}

impl Places {
    fn take(&mut self, Caller { network, known }: Caller) -> Result<(), Full> {
        let (in_network, in_site) = ((known, network), (known, network.site()));
        if count(&self.networks, &in_network) >= MAX_CALLERS_OF_NETWORK
            || count(&self.sites, &in_site) >= MAX_CALLERS_OF_SITE
            || count(&self.all, &known) >= MAX_CALLERS
        {
            return Err(Full);
        }
        *self.networks.entry(in_network).or_default() += 1;
        *self.sites.entry(in_site).or_default() += 1;
        *self.all.entry(known).or_default() += 1;
        Ok(())
    }

    fn give_back(&mut self, Caller { network, known }: Caller) {
        discount(&mut self.networks, (known, network));
        discount(&mut self.sites, (known, network.site()));
        discount(&mut self.all, known);
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
    /// Behind the slot: who runs a check waits until it has ended.
    _place: Place,
}

impl Turn {
    /// Tells all who wait for this check whether the credentials are right, and ends the turn.
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

/// The place of a caller who waits.
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
