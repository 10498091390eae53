//! The owners of uploads, and their limits.
//!
//! The id of an upload cannot be guessed, but it stands in logs and in `Location` headers. So only the
//! identity that began an upload may resume it, after a restart too: a note beside it names the identity.
//! An upload of an anonymous caller or of registry:2 has no such note, and every client that knows its id
//! may resume it.
//!
//! A user may have a limited number of uploads open, because each is a folder, which stays until the
//! upload is finished, cancelled or purged. A user may also begin a limited number within an hour
//! without finishing them, because each makes folders and removes them again. A blob that comes in one
//! request is an open upload for as long as the request lasts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{UploadId, Uploads, allowance::Allowance};
use crate::{
    oci::RepositoryName,
    registry::{
        Error,
        tree::{OWNER, Removing, TreeKey},
    },
    storage::Note,
};

/// An older upload does not count towards the limit: its client has left for good, or sends a large
/// blob.
const LIFETIME: Duration = Duration::from_secs(3600);

/// How many uploads a listing reads at a time.
const BATCH: usize = 128;

/// The longest name of an owner, in bytes.
const MAX_OWNER: usize = 4096;

/// An upload that is to begin.
#[derive(Clone, Debug)]
pub struct NewUpload<'a> {
    /// Its repository.
    pub name: &'a RepositoryName,
    /// As [`Upload::owner`].
    pub owner: Option<Arc<str>>,
}

/// An upload, and the identity that sends the request.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Its repository.
    pub name: RepositoryName,
    /// Its id.
    pub id: UploadId,
    /// The identity, with its kind: `ann`, `token:ci`. `None` for an anonymous caller.
    pub owner: Option<Arc<str>>,
}

impl Upload {
    /// The note with the owner. It needs no sync, because an upload is not promised before it is
    /// finished.
    pub(super) fn owner_note(&self) -> Option<Note> {
        let owner = self.owner.as_ref()?;
        Some(Note { name: OWNER, text: Bytes::from(owner.to_string()) })
    }
}

/// The limits for the uploads of a user.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// The number of open uploads.
    pub open: usize,
    /// The number of uploads begun within an hour and not finished.
    pub per_hour: usize,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self { open: 1000, per_hour: 10_000 }
    }
}

/// The uploads that are open, by owner.
#[derive(Debug)]
pub(super) struct OpenUploads {
    limits: UploadLimits,
    owners: Mutex<HashMap<Option<Arc<str>>, Owner>>,
}

/// The uploads of a user.
#[derive(Debug)]
struct Owner {
    uploads: HashMap<UploadId, Begun>,
    /// The uploads that the user may still begin.
    allowance: Allowance,
}

impl Owner {
    /// Whether the entry holds no state.
    fn is_idle(&self) -> bool {
        self.uploads.is_empty() && self.allowance.is_whole()
    }
}

/// The beginning of an upload.
#[derive(Clone, Copy, Debug)]
struct Begun {
    at: Instant,
    /// Whether the upload ends with the request that began it.
    in_one_request: bool,
}

/// An upload that ends with the request that began it: it is open until this is dropped.
#[derive(Debug)]
pub(super) struct InOneRequest<'a> {
    opened: &'a OpenUploads,
    upload: Upload,
}

impl InOneRequest<'_> {
    /// Ends the count of an upload that has become a blob.
    pub(super) fn finished(self) {
        self.opened.finished(&self.upload);
    }
}

impl Drop for InOneRequest<'_> {
    fn drop(&mut self) {
        self.opened.close(&self.upload);
    }
}

impl OpenUploads {
    /// No open uploads yet, with these limits for each owner.
    pub(super) fn new(limits: UploadLimits) -> Self {
        Self { limits, owners: Mutex::default() }
    }

    /// Counts an upload, unless its owner has too many open, or has begun too many.
    pub(super) fn open(&self, upload: &Upload) -> Result<(), Error> {
        self.begin(upload, false)
    }

