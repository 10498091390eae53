//! Fences as locks: first a lock within this process, then an empty file that every process on the
//! tree locks by `flock`.
//!
//! Each stripe has one lock. An entry holds it shared and a closed fence holds it exclusively, so
//! nothing changes between an entry and its end, and every validation is valid. A sweep compares the
//! times of the bytes, because each entry renews the bytes before it makes a key lead to them.

use std::{
    fs::File,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::{Filesystem, Inner, TRASH};
use crate::{
    storage::{
        Durability, Error, Key, Storage as _,
        fences::{
            Closed, Entered, Fenced, Fences, Part, Reliance, Run, STRIPES, Stripe, Sweep, Validity,
        },
    },
    telemetry::operations::Action,
};

/// Where the lock files lie, below the root.
pub(super) const LOCKS: &str = "portcullis-locks";

/// How long to wait for a lock file. A process holds a lock for a few system calls only, so a lock that
/// is held for longer than this belongs to a process that hangs.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait before the second attempt to lock a file. Each wait is twice as long as the one
/// before.
const FIRST_WAIT: Duration = Duration::from_millis(1);

/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_millis(16);

/// The locks within this process. Their waiters queue, whereas a process that waits for a lock file
/// polls it.
#[derive(Debug)]
pub(super) struct Locks {
    repositories: Vec<Arc<RwLock<()>>>,
    bytes: Vec<Arc<RwLock<()>>>,
}

impl Default for Locks {
    fn default() -> Self {
        let stripes = || std::iter::repeat_with(Arc::default).take(STRIPES).collect();
        Self { repositories: stripes(), bytes: stripes() }
    }
}

/// Which lock.
#[derive(Clone, Copy)]
enum Lock {
    Repository(Stripe),
    Bytes(Stripe),
}

impl Lock {
    fn here(self, locks: &Locks) -> Arc<RwLock<()>> {
        Arc::clone(match self {
            Self::Repository(stripe) => &locks.repositories[stripe.number()],
            Self::Bytes(stripe) => &locks.bytes[stripe.number()],
        })
    }

    fn file(self) -> Key {
        let (kind, stripe) = match self {
            Self::Repository(stripe) => ("repository", stripe),
            Self::Bytes(stripe) => ("bytes", stripe),
        };
        Key::new(format!("{LOCKS}/{kind}-{:02}", stripe.number()))
    }
}

/// A shared lock. The lock of the file is released first.
#[derive(Debug)]
#[expect(dead_code, reason = "the fields are held until they are dropped, in this order")]
struct Shared(File, OwnedRwLockReadGuard<()>);

/// An exclusive lock. The lock of the file is released first.
#[derive(Debug)]
#[expect(dead_code, reason = "the fields are held until they are dropped, in this order")]
struct Exclusive(File, OwnedRwLockWriteGuard<()>);

impl Filesystem {
    async fn share(&self, lock: Lock) -> Result<Shared, Error> {
        let here = lock.here(&self.0.locks).read_owned().await;
        Ok(Shared(self.locked(&lock.file(), false).await?, here))
    }

    async fn exclude(&self, lock: Lock) -> Result<Exclusive, Error> {
        let here = lock.here(&self.0.locks).write_owned().await;
        Ok(Exclusive(self.locked(&lock.file(), true).await?, here))
    }

    /// Waits for the lock of a file, and holds it until the returned file is dropped.
    ///
    /// Beside the file lies its *entrance*, a file that every process locks first. A process that waits for
    /// an exclusive lock keeps the entrance locked, so that no other process enters while it waits for the
    /// processes inside.
    async fn locked(&self, file: &Key, alone: bool) -> Result<File, Error> {
        let mut wait = FIRST_WAIT;
        let give_up = Instant::now() + LOCK_TIMEOUT;
        let mut entrance = None;
        loop {
            let lock = move |inner: &Inner, path: &Path| {
                if entrance.is_none() {
                    let beside = path.with_extension("entrance");
                    entrance = inner.disk.lock(&beside, alone)?;
                }
                let held = match entrance {
                    Some(_) => inner.disk.lock(path, alone)?,
                    None => None,
                };
                if held.is_none() && Instant::now() > give_up {
                    return Err(io::Error::other("another process holds it and does not let go"));
                }
                // A process that waits for a shared lock must not keep others from the entrance.
                Ok((held, entrance.filter(|_| alone)))
            };
            let (held, waiting) = self.blocking(Action::Stat, "lock", file, lock).await?;
            if let Some(held) = held {
                return Ok(held);
            }
            entrance = waiting;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

#[async_trait]
impl Fences for Filesystem {
    async fn enter(&self, on: Reliance) -> Result<Box<dyn Entered>, Error> {
        let repository = match on.repository {
            Some(Fenced { stripe, .. }) => Some(self.share(Lock::Repository(stripe)).await?),
            None => None,
        };
        let bytes = match on.bytes {
            Some(Fenced { stripe, .. }) => Some(self.share(Lock::Bytes(stripe)).await?),
            None => None,
        };
        Ok(Box::new(Inside { filesystem: self.clone(), _bytes: bytes, _repository: repository }))
    }

    async fn close(&self, repository: Fenced) -> Result<Box<dyn Closed>, Error> {
        let lock = self.exclude(Lock::Repository(repository.stripe)).await?;
        Ok(Box::new(Alone { filesystem: self.clone(), _lock: lock }))
    }

    async fn begin_run(&self) -> Result<Box<dyn Run>, Error> {
        let began = self.time().await?;
        // A process may have renewed bytes before the run began, and make a key lead to them after the
        // run has looked at the repository. Neither the time nor the key would tell the run of it, so
        // the run waits for such a process.
        for stripe in Stripe::all() {
            drop(self.exclude(Lock::Bytes(stripe)).await?);
        }
        Ok(Box::new(FileRun { filesystem: self.clone(), began }))
    }
}

/// A process inside fences.
#[derive(Debug)]
struct Inside {
    filesystem: Filesystem,
    _bytes: Option<Shared>,
    _repository: Option<Shared>,
}

#[async_trait]
impl Entered for Inside {
    fn add_needed(&mut self, _: Vec<Fenced>) {}

    async fn renew(&self, bytes: &Key) -> Result<bool, Error> {
        self.filesystem.renew(bytes).await
    }

    async fn validate(&mut self, _: Part) -> Result<Validity, Error> {
        Ok(Validity::Valid)
    }
}

/// A closed fence.
#[derive(Debug)]
struct Alone {
    filesystem: Filesystem,
    _lock: Exclusive,
}

#[async_trait]
impl Closed for Alone {
    async fn delete(&self, key: &Key) -> Result<bool, Error> {
        self.filesystem.delete(key).await
    }

    async fn delete_all(&self, prefix: &Key) -> Result<(), Error> {
        self.filesystem.delete_all(prefix).await
    }

    async fn delete_below(
        &self,
        prefix: &Key,
        names: Vec<String>,
        durability: Durability,
    ) -> Result<(), Error> {
        let delete = move |inner: &Inner, path: &Path| inner.remove_below(path, &names, durability);
        self.filesystem.blocking(Action::Delete, "delete some of", prefix, delete).await
    }

    async fn discard(&self, prefix: &Key) -> Result<bool, Error> {
        self.filesystem.blocking(Action::Delete, "take away", prefix, Inner::discard).await
    }

    async fn prune(&self, prefix: &Key) -> Result<(), Error> {
        let verb = "remove empty folders of";
        self.filesystem.blocking(Action::Delete, verb, prefix, Inner::prune).await
    }

    async fn prune_up(&self, prefix: &Key, top: &Key) -> Result<bool, Error> {
        let mut folder = prefix.clone();
        let mut gone = false;
        while folder.as_str().len() > top.as_str().len() {
            if !self.filesystem.list(&folder, None, 1).await?.is_empty() {
                break;
            }
            self.prune(&folder).await?;
            gone = true;
            let Some(above) = folder.parent() else { break };
            folder = above;
        }
        Ok(gone)
    }

    async fn open(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

impl Sweep for Alone {
    fn is_relied_on(&self, _: &Key) -> bool {
        false
    }
}

/// A garbage collection. Others may run beside it.
#[derive(Debug)]
struct FileRun {
    filesystem: Filesystem,
    began: SystemTime,
}

#[async_trait]
impl Run for FileRun {
    fn began(&self) -> SystemTime {
        self.began
    }

    async fn sweep(&self, stripe: Stripe) -> Result<Box<dyn Sweep>, Error> {
        let lock = self.filesystem.exclude(Lock::Bytes(stripe)).await?;
        Ok(Box::new(Alone { filesystem: self.filesystem.clone(), _lock: lock }))
    }

    async fn end(self: Box<Self>) -> Result<(), Error> {
        let trash = Key::new(TRASH.to_owned());
        self.filesystem.blocking(Action::Delete, "empty", &trash, Inner::empty).await
    }
}
