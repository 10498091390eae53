//! The purge of abandoned uploads.
//!
//! As in registry:2, a purge deletes each upload that was begun long enough ago, whatever its owner, also
//! those that a registry:2 on the same tree has left. It keeps an upload to which a request of this or
//! another process writes: see [`QUIET`].

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use serde::Deserialize;

use super::{UploadId, Uploads};
use crate::{
    oci::RepositoryName,
    registry::{Error, lists::Walk, tree::TreeKey},
    storage::{ErrorKind, Note, STARTED_AT},
};

/// `storage.maintenance.uploadpurging`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct PurgeOptions {
    /// Whether uploads are purged.
    pub enabled: bool,
    /// The age at which an upload is purged.
    pub age: Duration,
    /// The time between two purges.
    pub interval: Duration,
    /// Logs the uploads that a purge would delete, and deletes none.
    pub dryrun: bool,
}

impl Default for PurgeOptions {
    /// As in registry:2: after a week, with a purge each day.
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { enabled: true, age: day * 7, interval: day, dryrun: false }
    }
}

/// The result of a purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// The number of uploads.
    pub found: u64,
    /// The number of uploads that went, or would have gone.
    pub purged: u64,
}

/// The outcome for an old upload.
#[derive(Debug)]
pub struct OldUpload<'a> {
    /// Its repository.
    pub repository: &'a RepositoryName,
    /// Its name.
    pub upload: UploadId,
    /// The age of a purged upload, or in a dry run of one to purge; the error, if storage failed and the
    /// upload stays.
    pub outcome: Result<Duration, &'a Error>,
}

/// An upload whose data was written within this time stays, whatever its age. This process does not
/// know the requests of other processes, but the data of an upload in use is young: the server ends a
/// request whose client is silent for `http.idletimeout`, a minute by default, and writes received
/// bytes within seconds. A client that resumes later finds its upload or finds it gone. It never finds
/// half of it, because a rename of the data makes the blob.
const QUIET: Duration = Duration::from_secs(3600);

/// How many uploads of a repository a listing reads at a time.
const BATCH: usize = 128;

/// The longest note of the time at which an upload began.
const MAX_STARTED_AT: usize = 256;

/// Receives the outcomes.
type Watcher = dyn Fn(&OldUpload<'_>) -> ControlFlow<()> + Send + Sync;

/// A purge of the uploads of all repositories.
struct Run<'a> {
    uploads: &'a Arc<Uploads>,
    age: Duration,
    dry_run: bool,
    watcher: Arc<Watcher>,
    purged: Purged,
    /// The first failure.
    failed: Option<Error>,
}

/// An old upload that no request writes to.
#[derive(Clone, Copy, Debug)]
struct Due {
    now: jiff::Timestamp,
    /// Its age; `None` where its beginning is unknown.
    has_lived: Option<Duration>,
}

/// The result for one upload.
struct Done {
    is_purged: bool,
    failed: Option<Error>,
    step: ControlFlow<()>,
}

impl Run<'_> {
    /// Removes an upload if it is old enough.
    async fn upload(
        &mut self,
        name: &RepositoryName,
        id: UploadId,
    ) -> Result<ControlFlow<()>, Error> {
        self.purged.found += 1;
        let done = match self.uploads.due(name, id, self.age).await {
            Ok(Some(due)) if !self.dry_run => {
                let uploads = Arc::clone(self.uploads);
                let watcher = Arc::clone(&self.watcher);
                let name = name.clone();
                // A removal that has begun ends, even if the server stops, and has its line in the
                // log.
                let work = async move {
                    let removed = uploads.remove_due(&name, id, due).await;
                    Ok(tell(&*watcher, &name, id, removed))
                };
                self.uploads.tree.detached(work).await?
            }
            looked => {
                let outcome = looked.map(|due| due?.has_lived);
                tell(&*self.watcher, name, id, outcome)
            }
        };
        self.purged.purged += u64::from(done.is_purged);
        if self.failed.is_none() {
            self.failed = done.failed;
        }
        Ok(done.step)
    }

    fn end(self) -> Result<Purged, Error> {
        self.failed.map_or(Ok(self.purged), Err)
    }
}

