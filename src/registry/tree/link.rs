//! Link files: a digest as text, no newline, at a key that says what it is for.

use bytes::Bytes;

use super::{Tree, TreeKey};
use crate::{
    oci::Digest,
    registry::Error,
    storage::{Durability, ErrorKind},
};

/// No digest is longer; registry:2 writes no newline, people with editors do.
pub(in crate::registry) const MAX_LEN: usize = 256;

/// The digest that the content of a link file names; `None` when it names none.
pub(in crate::registry) fn parse(content: &[u8]) -> Option<Digest> {
    std::str::from_utf8(content).ok()?.trim().parse().ok()
}

impl Tree {
    /// Where a link leads. One that is empty, holds no digest or the digest of something else leads
    /// nowhere: a full disk or a power cut under registry:2 leaves such files, and they must not
    /// take the rest down.
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

    /// Makes a place lead to `digest`, durably.
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

    /// Enters a manifest that refers to another. Not durably: what is in the tree and not entered is
    /// found by whoever starts after a power cut.
    pub(in crate::registry) async fn enter(
        &self,
        place: TreeKey<'_>,
        digest: &Digest,
    ) -> Result<(), Error> {
        let bytes = Bytes::from(digest.to_string());
        Ok(self.storage().put(&place.key(), bytes, Durability::Lazy).await?)
    }
}
