//! Uploads: sessions in which the bytes of a blob arrive.
//!
//! The state of a session is in storage, so a client can resume it after its connection broke or the
//! server was restarted. `resume.rs` resumes an upload and suspends it for the next request, `intake.rs`
//! receives, hashes and writes the bytes; this file decides when they become a blob.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::stream::BoxStream;

use self::{
    bounds::Bounds,
    intake::Intakes,
    ownership::OpenUploads,
    sessions::{Hashed, Session, Sessions},
};
use super::{
    BodyError, Caller, Clock, Error, Events, Occurrence,
    quotas::Quotas,
    tree::{Tree, TreeKey},
};
use crate::{
    byte_size::ByteSize,
    oci::{Algorithm, Digest, Hasher, RepositoryName},
    storage::{Note, STARTED_AT, fences::Part},
};

mod allowance;
mod bounds;
mod cancel;
mod id;
mod intake;
mod ownership;
mod preallocation;
mod purge;
mod resume;
mod resume_state;
mod sessions;

pub use self::{
    bounds::BlobTooLarge,
    id::{InvalidUploadId, UploadId},
    ownership::{NewUpload, Upload, UploadLimits},
    purge::{OldUpload, PurgeOptions, Purged},
};

/// The bytes of a request as they arrive.
pub type Body = BoxStream<'static, Result<Bytes, BodyError>>;

/// A part of a blob that a client sends.
pub struct Chunk {
    /// Its bytes.
    pub body: Body,
    /// Their number, where the client announces it.
    pub length: Option<u64>,
    /// Their place in the blob, where the client announces it; an empty range for an empty chunk.
    pub range: Option<Range<u64>>,
    /// The most bytes that the blob may have; `None`: any number.
    pub largest: Option<ByteSize>,
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk")
            .field("length", &self.length)
            .field("range", &self.range)
            .field("largest", &self.largest)
            .finish_non_exhaustive()
    }
}

/// The uploads of all repositories.
#[derive(Debug)]
pub struct Uploads {
    tree: Arc<Tree>,
    clock: Arc<dyn Clock>,
    events: Events,
    quotas: Arc<Quotas>,
    sessions: Sessions,
    open: OpenUploads,
    intakes: Intakes,
}

impl Uploads {
    pub(super) fn new(
        tree: Arc<Tree>,
        clock: Arc<dyn Clock>,
        events: Events,
        quotas: Arc<Quotas>,
        limits: UploadLimits,
    ) -> Self {
        let intakes = Intakes::new(tree.shared_storage());
        let open = OpenUploads::new(limits);
        Self { tree, clock, events, quotas, sessions: Sessions::default(), open, intakes }
    }

    /// Begins an upload of `owner` (end-4a, end-4c). `algorithm` is the probable algorithm of its
    /// digest.
    ///
    /// # Errors
    ///
    /// When the owner has too many uploads open, or has begun too many; when storage fails. Then
    /// nothing is left of the upload.
    pub async fn begin(
        self: &Arc<Self>,
        name: &RepositoryName,
        algorithm: Algorithm,
        owner: Option<Arc<str>>,
    ) -> Result<UploadId, Error> {
        let id = UploadId::random();
        let upload = Upload { name: name.clone(), id, owner };
        self.open.open(&upload)?;
        let uploads = Arc::clone(self);
        self.tree
            .detached(async move {
                let begun = uploads.create(&upload, algorithm).await;
                if begun.is_err() {
                    uploads.clear_failed(&upload.name, id).await;
                    uploads.open.close(&upload);
                }
                begun
            })
            .await?;
        Ok(id)
    }

    async fn create(&self, upload: &Upload, algorithm: Algorithm) -> Result<(), Error> {
        let Upload { name, id, .. } = upload;
        let at = TreeKey::Upload(name, *id).key();
        let started = Bytes::from(purge::started_at(self.clock.now()));
        let mut notes = Vec::from_iter(upload.owner_note());
        notes.push(Note { name: STARTED_AT, text: started });
        // A process that deletes the repository deletes the whole upload, or nothing of it.
        let inside = self.tree.inside(name).await?;
        self.tree.staging().begin(&at, notes).await?;
        drop(inside);
        if let Some(mut session) = self.sessions.enter(*id).await {
            session.park(Hashed { hasher: Hasher::new(algorithm), length: 0 });
        }
        Ok(())
    }

