//! How long an upload may become.

use super::Chunk;
use crate::{byte_size::ByteSize, registry::Error};

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
    largest: Option<ByteSize>,
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
    /// The limits of the upload that a chunk is added to.
    pub(super) const fn of(chunk: &Chunk) -> Self {
        Self { largest: chunk.largest }
    }

    /// Refuses a length beyond a limit.
    pub(super) fn allow(&self, reaches: Reaches) -> Result<(), Error> {
        let (bytes, announced) = match reaches {
            Reaches::Announced(bytes) => (bytes, Some(bytes)),
            Reaches::Arrived(bytes) => (bytes, None),
        };
        match self.largest {
            Some(most) if bytes > most.get() => Err(BlobTooLarge { most, bytes: announced }.into()),
            _ => Ok(()),
        }
    }
}
