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
    let purged = registry.uploads().purge(HOUR, false, |_| ControlFlow::Break(())).await.unwrap();
    assert_eq!(purged.purged, 1);
    assert_eq!(purge(&registry, HOUR, true).await.0, Purged { found: 2, purged: 2 });
}
