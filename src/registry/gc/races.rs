//! Pushes and collections, one in the middle of the other: at each call that one of them makes to the
//! storage the other runs, as far as it comes. They are two processes on one tree, which know of
//! each other only what the tree and its locks tell them.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::tests::{HOUR, Process, about, image, index, name, process, process_on};
use crate::{
    oci::Digest,
    registry::Error,
    storage::{
        Appender, Durability, Entry, Error as StorageError, Held, Hold, Holders, Key, Look, Object,
        Seen, Storage, memory::Memory as Objects,
    },
};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A storage that does something else first when it is asked for the `at`-th time.
struct Interrupted {
    objects: Objects,
    calls: AtomicUsize,
    at: usize,
    work: Mutex<Option<Work>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupted")
    }
}

impl Interrupted {
    fn new(objects: &Objects, at: usize, work: Work) -> Arc<Self> {
        let (objects, calls) = (objects.clone(), AtomicUsize::new(0));
        Arc::new(Self { objects, calls, at, work: Mutex::new(Some(work)) })
    }

    async fn next(&self) -> &Objects {
        if self.calls.fetch_add(1, Ordering::Relaxed) == self.at {
            let work = self.work.lock().unwrap().take();
            if let Some(work) = work {
                work.await;
            }
        }
        &self.objects
    }
}

#[async_trait]
impl Storage for Interrupted {
    async fn read(&self, key: &Key, limit: usize) -> Result<Option<Bytes>, StorageError> {
        self.next().await.read(key, limit).await
    }
    async fn size(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        self.next().await.size(key).await
    }
    async fn open(&self, key: &Key) -> Result<Option<Box<dyn Object>>, StorageError> {
        self.next().await.open(key).await
    }
    async fn put(&self, key: &Key, bytes: Bytes, how: Durability) -> Result<(), StorageError> {
        self.next().await.put(key, bytes, how).await
    }
    async fn probe(&self) -> Result<(), StorageError> {
        self.objects.probe().await
    }
    async fn append(&self, key: &Key) -> Result<Box<dyn Appender>, StorageError> {
        self.next().await.append(key).await
    }
    async fn promote(&self, from: &Key, to: &Key) -> Result<(), StorageError> {
        self.next().await.promote(from, to).await
    }
    async fn delete(&self, key: &Key) -> Result<bool, StorageError> {
        self.next().await.delete(key).await
    }
    async fn delete_all(&self, prefix: &Key) -> Result<(), StorageError> {
        self.next().await.delete_all(prefix).await
    }
    async fn delete_below(
        &self,
        prefix: &Key,
        names: Vec<String>,
        how: Durability,
    ) -> Result<(), StorageError> {
        self.next().await.delete_below(prefix, names, how).await
    }
    async fn discard(&self, prefix: &Key) -> Result<bool, StorageError> {
        self.next().await.discard(prefix).await
    }
    async fn empty_trash(&self) -> Result<(), StorageError> {
        self.next().await.empty_trash().await
    }
    async fn prune(&self, prefix: &Key) -> Result<(), StorageError> {
        self.next().await.prune(prefix).await
    }
    async fn prune_up(&self, prefix: &Key, top: &Key) -> Result<(), StorageError> {
        self.next().await.prune_up(prefix, top).await
    }
    async fn modified(&self, key: &Key) -> Result<Option<SystemTime>, StorageError> {
        self.next().await.modified(key).await
    }
    async fn age(&self, key: &Key) -> Result<Option<Duration>, StorageError> {
        self.next().await.age(key).await
    }
    async fn renew(&self, key: &Key) -> Result<bool, StorageError> {
        self.next().await.renew(key).await
    }
    async fn time(&self) -> Result<SystemTime, StorageError> {
        self.next().await.time().await
    }
    async fn lock(&self, name: &Key, hold: Hold) -> Result<Held, StorageError> {
        self.next().await.lock(name, hold).await
    }
    async fn list(
        &self,
        prefix: &Key,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>, StorageError> {
        self.next().await.list(prefix, after, limit).await
    }
    async fn list_holders(
        &self,
        prefix: &Key,
        object: &'static str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Holders, StorageError> {
        self.next().await.list_holders(prefix, object, after, limit).await
    }
    async fn survey(&self, looks: Vec<Look>) -> Result<Vec<Vec<Seen>>, StorageError> {
        self.next().await.survey(looks).await
    }
}

/// What somebody pushes while a collection runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Push {
    /// An image of layers that the repository has and nobody needs.
    LooseLayers,
    /// An image of a layer that another repository has and does not need.
    LayerOfAnother,
    /// An image of a layer that nobody says where it is.
    LayerOfAnybody,
    /// A tag for a manifest that has none.
    TagOfOld,
    /// An index of a manifest that has no tag.
    Index,
    /// A signature of a manifest that has no tag.
    Signature,
}

