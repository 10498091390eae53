//! Blobs: all repositories share the bytes, and a repository sees a blob only through its own link.

use std::sync::Arc;

use super::{
    Caller, Error, Events, Manifests, Occurrence,
    quotas::Quotas,
    tree::{Tree, TreeKey},
};
use crate::oci::{Digest, RepositoryName};

mod mount;
mod read;
mod references;

pub use self::{read::Blob, references::DeleteMode};

/// The blobs of all repositories.
#[derive(Debug)]
pub struct Blobs {
    tree: Arc<Tree>,
    manifests: Arc<Manifests>,
    events: Events,
    quotas: Arc<Quotas>,
}

impl Blobs {
    pub(super) const fn new(
        tree: Arc<Tree>,
        manifests: Arc<Manifests>,
        events: Events,
        quotas: Arc<Quotas>,
    ) -> Self {
        Self { tree, manifests, events, quotas }
    }

    /// Deletes a blob from a repository (end-10); `false` when the repository has no such blob. The
    /// bytes stay for other repositories.
    ///
    /// # Errors
    ///
    /// With [`DeleteMode::IfUnreferenced`], when a manifest of the repository references the blob, or
    /// cannot be read and may reference it. When storage fails.
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
                blobs.quotas.removed_from(&name);
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
        // A link without bytes is of no use to a manifest.
        if mode == DeleteMode::IfUnreferenced && self.length(name, digest).await?.is_some() {
            self.refuse_referenced(name, digest).await?;
        }
        let deleted = alone.delete(&TreeKey::Layer(name, digest).key()).await?;
        alone.open().await?;
        Ok(deleted)
    }
}
