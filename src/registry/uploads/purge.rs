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
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    };

    use bytes::Bytes;
    use futures_util::stream;

    use super::*;
    use crate::{
        oci::Algorithm,
        registry::{Body, BodyError, Chunk, Clock, Options, Registry, Upload},
        storage::{Durability, Storage as _, memory::Memory},
    };

    const HOUR: Duration = Duration::from_secs(3600);

    /// A clock that goes when it is told to, in seconds.
    #[derive(Clone, Debug, Default)]
    struct Hand(Arc<AtomicI64>);

    impl Clock for Hand {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
        }
    }

    impl Hand {
        fn forward(&self, time: Duration) {
            self.0.fetch_add(i64::try_from(time.as_secs()).unwrap(), Ordering::Relaxed);
        }
    }

    /// Purges, and tells what was told.
    async fn purge(registry: &Registry, age: Duration, dry_run: bool) -> (Purged, Vec<UploadId>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let uploads = Arc::clone(&told);
        let watcher = move |old: &OldUpload<'_>| {
            assert!(*old.outcome.as_ref().unwrap() >= age);
            uploads.lock().unwrap().push(old.upload);
            ControlFlow::Continue(())
        };
        let purged = registry.uploads().purge(age, dry_run, watcher).await.unwrap();
        let told = std::mem::take(&mut *told.lock().unwrap());
        (purged, told)
    }

    fn registry() -> (Memory, Hand, Registry) {
        let (memory, hand) = (Memory::default(), Hand::default());
        let storage = Arc::new(memory.clone());
        let registry = Registry::new(storage, Arc::new(hand.clone()), Options::default());
        (memory, hand, registry)
    }

    async fn begin(registry: &Registry, name: &str) -> Upload {
        let name: RepositoryName = name.parse().unwrap();
        let id = registry.uploads().begin(&name, Algorithm::default(), None).await.unwrap();
        Upload { name, id, owner: None }
    }

    #[tokio::test]
    async fn what_was_begun_long_ago_goes_and_what_was_not_stays() {
        let (_, hand, registry) = registry();
        let old = begin(&registry, "team/app").await;
        let other = begin(&registry, "team/app/inner").await;
        hand.forward(HOUR);
        let young = begin(&registry, "team/app").await;
        hand.forward(HOUR);
        let (purged, told) = purge(&registry, 2 * HOUR, true).await;
        assert_eq!(purged, Purged { found: 3, purged: 2 });
        assert!(told.contains(&old.id) && told.contains(&other.id), "{told:?}");
        assert_eq!(registry.uploads().length(&old).await.unwrap(), 0, "it was only asked");
        assert_eq!(purge(&registry, 2 * HOUR, false).await, (purged, told));
        for gone in [&old, &other] {
            let length = registry.uploads().length(gone).await;
            assert!(matches!(length, Err(Error::UploadUnknown)));
        }
        assert_eq!(registry.uploads().length(&young).await.unwrap(), 0);
        assert_eq!(registry.uploads().open_count(), 1);
    }

    #[tokio::test]
    async fn one_whose_beginning_nobody_knows_counts_from_when_it_is_seen() {
        let (memory, hand, registry) = registry();
        let upload = begin(&registry, "app").await;
        let place = TreeKey::Upload(&upload.name, upload.id).key().child(STARTED_AT);
        for broken in ["", "yesterday", "\u{0}", &"9".repeat(300)] {
            memory.put(&place, Bytes::from(broken.to_owned()), Durability::Lazy).await.unwrap();
            let (purged, _) = purge(&registry, HOUR, true).await;
            assert_eq!(purged, Purged { found: 1, purged: 0 });
            let text = memory.read(&place, 999).await.unwrap().unwrap();
            assert_eq!(text, broken, "it was only asked");
        }
        assert_eq!(purge(&registry, HOUR, false).await.0.purged, 0);
        hand.forward(HOUR);
        assert_eq!(purge(&registry, HOUR, false).await.0.purged, 1);
    }

    #[tokio::test]
    async fn one_that_is_being_written_to_stays() {
        let (memory, hand, registry) = registry();
        let upload = begin(&registry, "app").await;
        hand.forward(HOUR);
        memory.advance(HOUR);
        let (send, receive) = tokio::sync::oneshot::channel::<()>();
        let (entered, is_in) = tokio::sync::oneshot::channel::<()>();
        let body: Body = Box::pin(stream::once(async move {
            entered.send(()).unwrap();
            receive.await.unwrap();
            Ok::<_, BodyError>(Bytes::from_static(b"late"))
        }));
        let append = registry.uploads().append(&upload, Chunk { range: None, length: None, body });
        let purge = async {
            is_in.await.unwrap();
            let (purged, _) = purge(&registry, HOUR, false).await;
            send.send(()).unwrap();
            purged
        };
        let (appended, purged) = tokio::join!(append, purge);
        assert_eq!(purged, Purged { found: 1, purged: 0 });
        assert_eq!(appended.unwrap(), 4);
    }

    #[tokio::test]
    async fn one_that_another_process_has_just_written_to_stays() {
        let (memory, hand, registry) = registry();
        let upload = begin(&registry, "app").await;
        hand.forward(24 * HOUR);
        let data = TreeKey::Upload(&upload.name, upload.id).key().child("data");
        memory.put(&data, Bytes::from_static(b"part"), Durability::Lazy).await.unwrap();
        // The process that looks has nothing of it in memory.
        let storage = Arc::new(memory.clone());
        let other = Registry::new(storage, Arc::new(hand), Options::default());
        memory.advance(HOUR - Duration::from_secs(60));
        for dry_run in [true, false] {
            let (purged, told) = purge(&other, HOUR, dry_run).await;
            assert_eq!((purged, told), (Purged { found: 1, purged: 0 }, vec![]));
        }
        assert_eq!(registry.uploads().length(&upload).await.unwrap(), 4);
        memory.advance(Duration::from_secs(61));
        let (purged, told) = purge(&other, HOUR, false).await;
        assert_eq!((purged, told), (Purged { found: 1, purged: 1 }, vec![upload.id]));
    }

    #[tokio::test]
    async fn who_wants_to_hear_no_more_ends_it() {
        let (_, hand, registry) = registry();
        for _ in 0..3 {
            begin(&registry, "app").await;
        }
        hand.forward(HOUR);
        let purged =
            registry.uploads().purge(HOUR, false, |_| ControlFlow::Break(())).await.unwrap();
        assert_eq!(purged.purged, 1);
        assert_eq!(purge(&registry, HOUR, true).await.0, Purged { found: 2, purged: 2 });
    }
}
