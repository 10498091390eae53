//! Uploads that nobody has come back for.
//!
//! As in registry:2, an upload goes when it was begun long enough ago, whoever began it, and also
//! one that a registry:2 on the same tree has left. One that is being written to stays, here as in
//! other processes: see [`QUIET`].

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
    /// How long ago one was begun that goes.
    pub age: Duration,
    /// How often it is looked for them.
    pub interval: Duration,
    /// Says which would go, and lets them stay.
    pub dryrun: bool,
}

impl Default for PurgeOptions {
    /// As in registry:2: after a week, looked for each day.
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { enabled: true, age: day * 7, interval: day, dryrun: false }
    }
}

/// What came of a purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many uploads there were.
    pub found: u64,
    /// How many of them went, or would have.
    pub purged: u64,
}

/// What became of an upload that was begun long ago.
#[derive(Debug)]
pub struct OldUpload<'a> {
    /// Its repository.
    pub repository: &'a RepositoryName,
    /// Its name.
    pub upload: UploadId,
    /// How long ago it was begun, where it went or would have; why it stays, where storage failed.
    pub outcome: Result<Duration, &'a Error>,
}

/// An upload stays whose data was written within this time, however long ago it was begun. Which
/// requests are at work in another process is not known here, and a client that is sending makes
/// itself known by this: it is given up when it sends nothing for `http.idletimeout`, a minute
/// unless it is configured, and what arrives is written within seconds. A client that comes back
/// after longer finds its upload, or finds it gone; it cannot find half of it, because a blob is
/// made by renaming the data.
const QUIET: Duration = Duration::from_secs(3600);

/// How many uploads of a repository are looked at at a time.
const BATCH: usize = 128;

/// What says when an upload was begun is no longer.
const MAX_STARTED_AT: usize = 256;

/// Receives what becomes of uploads.
type Watcher = dyn Fn(&OldUpload<'_>) -> ControlFlow<()> + Send + Sync;

/// A run over the uploads of all repositories.
struct Run<'a> {
    uploads: &'a Arc<Uploads>,
    age: Duration,
    dry_run: bool,
    watcher: Arc<Watcher>,
    purged: Purged,
    /// The first failure.
    failed: Option<Error>,
}

/// An upload that is old enough, and that no request writes to.
#[derive(Clone, Copy, Debug)]
struct Due {
    now: jiff::Timestamp,
    /// How long ago it was begun; `None` where that cannot be read.
    has_lived: Option<Duration>,
}

/// The result of looking at one upload.
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

/// Tells the watcher of an upload that went or could not go; of one that stays it is not told.
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
    /// Removes the uploads that were begun longer ago than `age`; with `dry_run`, only says which.
    /// `watcher` receives each, also when this future is dropped meanwhile, and those that should
    /// have gone and could not; it can end the purge.
    ///
    /// One whose beginning is not known counts as begun when it is seen first. One that was written
    /// to within the last hour stays.
    ///
    /// # Errors
    ///
    /// When storage fails: at once where it cannot be walked, else at the end, with the first upload
    /// that stays for that reason. What was removed stays removed.
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

    /// Looks whether an upload is old enough, and no request writes to it.
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

    /// Removes an upload that is old enough, and returns how long ago it was begun. One whose
    /// beginning cannot be read begins now. `None` for one that stays.
    async fn remove_due(
        &self,
        name: &RepositoryName,
        id: UploadId,
        due: Due,
    ) -> Result<Option<Duration>, Error> {
        // No request finishes or cancels it meanwhile, and none has: it would be there again.
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

    /// Whether somebody may be writing to an upload, in this process or another.
    async fn is_written(&self, name: &RepositoryName, id: UploadId) -> Result<bool, Error> {
        let at = TreeKey::Upload(name, id).key();
        let Some(written) = self.tree.staging().written(&at).await? else { return Ok(false) };
        let now = self.tree.storage().time().await?;
        // What was written later than now was written just now.
        Ok(now.duration_since(written).unwrap_or_default() < QUIET)
    }

    /// When an upload was begun; `None` where that cannot be read.
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

/// The form that registry:2 gives it: RFC 3339, in whole seconds.
pub(super) fn started_at(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests;
