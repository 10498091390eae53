//! Reading manifests.

use std::sync::Arc;

use super::{MAX_STORED, Manifests, StoredManifest, cache::Content};
use crate::{
    oci::{Digest, Reference, RepositoryName},
    registry::{Action, Caller, Error, ManifestContent, Occurrence, tree::TreeKey},
    storage::ErrorKind,
};

impl Manifests {
    /// A manifest of a repository (end-3).
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn get(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<StoredManifest>, Error> {
        let mut tried = None;
        loop {
            let digest = match reference {
                Reference::Digest(digest) => digest.clone(),
                Reference::Tag(tag) => {
                    match self.tree.link(TreeKey::TagCurrent(name, tag)).await? {
                        Some(digest) => digest,
                        None => return Ok(None),
                    }
                }
            };
            if tried.as_ref() == Some(&digest) {
                if let Reference::Tag(tag) = reference {
                    let key = TreeKey::TagCurrent(name, tag).key();
                    self.tree.skip(&key, "a tag of a manifest that is not there");
                }
                return Ok(None);
            }
            if let Some(content) = self.revision(name, &digest).await? {
                let Content { bytes, media_type } = &*content;
                let bytes = bytes.clone();
                let media_type = Arc::clone(media_type);
                return Ok(Some(StoredManifest { digest, media_type, bytes }));
            }
            // The tag may have moved since it was read, and its old manifest may have gone.
            tried = Some(digest);
        }
    }

    /// The content of a manifest that belongs to a repository.
    pub(in crate::registry) async fn revision(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Arc<Content>>, Error> {
        let place = TreeKey::Revision(name, digest);
        let Some(target) = self.tree.link(place).await? else {
            return Ok(None);
        };
        if let Some(content) = self.cache.find(&target) {
            return Ok(Some(content));
        }
        let why = match self.tree.storage().read(&TreeKey::Data(&target).key(), MAX_STORED).await {
            Ok(Some(bytes)) => return Ok(Some(self.cache.keep(&target, bytes))),
            Ok(None) => "a link to a manifest whose bytes are not there",
            Err(error) if error.kind() == ErrorKind::TooLong => {
                "a link to something longer than a manifest may be"
            }
            Err(error) => return Err(error.into()),
        };
        self.tree.skip(&place.key(), why);
        Ok(None)
    }

    /// Emits that a caller pulled a manifest, or looked at it.
    pub async fn emit_pulled(
        &self,
        caller: &Caller,
        name: &RepositoryName,
        reference: &Reference,
        manifest: &StoredManifest,
    ) {
        if !self.events.wants(Action::Pull) {
            return;
        }
        let StoredManifest { digest, media_type, bytes } = manifest.clone();
        let tag = match reference {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => None,
        };
        let manifest = ManifestContent { digest, media_type, bytes };
        self.events.emit(caller, name, Occurrence::ManifestPulled { manifest, tag }).await;
    }

    /// Extends the lease of a manifest whose existence is reported to a client: garbage collection
    /// keeps it for the grace period. `false` when it is gone.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn touch(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        self.tree.touch(name, TreeKey::Revision(name, digest)).await
    }
}
