//! Fences as locks: nothing changes between an entry and its end, and every validation is valid.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use async_trait::async_trait;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::{Alone, Memory};
use crate::storage::{
    Error, Key, Storage as _,
    fences::{Closed, Entered, Fenced, Part, Reliance, Run, Stripe, Sweep, Validity},
    memory::locked,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Repository,
    Bytes,
}

type Lock = Arc<RwLock<()>>;

/// One lock for each stripe that was ever used.
#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<BTreeMap<(Kind, Stripe), Lock>>);

impl Memory {
    fn lock(&self, kind: Kind, stripe: Stripe) -> Lock {
        let Locks(locks) = &self.shared.guards.locks;
        Arc::clone(locked(locks).entry((kind, stripe)).or_default())
    }

    async fn share(&self, kind: Kind, stripe: Stripe) -> OwnedRwLockReadGuard<()> {
        self.step().await;
        self.lock(kind, stripe).read_owned().await
    }

    async fn exclude(&self, kind: Kind, stripe: Stripe) -> OwnedRwLockWriteGuard<()> {
        self.step().await;
        self.lock(kind, stripe).write_owned().await
    }

    async fn alone(&self, kind: Kind, stripe: Stripe) -> Box<Alone> {
        let opens = Box::new(self.exclude(kind, stripe).await);
        Box::new(Alone { memory: self.clone(), stamps: BTreeSet::new(), opens })
    }

    pub(super) async fn enter_locked(&self, on: Reliance) -> Result<Box<dyn Entered>, Error> {
        let mut locks = Vec::new();
        for (kind, fenced) in [(Kind::Repository, on.repository), (Kind::Bytes, on.bytes)] {
            if let Some(Fenced { stripe, .. }) = fenced {
                locks.push(self.share(kind, stripe).await);
            }
        }
        Ok(Box::new(Inside { memory: self.clone(), _locks: locks }))
    }

    pub(super) async fn close_locked(&self, of: &Fenced) -> Result<Box<dyn Closed>, Error> {
        Ok(self.alone(Kind::Repository, of.stripe).await)
    }

    pub(super) async fn begin_locked(&self) -> Result<Box<dyn Run>, Error> {
        let began = self.time().await?;
        for stripe in Stripe::all() {
            drop(self.exclude(Kind::Bytes, stripe).await);
        }
        Ok(Box::new(LockingRun { memory: self.clone(), began }))
    }
}

/// A process inside fences.
#[derive(Debug)]
struct Inside {
    memory: Memory,
    _locks: Vec<OwnedRwLockReadGuard<()>>,
}

#[async_trait]
impl Entered for Inside {
    fn add_needed(&mut self, _: Vec<Fenced>) {}

    async fn renew(&self, bytes: &Key) -> Result<bool, Error> {
        self.memory.renew(bytes).await
    }

    async fn validate(&mut self, _: Part) -> Result<Validity, Error> {
        Ok(Validity::Valid)
    }
}

/// A garbage collection. Others may run beside it.
#[derive(Debug)]
struct LockingRun {
    memory: Memory,
    began: SystemTime,
}

#[async_trait]
impl Run for LockingRun {
    fn began(&self) -> SystemTime {
        self.began
    }

    async fn sweep(&self, stripe: Stripe) -> Result<Box<dyn Sweep>, Error> {
        Ok(self.memory.alone(Kind::Bytes, stripe).await)
    }

    async fn end(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}
