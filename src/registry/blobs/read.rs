//! Reading blobs: their bytes or their length.

use std::ops::Range;

use super::Blobs;
use crate::{
    oci::{Digest, RepositoryName},
    registry::{Action, Caller, Error, Occurrence, tree::TreeKey},
    storage::{ByteStream, Object},
};

/// The garbage collection of registry:2 removes bytes and leaves the link.
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

    /// The length in bytes of a blob of a repository, without opening it (end-2). This extends the
    /// lease of the blob: the client can rely on it for the grace period.
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

    /// As [`size`](Self::size), without a lease: for callers that report nothing to a client, or that
    /// have closed the fence of the repository.
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