const PUSHES: [Push; 6] = [
    Push::LooseLayers,
    Push::LayerOfAnother,
    Push::LayerOfAnybody,
    Push::TagOfOld,
    Push::Index,
    Push::Signature,
];

/// What is pushed, with which grace of the collector, and whether that takes manifests.
fn cases() -> impl Iterator<Item = (Push, Duration, bool)> {
    PUSHES.into_iter().flat_map(|push| {
        [HOUR, Duration::ZERO]
            .into_iter()
            .flat_map(move |grace| [(push, grace, false), (push, grace, true)])
    })
}

/// What is there before: an image in `app` and one in `new`, one without a tag, and layers that nobody
/// needs. In `new` all is needed, so that it is locked by no collection.
async fn prepared() -> (Objects, Digest) {
    let objects = Objects::default();
    let process = process(&objects, HOUR);
    process.image("app", Some("kept"), b"kept").await;
    process.image("new", Some("there"), b"of its own").await;
    let untagged = process.image("app", None, b"untagged").await;
    for repository in ["app", "aaa", "zzz"] {
        process.blob(repository, b"loose").await;
    }
    objects.advance(100 * HOUR);
    (objects, untagged)
}

impl Push {
    /// Pushes as clients do: asks for each blob, mounts it, or uploads it. Gives the digest when it
    /// was acknowledged.
    async fn run(
        self,
        client: &Process,
        untagged: &Digest,
    ) -> Result<(&'static str, Digest), Error> {
        let old = image(&client.digest(b"{}"), &client.digest(b"untagged"));
        let (repository, tag, json) = match self {
            Self::LooseLayers | Self::LayerOfAnother | Self::LayerOfAnybody => {
                let (repository, from) = match self {
                    Self::LooseLayers => ("app", None),
                    Self::LayerOfAnother => ("new", Some(Some("aaa"))),
                    _ => ("zzzz", Some(None)),
                };
                let config = client.offer(repository, b"{}", from.map(|_| Some("app"))).await;
                let layer = client.offer(repository, b"loose", from).await;
                (repository, Some("pushed"), image(&config, &layer))
            }
            Self::TagOfOld => {
                if !client.registry.manifests().touch(&name("app"), untagged).await? {
                    client.offer("app", b"{}", None).await;
                    client.offer("app", b"untagged", None).await;
                }
                ("app", Some("again"), old)
            }
            Self::Index => {
                if !client.has("app", &untagged.to_string()).await
                    || !client.registry.manifests().touch(&name("app"), untagged).await?
                {
                    client.offer("app", b"{}", None).await;
                    client.offer("app", b"untagged", None).await;
                    client.try_put("app", None, old).await?;
                }
                ("app", Some("index"), index(&[untagged]))
            }
            Self::Signature => {
                let config = client.offer("app", b"{}", None).await;
                let layer = client.offer("app", b"signature", None).await;
                ("app", Some("signature"), about(untagged, &config, &layer))
            }
        };
        Ok((repository, client.try_put(repository, tag, json).await?))
    }
}

/// Looks whether all links lead to something.
async fn links_lead_somewhere(objects: &Objects, what: &str) {
    let all = super::tests::objects_below(objects, "docker/registry/v2").await;
    for link in all.iter().filter(|key| key.ends_with("/link") && !key.contains("_referrers")) {
        let mut parts = link.rsplit('/').skip(1);
        let (Some(mut hex), Some(mut algorithm)) = (parts.next(), parts.next()) else { continue };
        let bytes = objects.read(&Key::new(link.clone()), 999).await.unwrap().unwrap();
        let target = String::from_utf8(bytes.to_vec()).unwrap();
        if hex == "current" {
            (algorithm, hex) = target.split_once(':').unwrap();
        }
        let data = format!("docker/registry/v2/blobs/{algorithm}/{}/{hex}/data", &hex[..2]);
        // What a tag once named may have gone.
        assert!(link.contains("/index/") || all.contains(&data), "{what}: {link} leads nowhere");
    }
}

