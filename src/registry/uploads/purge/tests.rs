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

/// A clock that tests advance, in seconds.
#[derive(Clone, Debug, Default)]
struct TestClock(Arc<AtomicI64>);

impl Clock for TestClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

impl TestClock {
    fn advance(&self, time: Duration) {
        self.0.fetch_add(i64::try_from(time.as_secs()).unwrap(), Ordering::Relaxed);
    }
}

/// Purges, and returns the uploads that the watcher has seen.
async fn purge(registry: &Registry, age: Duration, dry_run: bool) -> (Purged, Vec<UploadId>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let uploads = Arc::clone(&seen);
    let watcher = move |old: &OldUpload<'_>| {
        assert!(*old.outcome.as_ref().unwrap() >= age);
        uploads.lock().unwrap().push(old.upload);
        ControlFlow::Continue(())
    };
    let purged = registry.uploads().purge(age, dry_run, watcher).await.unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (purged, seen)
}

/// A registry in memory with a clock that tests advance.
struct Site {
    memory: Memory,
    clock: TestClock,
    registry: Registry,
}

fn site() -> Site {
    let memory = Memory::default();
    let clock = TestClock::default();
    let storage = Arc::new(memory.clone());
    let registry = Registry::new(storage, Arc::new(clock.clone()), Options::default());
    Site { memory, clock, registry }
}

async fn begin(registry: &Registry, name: &str) -> Upload {
    let name: RepositoryName = name.parse().unwrap();
    let id = registry.uploads().begin(&name, Algorithm::default(), None).await.unwrap();
    Upload { name, id, owner: None }
}

#[tokio::test]
async fn old_uploads_are_purged_and_young_ones_kept() {
    let Site { clock, registry, .. } = site();
    let old = begin(&registry, "team/app").await;
    let other = begin(&registry, "team/app/inner").await;
    clock.advance(HOUR);
    let young = begin(&registry, "team/app").await;
    clock.advance(HOUR);
    let (purged, seen) = purge(&registry, 2 * HOUR, true).await;
    assert_eq!(purged, Purged { found: 3, purged: 2 });
    assert!(seen.contains(&old.id) && seen.contains(&other.id), "{seen:?}");
    assert_eq!(registry.uploads().length(&old).await.unwrap(), 0, "a dry run purges nothing");
    assert_eq!(purge(&registry, 2 * HOUR, false).await, (purged, seen));
    for gone in [&old, &other] {
        let length = registry.uploads().length(gone).await;
        assert!(matches!(length, Err(Error::UploadUnknown)));
    }
    assert_eq!(registry.uploads().length(&young).await.unwrap(), 0);
    assert_eq!(registry.uploads().open_count(), 1);
}

#[tokio::test]
async fn upload_with_an_unreadable_start_ages_from_the_first_purge() {
    let Site { memory, clock, registry } = site();
    let upload = begin(&registry, "app").await;
    let key = TreeKey::Upload(&upload.name, upload.id).key().child(STARTED_AT);
    for broken in ["", "yesterday", "\u{0}", &"9".repeat(300)] {
        memory.put(&key, Bytes::from(broken.to_owned()), Durability::Lazy).await.unwrap();
        let (purged, _) = purge(&registry, HOUR, true).await;
        assert_eq!(purged, Purged { found: 1, purged: 0 });
        let text = memory.read(&key, 999).await.unwrap().unwrap();
        assert_eq!(text, broken, "a dry run writes nothing");
    }
    assert_eq!(purge(&registry, HOUR, false).await.0.purged, 0);
    clock.advance(HOUR);
    assert_eq!(purge(&registry, HOUR, false).await.0.purged, 1);
}

#[tokio::test]
async fn upload_is_kept_while_a_request_writes_to_it() {
    let Site { memory, clock, registry } = site();
    let upload = begin(&registry, "app").await;
    clock.advance(HOUR);
    memory.advance(HOUR);
    let (send, receive) = tokio::sync::oneshot::channel::<()>();
    let (entered, is_in) = tokio::sync::oneshot::channel::<()>();
    let body: Body = Box::pin(stream::once(async move {
        entered.send(()).unwrap();
        receive.await.unwrap();
        Ok::<_, BodyError>(Bytes::from_static(b"late"))
    }));
    let append = registry
        .uploads()
        .append(&upload, Chunk { range: None, length: None, largest: None, body });
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
async fn upload_is_kept_after_a_recent_write_of_another_process() {
    let Site { memory, clock, registry } = site();
    let upload = begin(&registry, "app").await;
    clock.advance(24 * HOUR);
    let data = TreeKey::Upload(&upload.name, upload.id).key().child("data");
    memory.put(&data, Bytes::from_static(b"part"), Durability::Lazy).await.unwrap();
    // The purging process does not know the upload in memory.
    let storage = Arc::new(memory.clone());
    let other = Registry::new(storage, Arc::new(clock), Options::default());
    memory.advance(HOUR - Duration::from_secs(60));
    for dry_run in [true, false] {
        let (purged, seen) = purge(&other, HOUR, dry_run).await;
        assert_eq!((purged, seen), (Purged { found: 1, purged: 0 }, vec![]));
    }
    assert_eq!(registry.uploads().length(&upload).await.unwrap(), 4);
    memory.advance(Duration::from_secs(61));
    let (purged, seen) = purge(&other, HOUR, false).await;
    assert_eq!((purged, seen), (Purged { found: 1, purged: 1 }, vec![upload.id]));
}

#[tokio::test]
async fn purge_ends_when_its_watcher_breaks() {
    let Site { clock, registry, .. } = site();
    for _ in 0..3 {
        begin(&registry, "app").await;
    }
    clock.advance(HOUR);
    let purged = registry.uploads().purge(HOUR, false, |_| ControlFlow::Break(())).await.unwrap();
    assert_eq!(purged.purged, 1);
    assert_eq!(purge(&registry, HOUR, true).await.0, Purged { found: 2, purged: 2 });
}