/// Passes the outcome for an upload to the watcher; `Ok(None)` stands for an upload that stays, which
/// the watcher does not receive.
fn tell(
    watcher: &Watcher,
    repository: &RepositoryName,
    upload: UploadId,
    result: Result<Option<Duration>, Error>,
) -> Done {
    let outcome = match &result {
        Ok(None) => {
            return Done { is_purged: false, failed: None, step: ControlFlow::Continue(()) };
        }
        Ok(Some(has_lived)) => Ok(*has_lived),
        Err(error) => Err(error),
    };
    let step = watcher(&OldUpload { repository, upload, outcome });
    Done { is_purged: result.is_ok(), failed: result.err(), step }
}

impl Uploads {
    /// Removes the uploads that were begun longer ago than `age`; with `dry_run`, only reports them.
    /// `watcher` receives each removed upload, even when this future is dropped meanwhile, and each
    /// that could not be removed; it can end the purge.
    ///
    /// An upload of unknown beginning begins when a purge first sees it. An upload that was written to
    /// within the last hour stays.
    ///
    /// # Errors
    ///
    /// When storage fails: at once where the purge cannot list uploads, else at the end, with the first
    /// failure to remove one. Removed uploads stay removed.
    pub async fn purge(
        self: &Arc<Self>,
        age: Duration,
        dry_run: bool,
        watcher: impl Fn(&OldUpload<'_>) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Result<Purged, Error> {
        let mut run = Run {
            uploads: self,
            age,
            dry_run,
            watcher: Arc::new(watcher),
            purged: Purged::default(),
            failed: None,
        };
        let mut walk = Walk::behind(&self.tree, "");
        while let Some(name) = walk.next().await? {
            let folder = TreeKey::Uploads(&name).key();
            let mut after = None;
            loop {
                let names = self.tree.staging().list(&folder, after.as_deref(), BATCH).await?;
                let Some(last) = names.last() else { break };
                after = Some(last.clone());
                for id in names.iter().filter_map(|name| name.parse().ok()) {
                    if run.upload(&name, id).await?.is_break() {
                        return run.end();
                    }
                }
            }
        }
        run.end()
    }

    /// Reads the age of an upload; `None` when it is too young or a request writes to it.
    async fn due(
        &self,
        name: &RepositoryName,
        id: UploadId,
        age: Duration,
    ) -> Result<Option<Due>, Error> {
        let now = self.clock.now();
        let started = self.begun(name, id).await?;
        let has_lived =
            started.and_then(|started| Duration::try_from(now.duration_since(started)).ok());
        if has_lived.is_some_and(|has_lived| has_lived < age) || self.is_written(name, id).await? {
            return Ok(None);
        }
        Ok(Some(Due { now, has_lived }))
    }

    /// Removes an old upload, and returns its age. An upload of unknown beginning begins now. `None` for
    /// an upload that stays.
    async fn remove_due(
        &self,
        name: &RepositoryName,
        id: UploadId,
        due: Due,
    ) -> Result<Option<Duration>, Error> {
        // The session keeps requests from finishing or cancelling the upload meanwhile. An upload that
        // one has finished or cancelled before must not be written again.
        let Ok(_session) = self.sessions.try_enter(id) else { return Ok(None) };
        let at = TreeKey::Upload(name, id).key();
        if !self.tree.staging().exists(&at).await? {
            return Ok(None);
        }
        if due.has_lived.is_none() {
            let note = Note { name: STARTED_AT, text: started_at(due.now).into() };
            self.tree.staging().begin(&at, vec![note]).await?;
        } else {
            self.discard(name, id).await?;
            self.open.forget(id);
        }
        Ok(due.has_lived)
    }

    /// Whether a request of this or another process may be writing to an upload.
    async fn is_written(&self, name: &RepositoryName, id: UploadId) -> Result<bool, Error> {
        let at = TreeKey::Upload(name, id).key();
        let Some(written) = self.tree.staging().written(&at).await? else { return Ok(false) };
        let now = self.tree.storage().time().await?;
        // A time in the future counts as now.
        Ok(now.duration_since(written).unwrap_or_default() < QUIET)
    }

    /// The time at which an upload was begun; `None` where its note cannot be read.
    async fn begun(
        &self,
        name: &RepositoryName,
        id: UploadId,
    ) -> Result<Option<jiff::Timestamp>, Error> {
        let at = TreeKey::Upload(name, id).key();
        let text = match self.tree.staging().note(&at, STARTED_AT, MAX_STARTED_AT).await {
            Err(error) if error.kind() == ErrorKind::TooLong => None,
            read => read?,
        };
        Ok(text.and_then(|text| str::from_utf8(&text).ok()?.trim().parse().ok()))
    }
}

/// A time in registry:2's form: RFC 3339, in whole seconds.
pub(super) fn started_at(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests;
