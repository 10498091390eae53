//! Mounting blobs: a repository gets a link to bytes that exist already.

use std::sync::Arc;

use super::Blobs;
use crate::{
    oci::{Digest, RepositoryName},
    registry::{Caller, Error, Occurrence, quotas::Claim, tree::TreeKey},
    storage::fences::Part,
};

impl Blobs {
    /// Mounts a blob of the repository `from`, or of any repository where `from` is `None`, in the
    /// repository `name` (end-11). Returns its length in bytes; `None` when there is no such blob.
    ///
    /// # Errors
    ///
    /// When the quota of `name` has no room for the blob, or storage fails.
    pub async fn mount(
        self: &Arc<Self>,
        caller: &Caller,
        name: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<Option<u64>, Error> {
        // registry:2 links a sha512 name to sha256 content, so the target comes from the link.
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
            let mut claim = blobs.quotas.claim(&name, Some(&digest)).await?;
            if let Some(claim) = &mut claim {
                let size = blobs.tree.storage().size(&TreeKey::Data(&target).key()).await?;
                claim.reach(size.unwrap_or_default(), size).await?;
            }
            let size = blobs.link(&name, &digest, &target).await?;
            if let Some(size) = size {
                claim.into_iter().for_each(Claim::linked);
                let occurrence = Occurrence::BlobMounted { digest, size, from };
                blobs.events.emit(&caller, &name, occurrence).await;
            }
            Ok(size)
        };
        self.tree.detached(work).await
    }

    /// Links the blob `digest` of a repository to the bytes of `target`. Returns their length; `None`
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
            // A collection that has marked this repository already does not see the link.
            if !addition.renew(&data).await? {
                return Ok(None);
            }
            self.tree.set_link(TreeKey::Layer(name, digest), target).await?;
            if addition.end(Part::All).await? {
                return Ok(Some(size));
            }
        }
    }
}