    /// As [`open`](Self::open), for an upload that ends with the request.
    pub(super) fn in_one_request(&self, upload: Upload) -> Result<InOneRequest<'_>, Error> {
        self.begin(&upload, true)?;
        Ok(InOneRequest { opened: self, upload })
    }

    fn begin(&self, upload: &Upload, in_one_request: bool) -> Result<(), Error> {
        let UploadLimits { open, per_hour } = self.limits;
        let mut owners = self.owners();
        let owner = owners.entry(upload.owner.clone()).or_insert_with(|| Owner {
            uploads: HashMap::new(),
            allowance: Allowance::new(per_hour),
        });
        let uploads = &mut owner.uploads;
        if uploads.len() >= open {
            uploads.retain(|_, begun| begun.in_one_request || begun.at.elapsed() < LIFETIME);
        }
        if uploads.len() >= open {
            return Err(Error::TooManyUploads { most: open });
        }
        let begun = owner.allowance.take();
        begun.map_err(|retry_after| Error::TooManyBegun { most: per_hour, retry_after })?;
        owner.uploads.insert(upload.id, Begun { at: Instant::now(), in_one_request });
        Ok(())
    }

    /// Ends the count of an upload.
    pub(super) fn close(&self, upload: &Upload) {
        self.end(upload, |_| {});
    }

    /// Ends the count of an upload that has become a blob, and returns its token to the allowance.
    pub(super) fn finished(&self, upload: &Upload) {
        self.end(upload, Allowance::give_back);
    }

    fn end(&self, upload: &Upload, then: impl FnOnce(&mut Allowance)) {
        let mut owners = self.owners();
        let Some(owner) = owners.get_mut(&upload.owner) else { return };
        // An upload of another process took no token from this allowance.
        if owner.uploads.remove(&upload.id).is_some() {
            then(&mut owner.allowance);
        }
        if owner.is_idle() {
            owners.remove(&upload.owner);
        }
    }

    /// Ends the count of an upload of any owner.
    pub(super) fn forget(&self, id: UploadId) {
        self.owners().retain(|_, owner| {
            owner.uploads.remove(&id);
            !owner.is_idle()
        });
    }

    fn count(&self) -> usize {
        self.owners().values().map(|owner| owner.uploads.len()).sum()
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<Option<Arc<str>>, Owner>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Uploads {
    /// The number of uploads begun since the start and neither finished nor cancelled. Abandoned ones
    /// may be missing.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.count()
    }

    /// Removes the uploads of a repository; `false` when it has none. The caller has closed the fence of
    /// the repository, so no upload begins or returns meanwhile.
    pub(in crate::registry) async fn end_all(
        &self,
        name: &RepositoryName,
        alone: &Removing<'_>,
    ) -> Result<bool, Error> {
        let folder = TreeKey::Uploads(name).key();
        let mut ids = Vec::<UploadId>::new();
        let mut after = None;
        let mut existed = false;
        loop {
            let names = self.tree.staging().list(&folder, after.as_deref(), BATCH).await?;
            let Some(last) = names.last() else { break };
            after = Some(last.clone());
            ids.extend(names.iter().filter_map(|name| name.parse::<UploadId>().ok()));
            existed = true;
        }
        alone.discard(&folder).await?;
        for id in ids {
            self.sessions.end(id);
            self.open.forget(id);
        }
        Ok(existed)
    }

    /// Refuses a missing upload, and one of another owner with the same error.
    ///
    /// Call this before entering the session: a client that may not resume the upload must not displace
    /// its writer either.
    pub(super) async fn refuse_unknown(&self, upload: &Upload) -> Result<(), Error> {
        let Upload { name, id, owner } = upload;
        let at = TreeKey::Upload(name, *id).key();
        let known = match self.tree.staging().note(&at, OWNER, MAX_OWNER).await? {
            Some(theirs) if !theirs.is_empty() => {
                owner.as_ref().is_some_and(|owner| owner.as_bytes() == theirs)
            }
            // A power cut may have emptied the note.
            _ => self.length_now(name, *id).await?.is_some(),
        };
        if known {
            return Ok(());
        }
        // An upload that counts for this user is theirs, and has gone.
        self.open.close(upload);
        Err(Error::UploadUnknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(owner: &str) -> Upload {
        let name = "a".parse().unwrap();
        Upload { name, id: UploadId::random(), owner: Some(owner.into()) }
    }

    #[tokio::test(start_paused = true)]
    async fn open_uploads_are_limited_by_owner_and_old_ones_not_counted() {
        let opened = OpenUploads::new(UploadLimits { open: 2, per_hour: 100 });
        let open = |upload: &Upload| opened.open(upload).is_ok();
        let [first, second, third] = ["ann"; 3].map(upload);
        assert!(open(&first) && open(&second));
        assert!(!open(&third));
        assert!(open(&upload("bob")), "each owner has a limit of their own");
        opened.close(&first);
        assert!(open(&third));
        assert!(!open(&first));
        tokio::time::sleep(LIFETIME).await;
        assert!(open(&first));
        assert_eq!(opened.count(), 2, "old uploads are dropped; one upload is bob's");
        opened.forget(first.id);
        assert_eq!(opened.count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn upload_in_one_request_is_open_until_the_request_ends() {
        let opened = OpenUploads::new(UploadLimits { open: 1, per_hour: 3 });
        let whole = opened.in_one_request(upload("ann")).unwrap();
        tokio::time::sleep(LIFETIME * 2).await;
        assert!(matches!(opened.open(&upload("ann")), Err(Error::TooManyUploads { most: 1 })));
        drop(whole);
        assert_eq!(opened.count(), 0);
        opened.open(&upload("ann")).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn abandoned_uploads_are_limited_by_owner_and_hour() {
        let opened = OpenUploads::new(UploadLimits { open: 10, per_hour: 2 });
        let abandon = |owner: &str| {
            let upload = upload(owner);
            opened.open(&upload).map(|()| opened.close(&upload))
        };
        abandon("ann").unwrap();
        // Uploads that become blobs are not counted.
        for _ in 0..5 {
            let upload = upload("ann");
            opened.open(&upload).unwrap();
            opened.finished(&upload);
            opened.in_one_request(self::upload("ann")).unwrap().finished();
        }
        abandon("ann").unwrap();
        let Err(Error::TooManyBegun { most: 2, retry_after }) = abandon("ann") else { panic!() };
        abandon("bob").unwrap();
        tokio::time::sleep(retry_after - Duration::from_secs(1)).await;
        assert!(abandon("ann").is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
        abandon("ann").unwrap();
        assert!(abandon("ann").is_err());
        // An upload that was begun before a restart returns nothing to the allowance.
        opened.finished(&upload("ann"));
        assert!(abandon("ann").is_err());
        tokio::time::sleep(LIFETIME).await;
        opened.forget(upload("ann").id);
        assert!(opened.owners().is_empty(), "an owner with a whole allowance has no entry");
    }
}
