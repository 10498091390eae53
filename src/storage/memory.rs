//! Objects in this process's memory, for tests and for trying things out. Nothing is durable.
//!
//! A memory has one of two [modes](Mode), one for each kind of guarantees that backends give.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};

use self::fences::Guards;
use super::{
    ByteStream, Durability, Entry, Error, Holders, Key, Look, Object, Seen, Staging, Storage,
    fences::Fences,
};

mod fences;
mod staging;
#[cfg(test)]
mod steps;

#[cfg(test)]
pub(crate) use self::steps::{in_between, in_the_middle};

/// Memory that keeps objects. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    shared: Arc<Shared>,
    /// The work of other processes between the steps of this clone.
    #[cfg(test)]
    steps: Option<Arc<steps::Steps>>,
}

/// The kind of backend that a memory behaves as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As folders and files: fences are locks, and a commit moves the bytes and renews them.
    #[default]
    Folders,
    /// As a store of objects: without locks, so that validation looks again; a commit leaves the bytes
    /// the time at which they began to arrive; and bytes are not renewed when a key is made to lead to
    /// them.
    Objects,
}

#[derive(Debug, Default)]
struct Shared {
    mode: Mode,
    objects: Mutex<BTreeMap<String, Stored>>,
    guards: Guards,
    clock: Mutex<Clock>,
    /// How many bytes are free, as far as a test has set it.
    free: Mutex<Option<u64>>,
}

type Objects<'a> = MutexGuard<'a, BTreeMap<String, Stored>>;

#[derive(Clone, Debug)]
struct Stored {
    content: Content,
    modified: SystemTime,
}

/// Never tells the same time twice.
#[derive(Debug)]
struct Clock {
    last: SystemTime,
    ahead: Duration,
}

impl Default for Clock {
    fn default() -> Self {
        Self { last: SystemTime::UNIX_EPOCH, ahead: Duration::ZERO }
    }
}

/// Content that is being appended to is shared with its appender, so that the object and what is
/// written to it stay one thing.
#[derive(Clone, Debug)]
enum Content {
    Whole(Bytes),
    Growing(Arc<Mutex<BytesMut>>),
}