/// Holds what was acknowledged against what is there, now and after another collection.
async fn is_whole(objects: &Objects, repository: &str, pushed: &Digest, what: &str) {
    let reader = process(objects, HOUR);
    for round in 0..2 {
        assert!(reader.is_complete(repository, pushed).await, "{what}: round {round}");
        assert!(reader.is_complete("app", &reader.tagged("app", "kept").await).await, "{what}");
        reader.collect(true).await;
    }
}

type Outcome = Arc<Mutex<Option<Result<(&'static str, Digest), Error>>>>;

fn judge(outcome: &Outcome, grace: Duration, what: &str) -> Option<(&'static str, Digest)> {
    match outcome.lock().unwrap().take().unwrap() {
        Ok(pushed) => Some(pushed),
        // Without grace nobody is promised anything, and is told so.
        Err(Error::ManifestBlobUnknown(_)) if grace.is_zero() => None,
        Err(error) => panic!("{what}: {error}"),
    }
}

/// Lets `work` run until it has ended or waits for somebody else: time stands still while anything
/// is at work.
#[expect(clippy::disallowed_methods, reason = "the runtime ends with the test")]
fn in_between(work: impl Future<Output = ()> + Send + 'static) -> (Work, Arc<tokio::sync::Notify>) {
    let ended = Arc::new(tokio::sync::Notify::new());
    let end = Arc::clone(&ended);
    let work = Box::pin(async move {
        tokio::spawn(async move {
            work.await;
            end.notify_one();
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
    });
    (work, ended)
}

#[tokio::test(start_paused = true)]
async fn a_push_in_the_middle_of_a_collection_is_whole() {
    for (push, grace, untagged_too) in cases() {
        for at in 0.. {
            let what = format!("{push:?} at call {at} of a collection ({grace:?}, {untagged_too})");
            let (objects, untagged) = prepared().await;
            let outcome = Outcome::default();
            let (told, client) = (Arc::clone(&outcome), process(&objects, grace));
            let (work, ended) = in_between(async move {
                let pushed = push.run(&client, &untagged).await;
                *told.lock().unwrap() = Some(pushed);
            });
            let storage = Interrupted::new(&objects, at, work);
            process_on(Arc::clone(&storage) as Arc<_>, grace).collect(untagged_too).await;
            if storage.calls.load(Ordering::Relaxed) <= at {
                assert!(at > 20, "{what}: that was all?");
                break;
            }
            ended.notified().await;
            links_lead_somewhere(&objects, &what).await;
            if let Some((repository, pushed)) = judge(&outcome, grace, &what) {
                is_whole(&objects, repository, &pushed, &what).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_is_whole_that_has_a_collection_in_its_middle() {
    for (push, grace, untagged_too) in cases() {
        for at in 0.. {
            let what = format!("a collection ({grace:?}, {untagged_too}) at call {at} of {push:?}");
            let (objects, untagged) = prepared().await;
            let collector = process(&objects, grace);
            let (work, ended) = in_between(async move {
                collector.collect(untagged_too).await;
            });
            let storage = Interrupted::new(&objects, at, work);
            let client = process_on(Arc::clone(&storage) as Arc<_>, grace);
            let outcome = Outcome::default();
            *outcome.lock().unwrap() = Some(push.run(&client, &untagged).await);
            if storage.calls.load(Ordering::Relaxed) <= at {
                assert!(at > 5, "{what}: that was all?");
                break;
            }
            ended.notified().await;
            links_lead_somewhere(&objects, &what).await;
            if let Some((repository, pushed)) = judge(&outcome, grace, &what) {
                is_whole(&objects, repository, &pushed, &what).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_collections_at_once_take_what_one_would() {
    let left =
        |objects: Objects| async move { super::tests::objects_below(&objects, "docker").await };
    let (objects, _) = prepared().await;
    process(&objects, HOUR).collect(true).await;
    let expected = left(objects).await;
    for at in 0.. {
        let (objects, _) = prepared().await;
        let other = process(&objects, HOUR);
        let (work, ended) = in_between(async move {
            other.collect(true).await;
        });
        let storage = Interrupted::new(&objects, at, work);
        process_on(Arc::clone(&storage) as Arc<_>, HOUR).collect(true).await;
        if storage.calls.load(Ordering::Relaxed) <= at {
            break;
        }
        ended.notified().await;
        assert_eq!(left(objects).await, expected, "at call {at}");
    }
}
