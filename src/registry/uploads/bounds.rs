//! How long an upload may become.

use crate::{
    byte_size::ByteSize,
    oci::Digest,
    registry::{Error, quotas::Claim},
};

/// A blob with more bytes than its caller may push.
#[derive(Debug, thiserror::Error)]
#[error("blobs may have {most}{}", than(*.most, *.bytes))]
pub struct BlobTooLarge {
    /// The limit.
    pub most: ByteSize,
    /// The number of bytes, where the client has announced it.
    pub bytes: Option<u64>,
}

fn than(most: ByteSize, bytes: Option<u64>) -> String {
    match bytes {
        Some(bytes) => format!(", this one has {}", most.beside(bytes)),
        None => ", this one has more".to_owned(),
    }
}

/// The limits of an upload.
#[derive(Debug)]
pub(super) struct Bounds {
    /// The largest blob that may be pushed.
    pub(super) largest: Option<ByteSize>,
    /// The room in the repository, where there is a quota for it.
    pub(super) claim: Option<Claim>,
}

/// A length that an upload is about to reach.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reaches {
    /// The client has announced it, and no byte of the chunk has been read.
    Announced(u64),
    /// These bytes have arrived.
    Arrived(u64),
}

impl Bounds {
    /// Refuses a length beyond a limit, and reserves room for it.
    pub(super) async fn allow(&mut self, reaches: Reaches) -> Result<(), Error> {
        let (bytes, announced) = match reaches {
            Reaches::Announced(bytes) => (bytes, Some(bytes)),
            Reaches::Arrived(bytes) => (bytes, None),
        };
        if let Some(most) = self.largest
            && bytes > most.get()
        {
            return Err(BlobTooLarge { most, bytes: announced }.into());
        }
        match &mut self.claim {
            Some(claim) => claim.reach(bytes, announced).await,
            None => Ok(()),
        }
    }

    /// Gives up the claim to room where the repository got the blob from another upload meanwhile.
    pub(super) async fn before_the_link(&mut self, digest: &Digest) -> Result<(), Error> {
        if let Some(claim) = &self.claim
            && claim.is_needless(digest).await?
        {
            self.claim = None;
        }
        Ok(())
    }

    /// Counts the room as used: the repository has a link to the blob now.
    pub(super) fn linked(self) {
        if let Some(claim) = self.claim {
            claim.linked();
        }
    }
}
