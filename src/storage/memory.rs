//! Objects in this process's memory, for tests and for trying things out. Nothing is durable.

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

use tokio::sync::RwLock;

use super::{
    Appender, ByteStream, Durability, Entry, Error, Held, Hold, Holders, Key, Look, Object, Seen,
    Storage,
};

/// Memory that keeps objects. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    objects: Arc<Mutex<BTreeMap<String, Stored>>>,
    locks: Arc<Mutex<BTreeMap<String, Arc<RwLock<()>>>>>,
    clock: Arc<Mutex<Clock>>,
    /// What it says is free, whatever is in it.
    free: Arc<Mutex<Option<u64>>>,
}

type Objects<'a> = MutexGuard<'a, BTreeMap<String, Stored>>;

#[derive(Debug)]
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
/// written to it stay one thing when it is renamed.
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
    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        locked(&self.clock).ahead += time;
    }

    /// Says from now on that so many bytes are free.
    #[cfg(test)]
    pub(crate) fn leave_free(&self, bytes: u64) {
        *locked(&self.free) = Some(bytes);
    }

    fn now(&self) -> SystemTime {
        let mut clock = locked(&self.clock);
        let now = SystemTime::now() + clock.ahead;
        clock.last = now.max(clock.last + Duration::from_nanos(1));
        clock.last
    }

    /// The objects, once `key` is known to be a possible one.
    fn at(&self, action: &'static str, key: &Key) -> Result<Objects<'_>, Error> {
        if key.is_safe() {
            Ok(locked(&self.objects))
        } else {
            Err(Error::new(action, key, io::ErrorKind::InvalidFilename.into()))
        }
    }
}

