//! Whose an upload is.
//!
//! The id of an upload is nothing to guess, but it stands in logs and in `Location` headers. So an
//! upload is known to whoever began it and to nobody else, after a restart too: their name lies
//! beside it. One that registry:2 left has none, and whoever knows its id may go on with it.
//!
//! How many uploads somebody may have open is limited: each is a folder, which stays until it is
//! finished, cancelled or purged.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::UploadId;
use crate::{
    oci::RepositoryName,
    registry::{Error, Registry, layout::Place},
    storage::Durability,
};

/// An upload that was begun this long ago is not counted any more: its client will not come back,
/// or is at work on something large.
const LIFETIME: Duration = Duration::from_secs(3600);

/// No name of a user is longer, in bytes.
const MAX_OWNER: usize = 4096;

/// Which upload is meant, and who means it.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The repository it is in.
    pub name: RepositoryName,
    /// Its id there.
    pub id: UploadId,
    /// Who began it; `None` where nobody is known by name.
    pub owner: Option<Arc<str>>,
}

/// The uploads that are open, by owner.
#[derive(Debug)]
pub(in crate::registry) struct Opened {
    most: usize,
    begun: Mutex<ByOwner>,
}

/// When each upload of each owner was begun.
type ByOwner = HashMap<Option<Arc<str>>, HashMap<UploadId, Instant>>;

impl Opened {
    /// At most `most` for each owner.
    pub(in crate::registry) fn new(most: usize) -> Self {
        Self { most, begun: Mutex::default() }
    }

    /// Counts an upload, unless its owner has too many.
    pub(super) fn open(&self, owner: Option<&Arc<str>>, id: UploadId) -> Result<(), Error> {
        let mut begun = self.begun();
        let uploads = begun.entry(owner.cloned()).or_default();
        if uploads.len() >= self.most {
            uploads.retain(|_, begun| begun.elapsed() < LIFETIME);
        }
        if uploads.len() >= self.most {
            return Err(Error::TooManyUploads { most: self.most });
        }
        uploads.insert(id, Instant::now());
        Ok(())
    }

    /// Counts an upload no more.
    pub(super) fn close(&self, upload: &Upload) {
        let mut begun = self.begun();
        if let Some(uploads) = begun.get_mut(&upload.owner) {
            uploads.remove(&upload.id);
            if uploads.is_empty() {
                begun.remove(&upload.owner);
            }
        }
    }

    /// Counts an upload no more, whosever it is.
    pub(in crate::registry) fn forget(&self, id: UploadId) {
        self.begun().retain(|_, uploads| {
            uploads.remove(&id);
            !uploads.is_empty()
        });
    }

    fn count(&self) -> usize {
        self.begun().values().map(HashMap::len).sum()
    }

    fn begun(&self) -> MutexGuard<'_, ByOwner> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// How many uploads were begun since the start and have neither been finished nor cancelled;
    /// those that nobody came back for may not be among them.
    #[must_use]
    pub fn open_uploads(&self) -> usize {
        self.0.opened.count()
    }

    /// Writes down whose an upload is.
    pub(super) async fn set_owner(&self, upload: &Upload) -> Result<(), Error> {
        let Some(owner) = &upload.owner else { return Ok(()) };
        let place = Place::UploadOwner(&upload.name, upload.id).key();
        let bytes = Bytes::from(owner.to_string());
        // It lives as long as the upload, of which nothing is promised before it is finished.
        Ok(self.storage().put(&place, bytes, Durability::Lazy).await?)
    }

    /// Refuses an upload that is not there, and one of somebody else in the same words.
    ///
    /// To be asked before the upload is entered: whoever may not go on with it must not push its
    /// writer aside either.
    pub(super) async fn refuse_unknown(&self, upload: &Upload) -> Result<(), Error> {
        let Upload { name, id, owner } = upload;
        let place = Place::UploadOwner(name, *id).key();
        let known = match self.storage().read(&place, MAX_OWNER).await? {
            Some(theirs) if !theirs.is_empty() => {
                owner.as_ref().is_some_and(|owner| owner.as_bytes() == theirs)
            }
            // A power cut may have emptied it.
            _ => self.upload_length_now(name, *id).await?.is_some(),
        };
        if known {
            return Ok(());
        }
        // One that is counted for whoever asks is theirs, and has gone.
        self.0.opened.close(upload);
        Err(Error::UploadUnknown)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn upload(owner: &str) -> Upload {
        let name = "a".parse().unwrap();
        Upload { name, id: UploadId(Uuid::new_v4()), owner: Some(owner.into()) }
    }

    #[tokio::test(start_paused = true)]
    async fn each_owner_has_so_many_uploads_open_and_old_ones_do_not_count() {
        let opened = Opened::new(2);
        let open = |upload: &Upload| opened.open(upload.owner.as_ref(), upload.id).is_ok();
        let (first, second, third) = (upload("ann"), upload("ann"), upload("ann"));
        assert!(open(&first) && open(&second));
        assert!(!open(&third));
        assert!(open(&upload("bob")), "others have their own");
        opened.close(&first);
        assert!(open(&third));
        assert!(!open(&first));
        tokio::time::sleep(LIFETIME).await;
        assert!(open(&first));
        assert_eq!(opened.count(), 2, "what is too old is dropped; one is bob's");
        opened.forget(first.id);
        assert_eq!(opened.count(), 1);
    }
}
