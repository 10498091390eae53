//! Reading blobs: opened, or looked at for their length.

use std::ops::Range;

use super::Blobs;
use crate::{
    oci::{Digest, RepositoryName},
    registry::{Action, Caller, Error, Occurrence, tree::TreeKey},
    storage::{ByteStream, Object},
};

/// What registry:2's collector leaves: it takes the bytes and not the link.
const NO_BYTES: &str = "a link to a blob whose bytes are not there";

/// A blob opened for reading.
#[derive(Debug)]
pub struct Blob(Box<dyn Object>);

impl Blob {
    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size()
    }

    /// Streams a range of its bytes, which lies within it.
    #[must_use]
    pub fn stream(self, range: Range<u64>) -> ByteStream {
        self.0.stream(range)
    }

    /// Streams one of several ranges of its bytes, each of which lies within it.
    #[must_use]
    pub fn part(&self, range: Range<u64>) -> ByteStream {
        self.0.again().stream(range)
    }
}

impl Blobs {
    /// Opens a blob of a repository (end-2).
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn open(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Blob>, Error> {
        let place = TreeKey::Layer(name, digest);
        let Some(target) = self.tree.link(place).await? else {
            return Ok(None);
        };
        let object = self.tree.storage().open(&TreeKey::Data(&target).key()).await?;
        if object.is_none() {
            self.tree.skip(&place.key(), NO_BYTES);
        }
        Ok(object.map(Blob))
    }

    /// The length in bytes of a blob of a repository; nothing is opened or read (end-2). Who was told
    /// it can rely on the blob for as long as the grace of the collector.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn size(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<u64>, Error> {
        let size = self.length(name, digest).await?;
        let Some(size) = size else { return Ok(None) };
        let is_promised = self.tree.touch(name, TreeKey::Layer(name, digest)).await?;
        Ok(is_promised.then_some(size))
    }

    /// As [`size`](Self::size), for who does not tell a client, or holds the repository.
    pub(super) async fn length(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, Error> {
        let place = TreeKey::Layer(name, digest);
        let Some(target) = self.tree.link(place).await? else {
            return Ok(None);
        };
        let size = self.tree.storage().size(&TreeKey::Data(&target).key()).await?;
        if size.is_none() {
            self.tree.skip(&place.key(), NO_BYTES);
        }
        Ok(size)
    }

    /// Emits that a caller pulled a blob, a part of it, or its size.
    pub async fn emit_pulled(
        &self,
        caller: &Caller,
        name: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) {
        if self.events.wants(Action::Pull) {
            let occurrence = Occurrence::BlobPulled { digest: digest.clone(), size };
            self.events.emit(caller, name, occurrence).await;
        }
    }
}
