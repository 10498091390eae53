//! Fences in memory: [as folders](folders) they are locks, [as objects](objects) they are values that a
//! validation reads again.

use std::{collections::BTreeSet, fmt};

use async_trait::async_trait;

use super::{Memory, Mode};
use crate::storage::{
    Durability, Error, Key, Storage as _,
    fences::{Closed, Entered, Fenced, Fences, Reliance, Run, Sweep},
};

mod folders;
mod objects;

/// The state of the fences of a memory.
#[derive(Debug, Default)]
pub(super) struct Guards {
    locks: folders::Locks,
    values: objects::Values,
}

#[async_trait]
impl Fences for Memory {
    async fn enter(&self, on: Reliance) -> Result<Box<dyn Entered>, Error> {
        match self.shared.mode {
            Mode::Folders => self.enter_locked(on).await,
            Mode::Objects => self.enter_noted(on).await,
        }
    }

    async fn close(&self, repository: Fenced) -> Result<Box<dyn Closed>, Error> {
        match self.shared.mode {
            Mode::Folders => self.close_locked(&repository).await,
            Mode::Objects => self.close_marked(repository).await,
        }
    }

    async fn begin_run(&self) -> Result<Box<dyn Run>, Error> {
        match self.shared.mode {
            Mode::Folders => self.begin_locked().await,
            Mode::Objects => self.begin_marked().await,
        }
    }
}

/// A closed fence.
#[derive(Debug)]
struct Alone {
    memory: Memory,
    /// Bytes that a process has relied on since the run began; empty where times show that.
    stamps: BTreeSet<Key>,
    /// Opens the fence when it is dropped.
    opens: Box<dyn fmt::Debug + Send + Sync>,
}

#[async_trait]
impl Closed for Alone {
    async fn delete(&self, key: &Key) -> Result<bool, Error> {
        self.memory.delete(key).await
    }

    async fn delete_all(&self, prefix: &Key) -> Result<(), Error> {
        self.memory.discard(prefix).await.map(drop)
    }

    async fn delete_below(
        &self,
        prefix: &Key,
        names: Vec<String>,
        _: Durability,
    ) -> Result<(), Error> {
        for name in names {
            self.memory.discard(&prefix.child(&name)).await?;
        }
        Ok(())
    }

    async fn discard(&self, prefix: &Key) -> Result<bool, Error> {
        self.memory.discard(prefix).await
    }

    async fn prune(&self, _: &Key) -> Result<(), Error> {
        Ok(())
    }

    async fn prune_up(&self, prefix: &Key, _: &Key) -> Result<bool, Error> {
        Ok(self.memory.list(prefix, None, 1).await?.is_empty())
    }

    async fn open(self: Box<Self>) -> Result<(), Error> {
        self.memory.step().await;
        drop(self.opens);
        Ok(())
    }
}

impl Sweep for Alone {
    fn is_relied_on(&self, bytes: &Key) -> bool {
        self.stamps.contains(bytes)
    }
}