    /// The number of bytes of an upload (end-13).
    ///
    /// # Errors
    ///
    /// When the repository has no such upload, or it has another owner; when storage fails.
    pub async fn length(&self, upload: &Upload) -> Result<u64, Error> {
        self.refuse_unknown(upload).await?;
        // The client wants to resume: bytes that arrived before its connection broke count.
        self.sessions.settled(upload.id).await;
        let length = self.length_now(&upload.name, upload.id).await?;
        length.ok_or(Error::UploadUnknown)
    }

    async fn length_now(&self, name: &RepositoryName, id: UploadId) -> Result<Option<u64>, Error> {
        Ok(self.tree.staging().length(&TreeKey::Upload(name, id).key()).await?)
    }

    /// Adds a chunk to an upload and returns its new length (end-5). Bytes that arrive before a
    /// connection breaks are kept.
    ///
    /// # Errors
    ///
    /// When there is no such upload, another request is writing to it, the chunk does not begin at
    /// its end or is not as long as its range, the body breaks off, or storage fails. When the blob is too
    /// large, the repository has no room for it or the disk is full, nothing is left of the upload: no client resumes it, and its bytes would
    /// keep the disk full.
    pub async fn append(self: &Arc<Self>, upload: &Upload, chunk: Chunk) -> Result<u64, Error> {
        self.refuse_unknown(upload).await?;
        let uploads = Arc::clone(self);
        let upload = upload.clone();
        self.tree
            .detached(async move {
                let Upload { name, id, .. } = upload.clone();
                let mut session = uploads.sessions.enter(id).await.ok_or(Error::UploadBusy)?;
                let mut bounds = uploads.bounds(&name, chunk.largest, None).await?;
                let mut intake = uploads.resume(&name, id, &mut session).await?;
                let taken = intake.take(chunk, &mut bounds).await;
                let left = uploads.leave(&name, id, &mut session, &mut intake).await;
                let appended = taken.and(left);
                if appended.as_ref().is_err_and(Error::ends_the_upload) {
                    session.forget();
                    uploads.clear_failed(&name, id).await;
                    uploads.open.close(&upload);
                }
                appended?;
                Ok(intake.length())
            })
            .await
    }

    /// Adds the last chunk, which may be empty, makes the upload a blob of the repository (end-6),
    /// emits its event, and returns its length.
    ///
    /// # Errors
    ///
    /// As for [`append`](Self::append), after which the upload can go on; and when the bytes have
    /// another digest, after which nothing is left of it.
    pub async fn finish(
        self: &Arc<Self>,
        caller: &Caller,
        upload: &Upload,
        digest: &Digest,
        chunk: Chunk,
    ) -> Result<u64, Error> {
        self.refuse_unknown(upload).await?;
        let uploads = Arc::clone(self);
        let caller = caller.clone();
        let upload = upload.clone();
        let digest = digest.clone();
        self.tree
            .detached(async move {
                let finished = uploads.complete(&upload.name, upload.id, &digest, chunk).await;
                match &finished {
                    Ok(size) => {
                        uploads.open.finished(&upload);
                        let occurrence = Occurrence::BlobPushed { digest, size: *size };
                        uploads.events.emit(&caller, &upload.name, occurrence).await;
                    }
                    Err(Error::DigestMismatch { .. } | Error::UploadUnknown) => {
                        uploads.open.close(&upload);
                    }
                    Err(error) if error.ends_the_upload() => uploads.open.close(&upload),
                    // The client can resume the upload.
                    Err(_) => {}
                }
                finished
            })
            .await
    }

