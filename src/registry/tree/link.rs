//! Link files: each holds a digest as text, without a newline; its key tells its meaning.

use bytes::Bytes;

use super::{Tree, TreeKey};
use crate::{
    oci::Digest,
    registry::Error,
    storage::{Durability, ErrorKind},
};

/// The longest link file: longer than any digest, with room for a newline that an editor adds.
pub(in crate::registry) const MAX_LEN: usize = 256;

/// The digest in the content of a link file; `None` when the content is no digest.
pub(in crate::registry) fn parse(content: &[u8]) -> Option<Digest> {
    std::str::from_utf8(content).ok()?.trim().parse().ok()
}

impl Tree {
    /// The target of a link. A file that is empty, or holds no digest or one that the link may not lead
    /// to, counts as missing: a full disk or a power cut under registry:2 leaves such files, and they
    /// must not make other content unusable.
    pub(in crate::registry) async fn link(
        &self,
        place: TreeKey<'_>,
    ) -> Result<Option<Digest>, Error> {
        let key = place.key();
        let target = match self.storage().read(&key, MAX_LEN).await {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => parse(&bytes),
            Err(error) if error.kind() == ErrorKind::TooLong => None,
            Err(error) => return Err(error.into()),
        };
        let why = match &target {
            None => "a link file that holds no digest",
            Some(target) if !place.may_lead_to(target) => "a link that leads to something else",
            Some(_) => return Ok(target),
        };
        self.skip(&key, why);
        Ok(None)
    }

    /// Writes a link to `digest`, durably.
    pub(in crate::registry) async fn set_link(
        &self,
        place: TreeKey<'_>,
        digest: &Digest,
    ) -> Result<(), Error> {
        let bytes = Bytes::from(digest.to_string());
        self.storage().put(&place.key(), bytes, Durability::Synced).await?;
        if matches!(place, TreeKey::Revision(..)) {
            // It may be the first manifest of the repository.
            self.catalog_changed();
        }
        Ok(())
    }

    /// Enters a referrer under its subject. Not durably: the first list after a start enters the
    /// manifests of a repository that have no entry.
    pub(in crate::registry) async fn enter(
        &self,
        place: TreeKey<'_>,
        digest: &Digest,
    ) -> Result<(), Error> {
        let bytes = Bytes::from(digest.to_string());
        Ok(self.storage().put(&place.key(), bytes, Durability::Lazy).await?)
    }
}
