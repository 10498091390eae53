//! The notes beside untagged manifests: since when each is untagged.
//!
//! The note is the modification time of an empty file beside the revision's link. A collection creates it
//! when it first finds the manifest untagged. Notes are never deleted: of a manifest that has a tag again,
//! each collection renews the note, so that the time without a tag begins anew.

use bytes::Bytes;

use super::{
    Collection,
    repository::{Plan, Staying},
};
use crate::{
    oci::{Digest, RepositoryName},
    registry::{Error, tree::TreeKey},
    storage::Durability,
};

/// How many notes are written inside the fence before others can close it.
const BATCH: usize = 64;

impl Collection<'_> {
    /// Notes which manifests of a repository are untagged, where manifests go by that. A full disk has no
    /// room for new notes; then the time of these manifests begins with a later collection.
    pub(super) async fn note_untagged(
        &self,
        name: &RepositoryName,
        plan: &Plan,
    ) -> Result<(), Error> {
        if self.limits.unused.is_none() || self.how.dry_run || plan.is_kept() {
            return Ok(());
        }
        let outdated = |stays: &Staying<'_>| stays.is_untagged != stays.revision.noted;
        let outdated: Vec<&Digest> =
            plan.staying().filter(outdated).map(|stays| &stays.revision.digest).collect();
        for some in outdated.chunks(BATCH) {
            let _inside = self.tree.inside(name).await?;
            for digest in some {
                match self.note(name, digest).await {
                    Err(error) if error.is_out_of_space() => return Ok(()),
                    noted => noted?,
                }
            }
        }
        Ok(())
    }

    async fn note(&self, name: &RepositoryName, digest: &Digest) -> Result<(), Error> {
        let storage = self.tree.storage();
        let key = TreeKey::Untagged(name, digest).key();
        // Without a revision the note alone would leave a folder.
        if storage.renew(&key).await?
            || storage.size(&TreeKey::Revision(name, digest).key()).await?.is_none()
        {
            return Ok(());
        }
        Ok(storage.put(&key, Bytes::new(), Durability::Lazy).await?)
    }
}
