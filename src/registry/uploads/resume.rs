//! Resuming an upload where the request before suspended it.
//!
//! An upload is acknowledged only when it is finished, so its parts need not be durable before
//! that. The state of the hasher is the exception: it must never be ahead of the data, or bytes
//! lost in a power cut would go into a digest unseen. So it is written after a sync, with the
//! length that it stands for, and the bytes behind that length are hashed again.

use futures_util::TryStreamExt as _;

use super::{
    UploadId, Uploads,
    intake::{self, Intake},
    resume_state::SavedHasher,
    sessions::{Hashed, Session},
};
use crate::{
    oci::{Hasher, RepositoryName},
    registry::{
        Error,
        tree::{HASHER, TreeKey},
    },
    storage::Note,
};

/// Hashing fewer bytes again is cheaper than the sync that saving the state takes.
const WORTH_SAVING: u64 = 4 * 1024 * 1024;

impl Uploads {
    /// Resumes an upload at its end.
    pub(super) async fn resume(
        &self,
        name: &RepositoryName,
        id: UploadId,
        session: &mut Session<'_>,
    ) -> Result<Intake, Error> {
        let at = TreeKey::Upload(name, id).key();
        // An upload that goes with its repository meanwhile must not be written again.
        let inside = self.tree.inside(name).await?;
        let staged = self.tree.staging().resume(&at).await?.ok_or(Error::UploadUnknown)?;
        drop(inside);
        let length = staged.position();
        let parked = session.take_parked();
        let algorithm = parked.as_ref().map(|parked| parked.hasher.algorithm());
        if parked.is_none() && length == 0 {
            // A kill between the rename of the data and the end of its session leaves the state of a
            // hasher of bytes that are gone. It must not be used for the bytes that come now.
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

    /// Suspends an upload for the next request, unless it has gone with its repository.
    pub(super) async fn leave(
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
        // The note must not bring a deleted upload back.
        let inside = match worth_saving {
            true => Some(self.tree.inside(name).await?),
            false => None,
        };
        if !intake.rest(notes).await? {
            return Err(Error::UploadUnknown);
        }
        drop(inside);
        session.park(hashed);
        Ok(())
    }

    /// Makes the bytes of an upload durable. After a failed sync it is unknown which bytes are on the
    /// disk, and a second sync would succeed without writing them. So the upload ends, and its client
    /// begins again.
    pub(super) async fn sync(
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

    /// Hashes the bytes of an upload from the length of `hashed` up to `length`.
    pub(super) async fn hash_up_to(
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