impl Content {
    fn bytes(&self) -> Bytes {
        match self {
            Self::Whole(bytes) => bytes.clone(),
            Self::Growing(bytes) => locked(bytes).clone().freeze(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Growing(bytes) => locked(bytes).len(),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// Memory that behaves as this kind of backend.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        let shared = Shared { mode, ..Shared::default() };
        Self {
            shared: Arc::new(shared),
            #[cfg(test)]
            steps: None,
        }
    }

    /// Precedes each access that the work of other processes may precede.
    #[cfg(test)]
    async fn step(&self) {
        if let Some(steps) = &self.steps {
            steps.next().await;
        }
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_async, reason = "a test waits here")]
    async fn step(&self) {}

    /// Deletes an object; `false` when it was not there.
    ///
    /// # Errors
    ///
    /// When the key is unsafe.
    pub async fn delete(&self, key: &Key) -> Result<bool, Error> {
        self.step().await;
        Ok(self.at("delete", key)?.remove(key.as_str()).is_some())
    }

    /// Deletes every object below a key and every object staged there; `false` when there was none.
    pub(crate) async fn discard(&self, prefix: &Key) -> Result<bool, Error> {
        self.step().await;
        let below = [prefix, &self.staged_at(prefix)].map(|key| format!("{key}/"));
        let mut objects = self.at("delete all below", prefix)?;
        let before = objects.len();
        objects.retain(|key, _| !below.iter().any(|below| key.starts_with(below)));
        Ok(objects.len() < before)
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        locked(&self.shared.clock).ahead += time;
    }

    /// Turns the clock back.
    #[cfg(test)]
    pub(crate) fn turn_back(&self, time: Duration) {
        let mut clock = locked(&self.shared.clock);
        clock.ahead = clock.ahead.saturating_sub(time);
        clock.last = SystemTime::UNIX_EPOCH;
    }

    /// Sets how many bytes are free.
    #[cfg(test)]
    pub(crate) fn leave_free(&self, bytes: u64) {
        *locked(&self.shared.free) = Some(bytes);
    }

    fn now(&self) -> SystemTime {
        let mut clock = locked(&self.shared.clock);
        let now = SystemTime::now() + clock.ahead;
        clock.last = now.max(clock.last + Duration::from_nanos(1));
        clock.last
    }

    /// The names directly below a key that are greater than `after`.
    fn names(&self, prefix: &Key, after: Option<&str>) -> Result<BTreeSet<Entry>, Error> {
        let below = format!("{prefix}/");
        let objects = self.at("list", prefix)?;
        let entry = |rest: &str| match rest.split_once('/') {
            Some((name, _)) => Entry { name: name.to_owned(), is_prefix: true },
            None => Entry { name: rest.to_owned(), is_prefix: false },
        };
        let names = objects
            .range(below.clone()..)
            .map_while(|(key, _)| key.strip_prefix(&below))
            .map(entry)
            .filter(|entry| after.is_none_or(|after| entry.name.as_str() > after));
        Ok(names.collect())
    }

    /// The objects, if `key` is safe.
    fn at(&self, action: &'static str, key: &Key) -> Result<Objects<'_>, Error> {
        if key.is_safe() {
            Ok(locked(&self.shared.objects))
        } else {
            Err(Error::new(action, key, io::ErrorKind::InvalidFilename.into()))
        }
    }
}

#[async_trait]
impl Storage for Memory {
    async fn read(&self, key: &Key, limit: usize) -> Result<Option<Bytes>, Error> {
        self.step().await;
        match self.at("read", key)?.get(key.as_str()).map(|stored| &stored.content) {
            Some(content) if content.len() > limit => {
                Err(Error::new("read", key, io::ErrorKind::InvalidData.into()))
            }
            content => Ok(content.map(Content::bytes)),
        }
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>, Error> {
        self.step().await;
        Ok(self.at("look at", key)?.get(key.as_str()).map(|stored| stored.content.len() as u64))
    }

    async fn open(&self, key: &Key) -> Result<Option<Box<dyn Object>>, Error> {
        self.step().await;
        let content = self.at("open", key)?.get(key.as_str()).map(|stored| stored.content.bytes());
        Ok(content.map(|bytes| Box::new(MemoryObject(bytes)) as Box<dyn Object>))
    }

    async fn put(&self, key: &Key, bytes: Bytes, _: Durability) -> Result<(), Error> {
        self.step().await;
        let stored = Stored { content: Content::Whole(bytes), modified: self.now() };
        self.at("write", key)?.insert(key.to_string(), stored);
        Ok(())
    }

    async fn probe(&self) -> Result<(), Error> {
        Ok(())
    }

    fn staging(&self) -> &dyn Staging {
        self
    }

    fn fences(&self) -> &dyn Fences {
        self
    }

    async fn relocate(&self, from: &Key, to: &Key) -> Result<(), Error> {
        self.step().await;
        let mut objects = self.at("rename a file to", to)?;
        let stored = objects
            .remove(from.as_str())
            .ok_or_else(|| Error::new("rename", from, io::ErrorKind::NotFound.into()))?;
        objects.insert(to.to_string(), stored);
        Ok(())
    }

    async fn free(&self) -> Result<Option<u64>, Error> {
        Ok(*locked(&self.shared.free))
    }

    async fn modified(&self, key: &Key) -> Result<Option<SystemTime>, Error> {
        self.step().await;
        Ok(self.at("look at", key)?.get(key.as_str()).map(|stored| stored.modified))
    }

    async fn age(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let now = self.now();
        let modified = self.modified(key).await?;
        Ok(modified.map(|time| now.duration_since(time).unwrap_or_default()))
    }

    async fn renew(&self, key: &Key) -> Result<bool, Error> {
        self.step().await;
        let now = self.now();
        let mut objects = self.at("renew", key)?;
        let Some(stored) = objects.get_mut(key.as_str()) else { return Ok(false) };
        stored.modified = now;
        Ok(true)
    }

    async fn time(&self) -> Result<SystemTime, Error> {
        self.step().await;
        Ok(self.now())
    }

    async fn survey(&self, looks: Vec<Look>) -> Result<Vec<Vec<Seen>>, Error> {
        self.step().await;
        let mut all = Vec::new();
        for Look { folder, object } in looks {
            let mut seen = Vec::new();
            for Entry { name, is_prefix } in self.names(&folder, None)? {
                let key = object.map(|object| folder.child(&name).child(object));
                let objects = locked(&self.shared.objects);
                let found = key.as_ref().and_then(|key| objects.get(key.as_str()));
                if object.is_none() || found.is_some() {
                    let object = found.map(|stored| (stored.content.len() as u64, stored.modified));
                    seen.push(Seen { name, is_prefix, object });
                }
            }
            all.push(seen);
        }
        Ok(all)
    }

    async fn list(
        &self,
        prefix: &Key,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        self.step().await;
        Ok(self.names(prefix, after)?.into_iter().take(limit).collect())
    }

    async fn list_holders(
        &self,
        prefix: &Key,
        object: &'static str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Holders, Error> {
        self.step().await;
        let mut holders = Holders::default();
        for entry in self.names(prefix, after)? {
            if holders.names.len() == limit {
                break;
            }
            let key = prefix.child(&entry.name).child(object);
            if locked(&self.shared.objects).contains_key(key.as_str()) {
                holders.names.push(entry.name);
            } else if !entry.is_prefix {
                holders.objects += 1;
            }
        }
        Ok(holders)
    }
}

#[derive(Clone, Debug)]
struct MemoryObject(Bytes);

impl Object for MemoryObject {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn stream(self: Box<Self>, range: Range<u64>) -> ByteStream {
        let index = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let piece = self.0.slice(index(range.start)..index(range.end));
        stream::iter((!piece.is_empty()).then_some(Ok(piece))).boxed()
    }

    fn again(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::contract;

    #[tokio::test]
    async fn keeps_the_contract_as_folders() {
        let memory = Memory::new(Mode::Folders);
        contract::all(&memory, &memory.clone()).await;
    }

    #[tokio::test]
    async fn keeps_the_contract_as_objects() {
        let memory = Memory::new(Mode::Objects);
        contract::all(&memory, &memory.clone()).await;
    }
}
