//! Why the registry did not do what it was asked to.

use super::{TagImmutable, Unacceptable};
use crate::{
    oci::{Digest, InvalidManifest},
    storage,
};

/// Why the registry did not do what it was asked to. What is merely absent on reading is `None`
/// instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Whether something is old cannot be told.
    #[error("the clock of the storage went back meanwhile; try again")]
    ClockWentBack,
    /// Manifests of the repository need the blob: these, and more where they are many.
    #[error("{} need the blob", count(.0, "manifests"))]
    BlobNeeded(Vec<Digest>),
    /// Manifests of the repository cannot be read, so that it is not known whether they need the
    /// blob: these, and more where they are many.
    #[error("{} cannot be read and may need the blob", count(.0, "manifests"))]
    BlobMayBeNeeded(Vec<String>),
    /// The client's bytes did not arrive.
    #[error("the request body did not arrive whole")]
    Body(#[from] BodyError),
    /// The bytes have another digest than the client said.
    #[error("the content is {computed}, not {claimed}")]
    DigestMismatch {
        /// What the client said.
        claimed: Digest,
        /// What was computed here.
        computed: Digest,
    },
    /// Descriptors of a manifest that name nothing in the repository.
    #[error("the manifest refers to {} that the repository does not have", count(.0, "things"))]
    ManifestBlobUnknown(Vec<Digest>),
    /// Not a manifest.
    #[error(transparent)]
    ManifestInvalid(#[from] InvalidManifest),
    /// A manifest that this registry does not take.
    #[error(transparent)]
    ManifestRefused(#[from] Unacceptable),
    /// Garbage collections removed bytes while this was added, each time that it was tried.
    #[error("garbage collections ran each time that this was tried; try again")]
    Overtaken,
    /// The work ended in a panic, which is a fault of ours.
    #[error("a task panicked")]
    Panicked(#[source] tokio::task::JoinError),
    /// A chunk that does not begin where the upload ends.
    #[error("the upload goes on at byte {offset}")]
    RangeInvalid {
        /// How many bytes the upload has.
        offset: u64,
    },
    /// A chunk of another length than its range says.
    #[error("the range is of {expected} bytes, {received} arrived")]
    SizeInvalid {
        /// What the range said.
        expected: u64,
        /// What arrived.
        received: u64,
    },
    /// The backend failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// A tag that would have come to name something else.
    #[error(transparent)]
    TagImmutable(#[from] TagImmutable),
    /// Somebody begins more uploads than they may.
    #[error(
        "{most} uploads were begun within an hour and did not become blobs; finish some, or try \
         again in {} seconds",
        retry_after.as_secs_f64().ceil()
    )]
    TooManyBegun {
        /// How many they may begin.
        most: usize,
        /// When they may begin another.
        retry_after: std::time::Duration,
    },
    /// Somebody has more uploads open than they may.
    #[error("{most} uploads are open; finish or cancel some of them")]
    TooManyUploads {
        /// How many they may have.
        most: usize,
    },
    /// Another request is writing to the same upload.
    #[error("another request is writing to this upload")]
    UploadBusy,
    /// No such upload in this repository.
    #[error("no such upload")]
    UploadUnknown,
}

fn count(digests: &[impl ToString], what: &str) -> String {
    match digests {
        [digest] => digest.to_string(),
        _ => format!("{} {what}", digests.len()),
    }
}

/// Why a request's body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client hung up, or its connection broke.
    #[error("the client went away")]
    Gone(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The client sent nothing for too long.
    #[error("the client sent nothing for {} seconds", .0.as_secs())]
    Stalled(std::time::Duration),
}
