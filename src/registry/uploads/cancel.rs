//! The end of uploads without a blob: cancelled, purged or failed ones.

use std::sync::Arc;

use super::{Upload, UploadId, Uploads};
use crate::{
    oci::RepositoryName,
    registry::{
        Error,
        tree::{self, TreeKey},
    },
    storage::Durability,
};

impl Uploads {
    /// Cancels an upload and removes its bytes (end-14).
    ///
    /// # Errors
    ///
    /// When there is no such upload, another request is writing to it, or storage fails.
    pub async fn cancel(self: &Arc<Self>, upload: &Upload) -> Result<(), Error> {
        self.refuse_unknown(upload).await?;
        let uploads = Arc::clone(self);
        let upload = upload.clone();
        self.tree
            .detached(async move {
                let Upload { name, id, .. } = &upload;
                let _session = uploads.sessions.enter(*id).await.ok_or(Error::UploadBusy)?;
                // An upload whose bytes cannot be read, such as a link out of the tree, can be cancelled.
                if let Ok(None) = uploads.length_now(name, *id).await {
                    return Err(Error::UploadUnknown);
                }
                uploads.discard(name, *id).await?;
                uploads.open.close(&upload);
                Ok(())
            })
            .await
    }

    /// Removes an upload, with the folders that its beginning made. Durably, so that a cancelled upload
    /// does not return after a power cut.
    pub(super) async fn discard(&self, name: &RepositoryName, id: UploadId) -> Result<(), Error> {
        self.abort(name, id, Durability::Synced).await
    }

    /// Removes an upload, and the empty folders among those that its beginning made: the folder of
    /// uploads, the repository's, and those above it.
    pub(super) async fn clear(&self, name: &RepositoryName, id: UploadId) -> Result<(), Error> {
        self.abort(name, id, Durability::Lazy).await
    }

    async fn abort(
        &self,
        name: &RepositoryName,
        id: UploadId,
        durability: Durability,
    ) -> Result<(), Error> {
        let at = TreeKey::Upload(name, id).key();
        Ok(self.tree.staging().abort(&at, &tree::repositories(), durability).await?)
    }

    /// As [`clear`](Self::clear), after a failure: the client gets the error of that failure, and one of
    /// the removal is logged.
    pub(super) async fn clear_failed(&self, name: &RepositoryName, id: UploadId) {
        if let Err(error) = self.clear(name, id).await {
            let upload = TreeKey::Upload(name, id).key();
            tracing::warn!(%upload, %error, "an upload that failed is left over");
        }
    }
}
