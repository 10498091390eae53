//! Uploads: sessions in which the bytes of a blob arrive.
//!
//! What a session has is in storage, so it can go on after its connection broke or the server
//! was restarted. `intake.rs` takes the bytes in; this file decides when they become a blob.
//!
//! An upload is acknowledged only when it is finished, so its parts need not be durable before
//! that. The state of the hasher is the exception: it must never be ahead of the data, or bytes
//! lost in a power cut would go into a digest unseen. So it is written after a sync, with the
//! length that it stands for, and what lies behind that length is hashed again.

use std::{fmt, ops::Range, str::FromStr, sync::Arc};

use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream::BoxStream};
use uuid::Uuid;

use self::{
    intake::{Intake, Intakes},
    ownership::OpenUploads,
    resume_state::SavedHasher,
    sessions::{Hashed, Session, Sessions},
};
use super::{
    BodyError, Caller, Clock, Error, Events, Occurrence,
    tree::{self, HASHER, Tree, TreeKey},
};
use crate::{
    oci::{Algorithm, Digest, Hasher, RepositoryName},
    storage::{Durability, Note, STARTED_AT, fences::Part},
};

mod allowance;
mod intake;
mod ownership;
mod purge;
mod resume_state;
mod room;
mod sessions;

pub use self::{
    ownership::{Upload, UploadLimits},
    purge::{OldUpload, PurgeOptions, Purged},
};

/// To hash less than this again is cheaper than the sync that would save it.
const WORTH_SAVING: u64 = 4 * 1024 * 1024;

/// The name of an upload session: a random UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(Uuid);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for UploadId {
    type Err = InvalidUploadId;

    /// Reads the one form that is written, so that no two texts are the same id.
    fn from_str(text: &str) -> Result<Self, InvalidUploadId> {
        let id = Self(Uuid::try_parse(text).map_err(|_| InvalidUploadId)?);
        if id.to_string() == text { Ok(id) } else { Err(InvalidUploadId) }
    }
}

/// A text is not the id of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of an upload")]
pub struct InvalidUploadId;

/// The bytes of a request as they arrive.
pub type Body = BoxStream<'static, Result<Bytes, BodyError>>;

/// A part of a blob on its way in.
pub struct Chunk {
    /// Its bytes.
    pub body: Body,
    /// How many they are, where the client said so.
    pub length: Option<u64>,
    /// Which bytes of the blob they are, where the client said so; none of them in a chunk that is
    /// empty.
    pub range: Option<Range<u64>>,
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk")
            .field("length", &self.length)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// The uploads of all repositories.
#[derive(Debug)]
pub struct Uploads {
    tree: Arc<Tree>,
    clock: Arc<dyn Clock>,
    events: Events,
    sessions: Sessions,
    open: OpenUploads,
    intakes: Intakes,
}

impl Uploads {
    pub(super) fn new(
        tree: Arc<Tree>,
        clock: Arc<dyn Clock>,
        events: Events,
        limits: UploadLimits,
    ) -> Self {
        let intakes = Intakes::new(tree.shared_storage());
        let open = OpenUploads::new(limits);
        Self { tree, clock, events, sessions: Sessions::default(), open, intakes }
    }

    /// Begins an upload of `owner` (end-4a, end-4c). `algorithm` is the one that its digest will
    /// probably have.
    ///
    /// # Errors
    ///
    /// When the owner has too many uploads open, or has begun too many; when storage fails, after
    /// which nothing is left of it.
    pub async fn begin(
        self: &Arc<Self>,
        name: &RepositoryName,
        algorithm: Algorithm,
        owner: Option<Arc<str>>,
    ) -> Result<UploadId, Error> {
        let id = UploadId(Uuid::new_v4());
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
        let mut relying = self.tree.relying(name, None);
        // A process that deletes the repository takes all of it along, or nothing.
        loop {
            let addition = relying.enter().await?;
            let mut notes = Vec::from_iter(upload.owner_note());
            notes.push(Note { name: STARTED_AT, text: started.clone() });
            self.tree.staging().begin(&at, notes).await?;
            if addition.end(Part::Repository).await? {
                break;
            }
        }
        if let Some(mut session) = self.sessions.enter(*id).await {
            session.park(Hashed { hasher: Hasher::new(algorithm), length: 0 });
        }
        Ok(())
    }

    /// How many bytes an upload has (end-13).
    ///
    /// # Errors
    ///
    /// When there is no such upload in the repository, or it is somebody else's; when storage
    /// fails.
    pub async fn length(&self, upload: &Upload) -> Result<u64, Error> {
        self.refuse_unknown(upload).await?;
        // A client that asks wants to go on: what arrived before its connection broke counts.
        self.sessions.settled(upload.id).await;
        let length = self.length_now(&upload.name, upload.id).await?;
        length.ok_or(Error::UploadUnknown)
    }

    async fn length_now(&self, name: &RepositoryName, id: UploadId) -> Result<Option<u64>, Error> {
        Ok(self.tree.staging().length(&TreeKey::Upload(name, id).key()).await?)
    }

