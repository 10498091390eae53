//! Fences as locks: of those in this process first, then files without content that other processes
//! on the same tree lock too, by `flock`.
//!
//! Each stripe has one lock. A process that enters shares it and a process that closes excludes all
//! others, so nothing changes between an entry and its end, and every validation says yes. A sweep
//! goes by the times of the bytes, for each entry renews the bytes that it makes a key lead to.

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

/// No process that is well holds a lock for as long as this.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the first wait for a lock is; each is twice as long as the one before, up to the last.
const WAITS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));

/// The locks of this process. They queue, while a process that waits for a lock file asks again and
/// again.
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

/// A lock that others may share. The file is let go first.
#[derive(Debug)]
#[expect(dead_code, reason = "the fields are held until they are dropped, in this order")]
struct Shared(File, OwnedRwLockReadGuard<()>);

/// A lock that nobody else has. The file is let go first.
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

    /// Waits for a lock file, and holds it until what is returned is dropped.
    ///
    /// Beside it is its entrance, which everybody goes through: a process that wants to be alone
    /// stays there, so that no other process comes in while it waits for those inside.
    async fn locked(&self, file: &Key, alone: bool) -> Result<File, Error> {
        let (mut wait, longest) = WAITS;
        let give_up = Instant::now() + PATIENCE;
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
                // A process that does not want to be alone stands in nobody's way while it waits.
                Ok((held, entrance.filter(|_| alone)))
            };
            let (held, waiting) = self.blocking(Action::Stat, "lock", file, lock).await?;
            if let Some(held) = held {
                return Ok(held);
            }
            entrance = waiting;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(longest);
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
        // A process that has renewed bytes before this began and makes a key lead to them only
        // after the repository was looked at would be seen in neither way. So it is waited for.
        for stripe in Stripe::all() {
            drop(self.exclude(Lock::Bytes(stripe)).await?);
        }
        Ok(Box::new(FileRun { filesystem: self.clone(), began }))
    }
}

/// Is inside fences.
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

/// Has closed a fence.
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
        let (mut folder, mut gone) = (prefix.clone(), false);
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
