//! Objects in this process's memory, for tests and for trying things out. Nothing is durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};

use super::{Appender, ByteStream, Durability, Entry, Error, Holders, Key, Object, Storage};

/// Memory that keeps objects. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<String, Content>>>);

type Objects<'a> = MutexGuard<'a, BTreeMap<String, Content>>;

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
    /// The objects, once `key` is known to be a possible one.
    fn at(&self, action: &'static str, key: &Key) -> Result<Objects<'_>, Error> {
        if key.is_safe() {
            Ok(locked(&self.0))
        } else {
            Err(Error::new(action, key, io::ErrorKind::InvalidFilename.into()))
        }
    }
}

#[async_trait]
impl Storage for Memory {
    async fn read(&self, key: &Key, limit: usize) -> Result<Option<Bytes>, Error> {
        match self.at("read", key)?.get(key.as_str()) {
            Some(content) if content.len() > limit => {
                Err(Error::new("read", key, io::ErrorKind::InvalidData.into()))
            }
            content => Ok(content.map(Content::bytes)),
        }
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>, Error> {
        Ok(self.at("look at", key)?.get(key.as_str()).map(|content| content.len() as u64))
    }

    async fn open(&self, key: &Key) -> Result<Option<Box<dyn Object>>, Error> {
        let content = self.at("open", key)?.get(key.as_str()).map(Content::bytes);
        Ok(content.map(|bytes| Box::new(MemoryObject(bytes)) as Box<dyn Object>))
    }

    async fn put(&self, key: &Key, bytes: Bytes, _: Durability) -> Result<(), Error> {
        self.at("write", key)?.insert(key.to_string(), Content::Whole(bytes));
        Ok(())
    }

    async fn probe(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn append(&self, key: &Key) -> Result<Box<dyn Appender>, Error> {
        let mut objects = self.at("open", key)?;
        let bytes = match objects.get(key.as_str()) {
            Some(Content::Growing(bytes)) => Arc::clone(bytes),
            Some(Content::Whole(bytes)) => Arc::new(Mutex::new(BytesMut::from(bytes.as_ref()))),
            None => Arc::default(),
        };
        objects.insert(key.to_string(), Content::Growing(Arc::clone(&bytes)));
        Ok(Box::new(MemoryAppender(bytes)))
    }

    async fn promote(&self, from: &Key, to: &Key) -> Result<(), Error> {
        let mut objects = self.at("rename a file to", to)?;
        let content = objects
            .remove(from.as_str())
            .ok_or_else(|| Error::new("rename", from, io::ErrorKind::NotFound.into()))?;
        objects.insert(to.to_string(), Content::Whole(content.bytes()));
        Ok(())
    }

    async fn delete(&self, key: &Key) -> Result<bool, Error> {
        Ok(self.at("delete", key)?.remove(key.as_str()).is_some())
    }

    async fn delete_all(&self, prefix: &Key) -> Result<(), Error> {
        let below = format!("{prefix}/");
        self.at("delete all below", prefix)?.retain(|key, _| !key.starts_with(&below));
        Ok(())
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

#[derive(Debug)]
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
