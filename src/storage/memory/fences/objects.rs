//! Fences as values, as a store of objects keeps them, which has no locks.
//!
//! Each repository has a generation, which is odd while its fence is closed. The collection has the
//! run that is under way, the stripe that is closed, and how often each stripe was swept. No value
//! recurs. A process notes the values when it enters, and validates when it finds them unchanged.
//! While a run is under way it leaves a stamp for the bytes that it relies on and reads the values
//! once more: it sees the stripe closed or swept, or the sweep sees the stamp.
//!
//! A process that dies leaves its fence closed in a store of objects, until others break it; here the
//! fence opens with the drop.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::SystemTime,
};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{Alone, Memory};
use crate::storage::{
    Error, Key, Storage as _,
    fences::{Closed, Entered, Fenced, Part, Reliance, Run, Stripe, Sweep, Validity},
    memory::locked,
};

#[cfg(test)]
mod tests;

/// The values, and the processes that wait for a change of them.
#[derive(Debug, Default)]
pub(super) struct Values {
    now: Mutex<Now>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Now {
    /// Of each repository whose fence was ever closed.
    generations: BTreeMap<Key, u64>,
    /// How often a run began or ended: odd while one is under way.
    run: u64,
    /// The stripe that is being swept.
    closed: Option<Stripe>,
    /// How often each stripe was swept.
    sweeps: BTreeMap<Stripe, u64>,
    /// Bytes that were relied on since the run began.
    stamps: BTreeSet<Key>,
}

const fn is_open(generation: u64) -> bool {
    generation.is_multiple_of(2)
}

impl Now {
    fn generation(&self, repository: &Key) -> u64 {
        self.generations.get(repository).copied().unwrap_or(0)
    }

    fn sweeps_of(&self, stripe: Stripe) -> u64 {
        self.sweeps.get(&stripe).copied().unwrap_or(0)
    }

    /// Whether the stripe of some of these bytes is being swept.
    fn is_closed(&self, bytes: &[Fenced]) -> bool {
        bytes.iter().any(|fenced| self.closed == Some(fenced.stripe))
    }

    /// Gives a repository the next generation.
    fn turn(&mut self, repository: &Key) {
        *self.generations.entry(repository.clone()).or_default() += 1;
    }
}

impl Memory {
    /// Reads the values until `look` finds what it waits for.
    async fn until<T>(&self, mut look: impl FnMut(&mut Now) -> Option<T>) -> T {
        let Values { now, changed } = &self.shared.guards.values;
        loop {
            self.step().await;
            let change = changed.notified();
            if let Some(found) = look(&mut locked(now)) {
                return found;
            }
            change.await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        let Values { now, changed } = &self.shared.guards.values;
        change(&mut locked(now));
        changed.notify_waiters();
    }

    pub(super) async fn enter_noted(&self, on: Reliance) -> Result<Box<dyn Entered>, Error> {
        Ok(self.note(on).await)
    }

    async fn note(&self, on: Reliance) -> Box<Noted> {
        let repository = match on.repository {
            Some(Fenced { key, .. }) => {
                let open = |now: &mut Now| Some(now.generation(&key)).filter(|it| is_open(*it));
                let generation = self.until(open).await;
                Some((key, generation))
            }
            None => None,
        };
        let bytes: Vec<Fenced> = on.bytes.into_iter().collect();
        let open = |now: &mut Now| (!now.is_closed(&bytes)).then(|| now.sweeps.clone());
        let sweeps = self.until(open).await;
        Box::new(Noted { memory: self.clone(), repository, bytes, sweeps })
    }

    pub(super) async fn close_marked(&self, of: Fenced) -> Result<Box<dyn Closed>, Error> {
        let Fenced { key, .. } = of;
        let close = |now: &mut Now| is_open(now.generation(&key)).then(|| now.turn(&key));
        self.until(close).await;
        let opens = Box::new(Opens { memory: self.clone(), what: What::Repository(key) });
        Ok(Box::new(Alone { memory: self.clone(), stamps: BTreeSet::new(), opens }))
    }

    pub(super) async fn begin_marked(&self) -> Result<Box<dyn Run>, Error> {
        let began = self.time().await?;
        self.until(|now| is_open(now.run).then(|| now.run += 1)).await;
        let ends = Opens { memory: self.clone(), what: What::Run };
        Ok(Box::new(MarkedRun { memory: self.clone(), began, ends }))
    }
}

/// What opens when an [`Opens`] is dropped.
#[derive(Debug)]
enum What {
    Repository(Key),
    Stripe(Stripe),
    Run,
}

#[derive(Debug)]
struct Opens {
    memory: Memory,
    what: What,
}

impl Drop for Opens {
    fn drop(&mut self) {
        self.memory.change(|now| match &self.what {
            What::Repository(key) => now.turn(key),
            What::Stripe(stripe) => {
                now.closed = None;
                *now.sweeps.entry(*stripe).or_default() += 1;
            }
            What::Run => {
                now.run += 1;
                now.stamps.clear();
            }
        });
    }
}

/// The values when a process entered.
#[derive(Debug)]
struct Noted {
    memory: Memory,
    repository: Option<(Key, u64)>,
    bytes: Vec<Fenced>,
    /// How often each stripe was swept.
    sweeps: BTreeMap<Stripe, u64>,
}

impl Noted {
    async fn is_repository_unchanged(&self) -> bool {
        let Some((key, noted)) = &self.repository else { return true };
        let open = |now: &mut Now| Some(now.generation(key)).filter(|it| is_open(*it));
        self.memory.until(open).await == *noted
    }