#[async_trait]
impl Storage for Memory {
    async fn read(&self, key: &Key, limit: usize) -> Result<Option<Bytes>, Error> {
        match self.at("read", key)?.get(key.as_str()).map(|stored| &stored.content) {
            Some(content) if content.len() > limit => {
                Err(Error::new("read", key, io::ErrorKind::InvalidData.into()))
            }
            content => Ok(content.map(Content::bytes)),
        }
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>, Error> {
        Ok(self.at("look at", key)?.get(key.as_str()).map(|stored| stored.content.len() as u64))
    }

    async fn open(&self, key: &Key) -> Result<Option<Box<dyn Object>>, Error> {
        let content = self.at("open", key)?.get(key.as_str()).map(|stored| stored.content.bytes());
        Ok(content.map(|bytes| Box::new(MemoryObject(bytes)) as Box<dyn Object>))
    }

    async fn put(&self, key: &Key, bytes: Bytes, _: Durability) -> Result<(), Error> {
        let stored = Stored { content: Content::Whole(bytes), modified: self.now() };
        self.at("write", key)?.insert(key.to_string(), stored);
        Ok(())
    }

    async fn probe(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn append(&self, key: &Key) -> Result<Box<dyn Appender>, Error> {
        let modified = self.now();
        let mut objects = self.at("open", key)?;
        let bytes = match objects.get(key.as_str()).map(|stored| &stored.content) {
            Some(Content::Growing(bytes)) => Arc::clone(bytes),
            Some(Content::Whole(bytes)) => Arc::new(Mutex::new(BytesMut::from(bytes.as_ref()))),
            None => Arc::default(),
        };
        let content = Content::Growing(Arc::clone(&bytes));
        objects.insert(key.to_string(), Stored { content, modified });
        Ok(Box::new(MemoryAppender(bytes)))
    }

    async fn promote(&self, from: &Key, to: &Key) -> Result<(), Error> {
        let mut objects = self.at("rename a file to", to)?;
        let Stored { content, modified } = objects
            .remove(from.as_str())
            .ok_or_else(|| Error::new("rename", from, io::ErrorKind::NotFound.into()))?;
        let content = Content::Whole(content.bytes());
        objects.insert(to.to_string(), Stored { content, modified });
        Ok(())
    }

    async fn delete(&self, key: &Key) -> Result<bool, Error> {
        Ok(self.at("delete", key)?.remove(key.as_str()).is_some())
    }

    async fn delete_all(&self, prefix: &Key) -> Result<(), Error> {
        self.discard(prefix).await.map(drop)
    }

    async fn delete_below(
        &self,
        prefix: &Key,
        names: Vec<String>,
        _: Durability,
    ) -> Result<(), Error> {
        for name in names {
            self.discard(&prefix.child(&name)).await?;
        }
        Ok(())
    }

    async fn discard(&self, prefix: &Key) -> Result<bool, Error> {
        let below = format!("{prefix}/");
        let mut objects = self.at("delete all below", prefix)?;
        let before = objects.len();
        objects.retain(|key, _| !key.starts_with(&below));
        Ok(objects.len() < before)
    }

    async fn empty_trash(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn prune(&self, _: &Key) -> Result<(), Error> {
        Ok(())
    }

    async fn prune_up(&self, _: &Key, _: &Key) -> Result<(), Error> {
        Ok(())
    }

    async fn free(&self) -> Result<Option<u64>, Error> {
        Ok(*locked(&self.free))
    }

    async fn modified(&self, key: &Key) -> Result<Option<SystemTime>, Error> {
        Ok(self.at("look at", key)?.get(key.as_str()).map(|stored| stored.modified))
    }

    async fn age(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let (now, modified) = (self.now(), self.modified(key).await?);
        Ok(modified.map(|time| now.duration_since(time).unwrap_or_default()))
    }

    async fn renew(&self, key: &Key) -> Result<bool, Error> {
        let now = self.now();
        let mut objects = self.at("renew", key)?;
        let Some(stored) = objects.get_mut(key.as_str()) else { return Ok(false) };
        stored.modified = now;
        Ok(true)
    }

    async fn time(&self) -> Result<SystemTime, Error> {
        Ok(self.now())
    }

    async fn lock(&self, name: &Key, hold: Hold) -> Result<Held, Error> {
        let lock = Arc::clone(locked(&self.locks).entry(name.to_string()).or_default());
        Ok(match hold {
            Hold::Shared => Held::new(lock.read_owned().await),
            Hold::Alone => Held::new(lock.write_owned().await),
        })
    }

    async fn survey(&self, looks: Vec<Look>) -> Result<Vec<Vec<Seen>>, Error> {
        let mut all = Vec::new();
        for Look { folder, object } in looks {
            let mut seen = Vec::new();
            for Entry { name, is_prefix } in self.list(&folder, None, usize::MAX).await? {
                let key = object.map(|object| folder.child(&name).child(object));
                let objects = locked(&self.objects);
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
        let below = format!("{prefix}/");
        let objects = self.at("list", prefix)?;
        let names: BTreeSet<Entry> = objects
            .range(below.clone()..)
            .map_while(|(key, _)| key.strip_prefix(&below))
            .map(|rest| match rest.split_once('/') {
                Some((name, _)) => Entry { name: name.to_owned(), is_prefix: true },
                None => Entry { name: rest.to_owned(), is_prefix: false },
            })
            .filter(|entry| after.is_none_or(|after| entry.name.as_str() > after))
            .collect();
        Ok(names.into_iter().take(limit).collect())
    }

    async fn list_holders(
        &self,
        prefix: &Key,
        object: &'static str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Holders, Error> {
        let mut holders = Holders::default();
        for entry in self.list(prefix, after, usize::MAX).await? {
            if holders.names.len() == limit {
                break;
            }
            if self.size(&prefix.child(&entry.name).child(object)).await?.is_some() {
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

#[derive(Debug)]
struct MemoryAppender(Arc<Mutex<BytesMut>>);

#[async_trait]
impl Appender for MemoryAppender {
    fn position(&self) -> u64 {
        locked(&self.0).len() as u64
    }

    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), Error> {
        let mut bytes = locked(&self.0);
        for piece in pieces {
            bytes.extend_from_slice(&piece);
        }
        Ok(())
    }

    async fn reserve(&mut self, _: u64) -> Result<(), Error> {
        Ok(())
    }

    async fn truncate(&mut self, length: u64) -> Result<(), Error> {
        locked(&self.0).truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::contract;

    #[tokio::test]
    async fn keeps_the_contract() {
        contract::all(&Memory::default()).await;
    }
}
