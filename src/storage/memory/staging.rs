//! Staged objects in memory: as folders at their keys, as objects at keys that no list shows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::{Content, Memory, Mode, Stored, locked};
use crate::storage::{
    Appender, Durability, Error, Key, Note, Object, STARTED_AT, Staged, Staging, Storage,
};

/// The last segment of the key of the bytes.
const DATA: &str = "data";

impl Memory {
    /// The key below which an object staged at `at` lies.
    pub(super) fn staged_at(&self, at: &Key) -> Key {
        match self.shared.mode {
            Mode::Folders => at.clone(),
            Mode::Objects => Key::new(format!("uploads/{at}")),
        }
    }
}

/// Whether anything is staged at a key.
fn is_staged(objects: &BTreeMap<String, Stored>, at: &Key) -> bool {
    [DATA, STARTED_AT].iter().any(|name| objects.contains_key(at.child(name).as_str()))
}

/// Writes notes, all at once.
fn insert(objects: &mut BTreeMap<String, Stored>, at: &Key, notes: Vec<Note>, now: SystemTime) {
    for Note { name, text } in notes {
        let stored = Stored { content: Content::Whole(text), modified: now };
        objects.insert(at.child(name).to_string(), stored);
    }
}

#[async_trait]
impl Staging for Memory {
    async fn begin(&self, at: &Key, notes: Vec<Note>) -> Result<(), Error> {
        let at = self.staged_at(at);
        match self.shared.mode {
            Mode::Folders => {
                for Note { name, text } in notes {
                    self.put(&at.child(name), text, Durability::Lazy).await?;
                }
            }
            Mode::Objects => {
                self.step().await;
                let now = self.now();
                insert(&mut *self.at("write", &at)?, &at, notes, now);
            }
        }
        Ok(())
    }

    async fn note(
        &self,
        at: &Key,
        name: &'static str,
        limit: usize,
    ) -> Result<Option<Bytes>, Error> {
        self.read(&self.staged_at(at).child(name), limit).await
    }

    async fn delete_note(&self, at: &Key, name: &'static str) -> Result<(), Error> {
        self.delete(&self.staged_at(at).child(name)).await.map(drop)
    }

    async fn length(&self, at: &Key) -> Result<Option<u64>, Error> {
        let at = self.staged_at(at);
        match self.size(&at.child(DATA)).await? {
            Some(length) => Ok(Some(length)),
            None => Ok(self.size(&at.child(STARTED_AT)).await?.map(|_| 0)),
        }
    }

    async fn written(&self, at: &Key) -> Result<Option<SystemTime>, Error> {
        self.modified(&self.staged_at(at).child(DATA)).await
    }

    async fn exists(&self, at: &Key) -> Result<bool, Error> {
        Ok(!Storage::list(self, &self.staged_at(at), None, 1).await?.is_empty())
    }

    async fn list(
        &self,
        folder: &Key,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        let entries = Storage::list(self, &self.staged_at(folder), after, limit).await?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    async fn open(&self, at: &Key) -> Result<Option<Box<dyn Object>>, Error> {
        Storage::open(self, &self.staged_at(at).child(DATA)).await
    }

    async fn resume(&self, at: &Key) -> Result<Option<Box<dyn Staged>>, Error> {
        if self.length(at).await?.is_none() {
            return Ok(None);
        }
        self.step().await;
        let data = self.staged_at(at).child(DATA);
        let modified = self.now();
        let mut objects = self.at("open", &data)?;
        if self.shared.mode == Mode::Objects && !is_staged(&objects, &self.staged_at(at)) {
            return Ok(None);
        }
        let found = objects.get(data.as_str());
        let bytes = match found.map(|stored| &stored.content) {
            Some(Content::Growing(bytes)) => Arc::clone(bytes),
            Some(Content::Whole(bytes)) => Arc::new(Mutex::new(BytesMut::from(bytes.as_ref()))),
            None => Arc::default(),
        };
        // A store of objects gives an upload the time at which it began.
        let began = found.map(|stored| stored.modified);
        let began = began.filter(|_| self.shared.mode == Mode::Objects);
        let content = Content::Growing(Arc::clone(&bytes));
        let stored = Stored { content, modified: began.unwrap_or(modified) };
        objects.insert(data.to_string(), stored);
        Ok(Some(Box::new(MemoryStaged { memory: self.clone(), at: at.clone(), bytes })))
    }

    async fn clear(&self, at: &Key) -> Result<(), Error> {
        self.discard(&self.staged_at(at)).await.map(drop)
    }

    async fn abort(&self, at: &Key, _: &Key, _: Durability) -> Result<(), Error> {
        self.clear(at).await
    }
}

#[derive(Debug)]
struct MemoryStaged {
    memory: Memory,
    at: Key,
    bytes: Arc<Mutex<BytesMut>>,
}

#[async_trait]
impl Appender for MemoryStaged {
    fn position(&self) -> u64 {
        locked(&self.bytes).len() as u64
    }

    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), Error> {
        let mut bytes = locked(&self.bytes);
        for piece in pieces {
            bytes.extend_from_slice(&piece);
        }
        Ok(())
    }

    async fn reserve(&mut self, _: u64) -> Result<(), Error> {
        Ok(())
    }

    async fn truncate(&mut self, length: u64) -> Result<(), Error> {
        locked(&self.bytes).truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

#[async_trait]
impl Staged for MemoryStaged {
    async fn rest(&mut self, notes: Vec<Note>) -> Result<bool, Error> {
        let memory = &self.memory;
        match memory.shared.mode {
            Mode::Folders => {
                if memory.length(&self.at).await?.is_none() {
                    return Ok(false);
                }
                memory.begin(&self.at, notes).await?;
            }
            Mode::Objects => {
                memory.step().await;
                let at = memory.staged_at(&self.at);
                let now = memory.now();
                let mut objects = memory.at("write", &at)?;
                if !is_staged(&objects, &at) {
                    return Ok(false);
                }
                insert(&mut objects, &at, notes, now);
            }
        }
        Ok(true)
    }

    async fn commit(&mut self, to: &Key) -> Result<bool, Error> {
        let data = self.memory.staged_at(&self.at).child(DATA);
        if self.memory.shared.mode == Mode::Folders && !self.memory.renew(&data).await? {
            return Ok(false);
        }
        self.memory.step().await;
        let mut objects = self.memory.at("rename a file to", to)?;
        let Some(Stored { content, modified }) = objects.remove(data.as_str()) else {
            return Ok(false);
        };
        let content = Content::Whole(content.bytes());
        objects.insert(to.to_string(), Stored { content, modified });
        Ok(true)
    }
}
