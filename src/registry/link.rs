//! Link files: a digest as text, no newline, at a key that says what it is for.

use bytes::Bytes;

use super::{Error, Registry, layout::Place};
use crate::{oci::Digest, storage::Durability};

/// No digest is longer; registry:2 writes no newline, people with editors do.
pub(super) const MAX_LEN: usize = 256;

/// The digest that the content of a link file names; `None` when it names none.
pub(super) fn parse(content: &[u8]) -> Option<Digest> {
    std::str::from_utf8(content).ok()?.trim().parse().ok()
}

impl Registry {
    /// Where a link leads. One that is empty or holds no digest leads nowhere: a full disk or a
    /// power cut under registry:2 leaves such files, and they must not take the rest down.
    pub(super) async fn link(&self, place: Place<'_>) -> Result<Option<Digest>, Error> {
        let key = place.key();
        let Some(bytes) = self.storage().read(&key, MAX_LEN).await? else {
            return Ok(None);
        };
        let digest = parse(&bytes);
        if digest.is_none() {
            tracing::warn!(%key, "skipping a link file that holds no digest");
        }
        Ok(digest)
    }

    /// Makes a place lead to `digest`, durably.
    pub(super) async fn set_link(&self, place: Place<'_>, digest: &Digest) -> Result<(), Error> {
        let bytes = Bytes::from(digest.to_string());
        Ok(self.storage().put(&place.key(), bytes, Durability::Synced).await?)
    }
}
