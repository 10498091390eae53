//! Blobs: shared by all repositories, seen only through the link that each has to them.

use std::{ops::Range, sync::Arc};

use super::{
    Action, Caller, Error, Events, Manifests, Occurrence,
    tree::{Tree, TreeKey},
};
use crate::{
    oci::{Digest, RepositoryName},
    storage::{ByteStream, Object, fences::Part},
};

mod references;

pub use references::DeleteMode;

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

/// The blobs of all repositories.
#[derive(Debug)]
pub struct Blobs {
    tree: Arc<Tree>,
    manifests: Arc<Manifests>,
    events: Events,
}

impl Blobs {
    pub(super) const fn new(tree: Arc<Tree>, manifests: Arc<Manifests>, events: Events) -> Self {
        Self { tree, manifests, events }
    }

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
    async fn length(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<u64>, Error> {
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

    /// Makes a blob of the repository `from`, or of any where none is named, a blob of `name` as
    /// well (end-11), and tells its length in bytes. `None` when it is not there to be mounted.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn mount(
        self: &Arc<Self>,
        caller: &Caller,
        name: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<Option<u64>, Error> {
        // registry:2 links a sha512 name to sha256 content: what the link says is what counts.
        let target = match from {
            Some(from) => match self.tree.link(TreeKey::Layer(from, digest)).await? {
                Some(target) => target,
                None => return Ok(None),
            },
            None => digest.clone(),
        };
        let blobs = Arc::clone(self);
        let caller = caller.clone();
        let name = name.clone();
        let digest = digest.clone();
        let from = from.cloned();
        let work = async move {
            let size = blobs.link(&name, &digest, &target).await?;
            if let Some(size) = size {
                let occurrence = Occurrence::BlobMounted { digest, size, from };
                blobs.events.emit(&caller, &name, occurrence).await;
            }
            Ok(size)
        };
        self.tree.detached(work).await
    }

    /// Makes a repository have the bytes of `target` as the blob `digest`; their length, or `None`
    /// when they are gone.
    async fn link(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        target: &Digest,
    ) -> Result<Option<u64>, Error> {
        let mut relying = self.tree.relying(name, Some(target));
        let data = TreeKey::Data(target).key();
        loop {
            let addition = relying.enter().await?;
            let Some(size) = self.tree.storage().size(&data).await? else { return Ok(None) };
            // A collection that has looked through this repository already does not see the link.
            if !addition.renew(&data).await? {
                return Ok(None);
            }
            self.tree.set_link(TreeKey::Layer(name, digest), target).await?;
            if addition.end(Part::All).await? {
                return Ok(Some(size));
            }
        }
    }

    /// Takes a blob out of a repository (end-10); `false` when it was not in it. The bytes stay for
    /// the other repositories.
    ///
    /// # Errors
    ///
    /// When manifests of the repository need it, or cannot be read and may need it, and it is to stay
    /// then; when storage fails.
    pub async fn delete(
        self: &Arc<Self>,
        caller: &Caller,
        name: &RepositoryName,
        digest: &Digest,
        mode: DeleteMode,
    ) -> Result<bool, Error> {
        let blobs = Arc::clone(self);
        let caller = caller.clone();
        let name = name.clone();
        let digest = digest.clone();
        let work = async move {
            let deleted = blobs.unlink(&name, &digest, mode).await?;
            if deleted {
                let occurrence = Occurrence::BlobDeleted(digest);
                blobs.events.emit(&caller, &name, occurrence).await;
            }
            Ok(deleted)
        };
        self.tree.detached(work).await
    }

    async fn unlink(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        mode: DeleteMode,
    ) -> Result<bool, Error> {
        let alone = self.tree.closing(name).await?;
        // A link that leads to nothing is of no use to a manifest.
        if mode == DeleteMode::IfUnreferenced && self.length(name, digest).await?.is_some() {
            self.refuse_referenced(name, digest).await?;
        }
        let deleted = alone.delete(&TreeKey::Layer(name, digest).key()).await?;
        alone.open().await?;
        Ok(deleted)
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
