//! Writing at the end of a file.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use super::run;
use crate::storage::{Appender, Error, Key};

#[derive(Debug)]
pub(super) struct FileAppender {
    file: Arc<File>,
    position: u64,
    key: Key,
}

impl FileAppender {
    pub(super) fn new(file: File, position: u64, key: &Key) -> Self {
        Self { file: Arc::new(file), position, key: key.clone() }
    }

    fn error(&self, action: &'static str, source: io::Error) -> Error {
        Error::new(action, &self.key, source)
    }
}

#[async_trait]
impl Appender for FileAppender {
    fn position(&self) -> u64 {
        self.position
    }

    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), Error> {
        let file = Arc::clone(&self.file);
        let mut end = self.position;
        // Positioned writes: one that failed half-way is overwritten by the next, never joined.
        let written = run(move || {
            for piece in pieces {
                file.write_all_at(&piece, end)?;
                end += piece.len() as u64;
            }
            Ok(end)
        });
        self.position = written.await.map_err(|source| self.error("write", source))?;
        Ok(())
    }

    async fn truncate(&mut self, length: u64) -> Result<(), Error> {
        let file = Arc::clone(&self.file);
        let cut = run(move || file.set_len(length)).await;
        cut.map_err(|source| self.error("shorten", source))?;
        self.position = length;
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), Error> {
        let file = Arc::clone(&self.file);
        let synced = run(move || file.sync_data()).await;
        synced.map_err(|source| self.error("sync", source))
    }
}