    /// Receives a whole blob of `owner` in one request (end-4b), emits its event, and returns its length.
    /// After a failure nothing is left of it, because the client knows no upload that it could resume.
    ///
    /// # Errors
    ///
    /// As for [`begin`](Self::begin), because the request counts as an open upload, and as for
    /// [`finish`](Self::finish).
    pub async fn put(
        self: &Arc<Self>,
        caller: &Caller,
        NewUpload { name, owner }: NewUpload<'_>,
        digest: &Digest,
        chunk: Chunk,
    ) -> Result<u64, Error> {
        let uploads = Arc::clone(self);
        let caller = caller.clone();
        let name = name.clone();
        let digest = digest.clone();
        self.tree
            .detached(async move {
                let id = UploadId::random();
                let counted = Upload { name: name.clone(), id, owner };
                let counted = uploads.open.in_one_request(counted)?;
                // No client learns the id of this upload, so it needs no note of its owner.
                let upload = Upload { name, id, owner: None };
                let begun = uploads.create(&upload, digest.algorithm()).await;
                let finished = match begun {
                    Ok(()) => uploads.complete(&upload.name, id, &digest, chunk).await,
                    Err(error) => Err(error),
                };
                match finished {
                    Ok(size) => {
                        counted.finished();
                        let occurrence = Occurrence::BlobPushed { digest, size };
                        uploads.events.emit(&caller, &upload.name, occurrence).await;
                    }
                    // The client gets the first error.
                    Err(_) => uploads.clear_failed(&upload.name, id).await,
                }
                finished
            })
            .await
    }

    /// The limits of an upload whose blob may be as large as `largest`; `digest` is the blob's, where the
    /// client has told it.
    async fn bounds(
        &self,
        name: &RepositoryName,
        largest: Option<ByteSize>,
        digest: Option<&Digest>,
    ) -> Result<Bounds, Error> {
        Ok(Bounds { largest, claim: self.quotas.claim(name, digest).await? })
    }

    async fn complete(
        &self,
        name: &RepositoryName,
        id: UploadId,
        digest: &Digest,
        chunk: Chunk,
    ) -> Result<u64, Error> {
        let mut session = self.sessions.enter(id).await.ok_or(Error::UploadBusy)?;
        let completed = self.complete_in(&mut session, name, digest, chunk).await;
        if completed.as_ref().is_err_and(Error::ends_the_upload) {
            session.forget();
            self.clear_failed(name, id).await;
        }
        completed
    }

    async fn complete_in(
        &self,
        session: &mut Session<'_>,
        name: &RepositoryName,
        digest: &Digest,
        chunk: Chunk,
    ) -> Result<u64, Error> {
        let id = session.id();
        let mut bounds = self.bounds(name, chunk.largest, Some(digest)).await?;
        let mut intake = self.resume(name, id, session).await?;
        let taken = intake.take(chunk, &mut bounds).await;
        if let Err(error) = taken {
            // The client gets the first error.
            let _ = self.leave(name, id, session, &mut intake).await;
            return Err(error);
        }
        let computed = if intake.algorithm() == digest.algorithm() {
            intake.digest()
        } else {
            let fresh = Hashed { hasher: Hasher::new(digest.algorithm()), length: 0 };
            self.hash_up_to(name, id, fresh, intake.length()).await?.hasher.finish()
        };
        if computed != *digest {
            self.clear(name, id).await?;
            return Err(Error::DigestMismatch { claimed: digest.clone(), computed });
        }
        self.sync(name, id, &mut intake).await?;
        let at = TreeKey::Upload(name, id).key();
        let data = TreeKey::Data(digest).key();
        let mut relying = self.tree.relying(name, Some(digest));
        let mut is_committed = false;
        loop {
            let addition = relying.enter().await?;
            // This replaces a blob of the same digest, which repairs corrupt bytes, since these have
            // just been verified. Missing bytes mean that the repository has been deleted meanwhile, and
            // the upload with it.
            let is_there = match is_committed {
                true => addition.renew(&data).await?,
                false => intake.commit(&data).await?,
            };
            if !is_there {
                return Err(Error::UploadUnknown);
            }
            is_committed = true;
            bounds.before_the_link(digest).await?;
            self.tree.set_link(TreeKey::Layer(name, digest), digest).await?;
            self.tree.staging().clear(&at).await?;
            if addition.end(Part::All).await? {
                break;
            }
        }
        bounds.linked();
        Ok(intake.length())
    }
}