    /// Adds a chunk to an upload and tells how many bytes it has then (end-5). What arrives before
    /// a connection breaks is kept.
    ///
    /// # Errors
    ///
    /// When there is no such upload, another request is writing to it, the chunk does not begin at
    /// its end or is not as long as its range, the body breaks off, or storage fails.
    pub async fn append(self: &Arc<Self>, upload: &Upload, chunk: Chunk) -> Result<u64, Error> {
        self.refuse_unknown(upload).await?;
        let (uploads, Upload { name, id, .. }) = (Arc::clone(self), upload.clone());
        self.tree
            .detached(async move {
                let mut session = uploads.sessions.enter(id).await.ok_or(Error::UploadBusy)?;
                let mut intake = uploads.resume(&name, id, &mut session).await?;
                let taken = intake.take(chunk).await;
                let left = uploads.leave(&name, id, &mut session, &mut intake).await;
                taken.and(left)?;
                Ok(intake.length())
            })
            .await
    }

    /// Adds the last chunk, which may be empty, makes the upload a blob of the repository (end-6),
    /// and tells how many bytes that has.
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
                    // It can go on.
                    Err(_) => {}
                }
                finished
            })
            .await
    }

    /// Takes a whole blob from the caller in one request (end-4b), and tells how many bytes it has.
    /// Whatever goes wrong, nothing is left of it, for the client knows no upload to go on with.
    ///
    /// # Errors
    ///
    /// As for [`begin`](Self::begin), for it is an open upload until it ends, and as
    /// for [`finish`](Self::finish).
    pub async fn put(
        self: &Arc<Self>,
        caller: &Caller,
        name: &RepositoryName,
        digest: &Digest,
        chunk: Chunk,
    ) -> Result<u64, Error> {
        let uploads = Arc::clone(self);
        let caller = caller.clone();
        let name = name.clone();
        let digest = digest.clone();
        self.tree
            .detached(async move {
                let id = UploadId(Uuid::new_v4());
                let counted = Upload { name: name.clone(), id, owner: caller.actor.clone() };
                let counted = uploads.open.in_one_request(counted)?;
                // Nobody is told of this upload, so that no owner is written down.
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
                    // What went wrong first is what the client is told.
                    Err(_) => uploads.clear_failed(&upload.name, id).await,
                }
                finished
            })
            .await
    }

    /// Ends an upload and forgets its bytes (end-14).
    ///
    /// # Errors
    ///
    /// When there is no such upload, another request is writing to it, or storage fails.
    pub async fn cancel(self: &Arc<Self>, upload: &Upload) -> Result<(), Error> {
        self.refuse_unknown(upload).await?;
        let (uploads, upload) = (Arc::clone(self), upload.clone());
        self.tree
            .detached(async move {
                let Upload { name, id, .. } = &upload;
                let _session = uploads.sessions.enter(*id).await.ok_or(Error::UploadBusy)?;
                // One whose bytes cannot be looked at, such as a link out of the tree, can be ended.
                if let Ok(None) = uploads.length_now(name, *id).await {
                    return Err(Error::UploadUnknown);
                }
                uploads.discard(name, *id).await?;
                uploads.open.close(&upload);
                Ok(())
            })
            .await
    }

    /// Removes an upload, with the folders that its beginning made. Durably, so that what a client has
    /// ended is not there again after a power cut.
    async fn discard(&self, name: &RepositoryName, id: UploadId) -> Result<(), Error> {
        self.abort(name, id, Durability::Synced).await
    }

    /// Removes what there is of an upload, and of the folders that its beginning made those that hold
    /// nothing else: the one for uploads, the repository's, and those above it.
    async fn clear(&self, name: &RepositoryName, id: UploadId) -> Result<(), Error> {
        self.abort(name, id, Durability::Lazy).await
    }

    async fn abort(
        &self,
        name: &RepositoryName,
        id: UploadId,
        durability: Durability,
    ) -> Result<(), Error> {
        let at = TreeKey::Upload(name, id).key();
        Ok(self.tree.staging().abort(&at, &tree::repositories(), durability).await?)
    }

    /// As [`clear`](Self::clear), for an upload that failed: its client is told of that.
    async fn clear_failed(&self, name: &RepositoryName, id: UploadId) {
        if let Err(error) = self.clear(name, id).await {
            let upload = TreeKey::Upload(name, id).key();
            tracing::warn!(%upload, %error, "an upload that failed is left over");
        }
    }

    async fn complete(
        &self,
        name: &RepositoryName,
        id: UploadId,
        digest: &Digest,
        chunk: Chunk,
    ) -> Result<u64, Error> {
        let mut session = self.sessions.enter(id).await.ok_or(Error::UploadBusy)?;
        let mut intake = self.resume(name, id, &mut session).await?;
        let taken = intake.take(chunk).await;
        if let Err(error) = taken {
            // What went wrong first is what the client is told.
            let _ = self.leave(name, id, &mut session, &mut intake).await;
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
            // This replaces a blob of the same digest, which heals one whose bytes went bad: these
            // have just been verified. Without them the repository has been deleted meanwhile, and
            // the upload with it.
            let is_there = match is_committed {
                true => addition.renew(&data).await?,
                false => intake.commit(&data).await?,
            };
            if !is_there {
                return Err(Error::UploadUnknown);
            }
            is_committed = true;
            self.tree.set_link(TreeKey::Layer(name, digest), digest).await?;
            self.tree.staging().clear(&at).await?;
            if addition.end(Part::All).await? {
                break;
            }
        }
        Ok(intake.length())
    }

    /// Takes an upload up where it ended.
    async fn resume(
        &self,
        name: &RepositoryName,
        id: UploadId,
        session: &mut Session<'_>,
    ) -> Result<Intake, Error> {
        let at = TreeKey::Upload(name, id).key();
        let mut relying = self.tree.relying(name, None);
        // One that goes with its repository after this look must not be made again.
        let staged = loop {
            let addition = relying.enter().await?;
            let staged = self.tree.staging().resume(&at).await?.ok_or(Error::UploadUnknown)?;
            if addition.end(Part::Repository).await? {
                break staged;
            }
        };
        let length = staged.position();
        let parked = session.take_parked();
        let algorithm = parked.as_ref().map(|parked| parked.hasher.algorithm());
        if parked.is_none() && length == 0 {
            // A kill between the rename of the data and the end of its session leaves the hasher of
            // bytes that are gone, and it must not be taken for that of those which come now.
            self.tree.staging().delete_note(&at, HASHER).await?;
        }
        let known = match parked.filter(|parked| parked.length <= length) {
            Some(parked) => Some(parked),
            None => self.saved_hasher(name, id).await?.filter(|saved| saved.length <= length),
        };
        let known = known.unwrap_or_else(|| Hashed {
            hasher: Hasher::new(algorithm.unwrap_or_default()),
            length: 0,
        });
        let saved = known.length;
        let hashed = self.hash_up_to(name, id, known, length).await?;
        let intakes = self.intakes.clone();
        let mut intake = Intake::new(staged, intakes, hashed, saved, session.asked());
        if session.was_overtaken() {
            intake.expect_range();
        }
        Ok(intake)
    }

    /// Leaves an upload for the request that goes on with it, unless it has gone with its
    /// repository.
    async fn leave(
        &self,
        name: &RepositoryName,
        id: UploadId,
        session: &mut Session<'_>,
        intake: &mut Intake,
    ) -> Result<(), Error> {
        let hashed = intake.hashed();
        if intake.has_grown() {
            session.wrote();
        }
        let worth_saving = hashed.length.saturating_sub(intake.saved()) >= WORTH_SAVING;
        if worth_saving {
            self.sync(name, id, intake).await?;
        }
        let mut notes = Vec::new();
        if worth_saving {
            notes.push(Note { name: HASHER, text: SavedHasher::encode(&hashed) });
        }
        let mut relying = self.tree.relying(name, None);
        loop {
            // What is written must not bring it back.
            let addition = match worth_saving {
                true => Some(relying.enter().await?),
                false => None,
            };
            if !intake.rest(notes.clone()).await? {
                return Err(Error::UploadUnknown);
            }
            let Some(addition) = addition else { break };
            if addition.end(Part::Repository).await? {
                break;
            }
        }
        session.park(hashed);
        Ok(())
    }

    /// Makes the bytes of an upload durable. When that fails nobody knows which of them are there,
    /// and to ask once more would only say that there is nothing left to do; so the upload ends,
    /// and its client begins again.
    async fn sync(
        &self,
        name: &RepositoryName,
        id: UploadId,
        intake: &mut Intake,
    ) -> Result<(), Error> {
        let synced = intake.sync().await;
        if synced.is_err() {
            self.open.forget(id);
            if let Err(error) = self.clear(name, id).await {
                let upload = TreeKey::Upload(name, id).key();
                tracing::error!(%upload, %error, "an upload that may be incomplete is left over");
            }
        }
        synced
    }

    async fn saved_hasher(
        &self,
        name: &RepositoryName,
        id: UploadId,
    ) -> Result<Option<Hashed>, Error> {
        let at = TreeKey::Upload(name, id).key();
        let bytes = self.tree.staging().note(&at, HASHER, SavedHasher::MAX_LEN).await?;
        Ok(bytes.and_then(|bytes| SavedHasher::decode(&bytes)))
    }

    /// Hashes what an upload has between what `hashed` has seen and `length`.
    async fn hash_up_to(
        &self,
        name: &RepositoryName,
        id: UploadId,
        mut hashed: Hashed,
        length: u64,
    ) -> Result<Hashed, Error> {
        if hashed.length == length {
            return Ok(hashed);
        }
        let at = TreeKey::Upload(name, id).key();
        let object = self.tree.staging().open(&at).await?.ok_or(Error::UploadUnknown)?;
        let mut pieces = object.stream(hashed.length..length);
        while let Some(piece) = pieces.try_next().await? {
            hashed.length += piece.len() as u64;
            hashed.hasher = intake::hash(hashed.hasher, vec![piece]).await?;
        }
        Ok(hashed)
    }
}
