//! The errors of the core.

use super::{BlobTooLarge, QuotaExceeded, TagExists, TagImmutable, Unacceptable};
use crate::{
    oci::{Digest, InvalidManifest},
    storage,
};

/// The reason why an operation failed or was refused. A read of absent content returns `None` instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The clock of the storage is no measure of age.
    #[error("the clock of the storage went back meanwhile; try again")]
    ClockWentBack,
    /// Manifests of the repository reference the blob: these, and possibly more.
    #[error("{} need the blob", count(.0, "manifests"))]
    BlobNeeded(Vec<Digest>),
    /// Manifests of the repository cannot be read and may reference the blob: these, and possibly more.
    #[error("{} cannot be read and may need the blob", count(.0, "manifests"))]
    BlobMayBeNeeded(Vec<String>),
    /// The blob has more bytes than the caller may push.
    #[error(transparent)]
    BlobTooLarge(#[from] BlobTooLarge),
    /// The client's bytes did not arrive.
    #[error("the request body did not arrive whole")]
    Body(#[from] BodyError),
    /// The bytes do not have the digest that the client claims.
    #[error("the content is {computed}, not {claimed}")]
    DigestMismatch {
        /// The digest from the client.
        claimed: Digest,
        /// The digest of the bytes.
        computed: Digest,
    },
    /// The repository has no content for these descriptors of a manifest.
    #[error("the manifest refers to {} that the repository does not have", count(.0, "things"))]
    ManifestBlobUnknown(Vec<Digest>),
    /// The bytes are no manifest.
    #[error(transparent)]
    ManifestInvalid(#[from] InvalidManifest),
    /// The rules of this registry refuse the manifest.
    #[error(transparent)]
    ManifestRefused(#[from] Unacceptable),
    /// Garbage collections removed bytes while this was added, each time that it was tried.
    #[error("garbage collections ran each time that this was tried; try again")]
    Overtaken,
    /// The work ended in a panic, which is a bug.
    #[error("a task panicked")]
    Panicked(#[source] tokio::task::JoinError),
    /// The quota of the repository has no room for the blob.
    #[error(transparent)]
    QuotaExceeded(#[from] QuotaExceeded),
    /// A chunk that does not begin where the upload ends.
    #[error("the upload goes on at byte {offset}")]
    RangeInvalid {
        /// The number of bytes of the upload.
        offset: u64,
    },
    /// A chunk of another length than its range says.
    #[error("the range is of {expected} bytes, {received} arrived")]
    SizeInvalid {
        /// The length of the range.
        expected: u64,
        /// The number of bytes that arrived.
        received: u64,
    },
    /// The backend failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The push would have moved a tag, and its caller may only add tags.
    #[error(transparent)]
    TagExists(#[from] TagExists),
    /// The push would have moved an immutable tag.
    #[error(transparent)]
    TagImmutable(#[from] TagImmutable),
    /// The user has begun too many uploads within an hour.
    #[error(
        "{most} uploads were begun within an hour and did not become blobs; finish some, or try \
         again in {} seconds",
        retry_after.as_secs_f64().ceil()
    )]
    TooManyBegun {
        /// The limit.
        most: usize,
        /// The time until the user may begin another upload.
        retry_after: std::time::Duration,
    },
    /// The user has too many uploads open.
    #[error("{most} uploads are open; finish or cancel some of them")]
    TooManyUploads {
        /// The limit.
        most: usize,
    },
    /// Another request is writing to the same upload.
    #[error("another request is writing to this upload")]
    UploadBusy,
    /// The repository has no such upload.
    #[error("no such upload")]
    UploadUnknown,
}

impl Error {
    /// Whether nothing is left of the upload that failed so: its blob cannot become whole, and its bytes
    /// would take up space until the upload is purged.
    pub(super) fn ends_the_upload(&self) -> bool {
        self.is_out_of_space() || matches!(self, Self::BlobTooLarge(_) | Self::QuotaExceeded(_))
    }

    /// Whether the disk or the quota of the disk is full.
    pub(super) fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Storage(error) if error.kind() == storage::ErrorKind::NoSpace)
    }
}

fn count(digests: &[impl ToString], what: &str) -> String {
    match digests {
        [digest] => digest.to_string(),
        _ => format!("{} {what}", digests.len()),
    }
}

/// The reason why the body of a request ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client hung up, or its connection broke.
    #[error("the client went away")]
    Gone(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The client sent nothing for too long.
    #[error("the client sent nothing for {} seconds", .0.as_secs())]
    Stalled(std::time::Duration),
}