    async fn are_bytes_unchanged(&self) -> bool {
        if self.bytes.is_empty() {
            return true;
        }
        let mut stamped = None;
        loop {
            let is_swept = |now: &Now, Fenced { stripe, .. }: &Fenced| {
                now.sweeps_of(*stripe) != self.sweeps.get(stripe).copied().unwrap_or(0)
            };
            let look = |now: &mut Now| {
                let is_swept = || self.bytes.iter().any(|bytes| is_swept(now, bytes));
                (!now.is_closed(&self.bytes)).then(|| (!is_swept()).then_some(now.run))
            };
            let Some(run) = self.memory.until(look).await else { return false };
            if is_open(run) || stamped == Some(run) {
                return true;
            }
            let keys = self.bytes.iter().map(|bytes| bytes.key.clone());
            self.memory.step().await;
            self.memory.change(|now| now.stamps.extend(keys));
            stamped = Some(run);
        }
    }
}

#[async_trait]
impl Entered for Noted {
    fn add_needed(&mut self, bytes: Vec<Fenced>) {
        self.bytes.extend(bytes);
    }

    async fn renew(&self, bytes: &Key) -> Result<bool, Error> {
        Ok(self.memory.size(bytes).await?.is_some())
    }

    async fn validate(&mut self, part: Part) -> Result<Validity, Error> {
        let valid = self.is_repository_unchanged().await
            && (part == Part::Repository || self.are_bytes_unchanged().await);
        Ok(if valid { Validity::Valid } else { Validity::Stale })
    }
}

/// A garbage collection. No other runs beside it.
#[derive(Debug)]
struct MarkedRun {
    memory: Memory,
    began: SystemTime,
    ends: Opens,
}

#[async_trait]
impl Run for MarkedRun {
    fn began(&self) -> SystemTime {
        self.began
    }

    async fn sweep(&self, stripe: Stripe) -> Result<Box<dyn Sweep>, Error> {
        self.memory.step().await;
        self.memory.change(|now| now.closed = Some(stripe));
        let opens = Box::new(Opens { memory: self.memory.clone(), what: What::Stripe(stripe) });
        self.memory.step().await;
        let stamps = locked(&self.memory.shared.guards.values.now).stamps.clone();
        Ok(Box::new(Alone { memory: self.memory.clone(), stamps, opens }))
    }

    async fn end(self: Box<Self>) -> Result<(), Error> {
        self.memory.step().await;
        drop(self.ends);
        Ok(())
    }
}
