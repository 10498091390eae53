//! Pushes and collections, one in the middle of the other: before each step that one of them takes in the
//! storage the other runs, as far as it gets. They are two processes on one storage, and share only the
//! storage and its fences.
//!
//! Each runs over both modes of the memory: folders, whose fences are locks, and objects, whose fences
//! are values that a validation reads again.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    Untagged,
    tests::{HOUR, Process, about, image, index, name, process, process_that_records},
    unused::note_untagged,
};
use crate::{
    oci::{Algorithm, Digest},
    registry::{
        Access, Error,
        tree::{TreeKey, repositories},
    },
    storage::{
        Durability, Key, Storage as _,
        fences::{Fenced, Fences, Reliance, Stripe},
        memory::{Memory as Objects, Mode, in_between, in_the_middle},
    },
};

/// What a client pushes while a collection runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Push {
    /// An image of layers that the repository has and no manifest needs.
    LooseLayers,
    /// An image of a layer that another repository has and does not need.
    LayerOfAnother,
    /// An image of a layer that the client mounts without naming a repository.
    LayerOfAny,
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
    Push::LayerOfAny,
    Push::TagOfOld,
    Push::Index,
    Push::Signature,
];

/// A storage before anything is pushed.
pub(super) struct Prepared {
    pub(super) objects: Objects,
    /// The image without a tag.
    untagged: Digest,
}

/// What was acknowledged.
#[derive(Debug)]
pub(super) struct Pushed {
    pub(super) repository: &'static str,
    pub(super) digest: Digest,
}

/// What is there before: an image in `app` and one in `new`, one without a tag, and layers that no
/// manifest needs. In `new` all is needed, so that no collection closes it.
pub(super) async fn prepared(mode: Mode) -> Prepared {
    let objects = Objects::new(mode);
    let process = process(&objects, HOUR);
    process.image("app", Some("kept"), b"kept").await;
    process.image("new", Some("there"), b"of its own").await;
    let untagged = process.image("app", None, b"untagged").await;
    for repository in ["app", "aaa", "zzz"] {
        process.blob(repository, b"loose").await;
    }
    objects.advance(100 * HOUR);
    note_untagged(&objects).await;
    Prepared { objects, untagged }
}

impl Push {
    /// Pushes as clients do: asks for each blob, mounts it, or uploads it. Gives the digest when it
    /// was acknowledged.
    async fn run(self, client: &Process, untagged: &Digest) -> Result<Pushed, Error> {
        let old = image(&client.digest(b"{}"), &client.digest(b"untagged"));
        let (repository, tag, json) = match self {
            Self::LooseLayers | Self::LayerOfAnother | Self::LayerOfAny => {
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
        let digest = client.try_put(repository, tag, json).await?;
        Ok(Pushed { repository, digest })
    }
}

/// Looks whether all links lead to something, and all tags to a manifest.
pub(super) async fn links_lead_somewhere(objects: &Objects, what: &str) {
    let all = super::tests::objects_below(objects, "docker/registry/v2").await;
    for link in all.iter().filter(|key| key.ends_with("/link") && !key.contains("_referrers")) {
        let mut parts = link.rsplit('/').skip(1);
        let (Some(mut hex), Some(mut algorithm)) = (parts.next(), parts.next()) else { continue };
        let bytes = objects.read(&Key::new(link.clone()), 999).await.unwrap().unwrap();
        let target = String::from_utf8(bytes.to_vec()).unwrap();
        if hex == "current" {
            (algorithm, hex) = target.split_once(':').unwrap();
            let manifests = link.split("/tags/").next().unwrap();
            let revision = format!("{manifests}/revisions/{algorithm}/{hex}/link");
            assert!(all.contains(&revision), "{what}: {link} names no manifest");
        }
        let data = format!("docker/registry/v2/blobs/{algorithm}/{}/{hex}/data", &hex[..2]);
        // What a tag once named may have gone.
        assert!(link.contains("/index/") || all.contains(&data), "{what}: {link} leads nowhere");
    }
}

/// Holds what was acknowledged against what is there, now and after another collection.
pub(super) async fn is_whole(objects: &Objects, pushed: &Pushed, what: &str) {
    let Pushed { repository, digest } = pushed;
    let reader = process(objects, HOUR);
    for round in 0..2 {
        assert!(reader.is_complete(repository, digest).await, "{what}: round {round}");
        assert!(reader.is_complete("app", &reader.tagged("app", "kept").await).await, "{what}");
        reader.collect(true).await;
    }
}

/// Holds what came of a push against what is there.
async fn judge(objects: &Objects, pushed: Result<Pushed, Error>, grace: Duration, what: &str) {
    links_lead_somewhere(objects, what).await;
    match pushed {
        Ok(pushed) => is_whole(objects, &pushed, what).await,
        // Without grace no client is promised anything, and a refused push says so.
        Err(Error::ManifestBlobUnknown(_)) if grace.is_zero() => {}
        Err(error) => panic!("{what}: {error}"),
    }
}

/// What runs, and what runs in its middle.
#[derive(Clone, Copy, Debug)]
enum Order {
    PushInCollection,
    CollectionInPush,
}

/// What is pushed, beside which collection.
#[derive(Clone, Copy, Debug)]
struct Case {
    order: Order,
    push: Push,
    grace: Duration,
    /// Which manifests without a tag the collection removes.
    untagged: Untagged,
}

fn cases(order: Order) -> impl Iterator<Item = Case> {
    let graces = PUSHES.into_iter().flat_map(|push| [(push, HOUR), (push, Duration::ZERO)]);
    graces.flat_map(move |(push, grace)| {
        [Untagged::Stay, Untagged::GoAfter(50 * HOUR), Untagged::Go].map(|untagged| Case {
            order,
            push,
            grace,
            untagged,
        })
    })
}

impl Case {
    /// Runs the one, and the other before its `at`-th step. What came of the push; `None` when there
    /// is no such step.
    async fn interleave(self, prepared: &Prepared, at: usize) -> Option<Result<Pushed, Error>> {
        let Self { order, push, grace, untagged: untagged_too, .. } = self;
        let outcome = Arc::new(Mutex::new(None));
        let told = Arc::clone(&outcome);
        let untagged = prepared.untagged.clone();
        let push = move |objects: Objects| async move {
            let pushed = push.run(&process(&objects, grace), &untagged).await;
            *told.lock().unwrap() = Some(pushed);
        };
        let collect = move |objects: Objects| async move {
            process(&objects, grace).collect_with(untagged_too).await;
        };
        let objects = &prepared.objects;
        let is_reached = match order {
            Order::PushInCollection => in_the_middle(objects, at, collect, push).await,
            Order::CollectionInPush => in_the_middle(objects, at, push, collect).await,
        };
        is_reached.then(|| outcome.lock().unwrap().take().unwrap())
    }
}

/// Runs every interleaving of every push, and counts them.
async fn interleave_all(mode: Mode, order: Order) -> usize {
    let before = prepared(mode).await;
    let mut interleavings = 0;
    for case in cases(order) {
        for at in 0.. {
            let what = format!("{mode:?}: {case:?} at {at}");
            let prepared =
                Prepared { objects: before.objects.copied(), untagged: before.untagged.clone() };
            let Some(pushed) = case.interleave(&prepared, at).await else {
                let fewest = match order {
                    Order::PushInCollection => 20,
                    Order::CollectionInPush => 5,
                };
                assert!(at > fewest, "{what}: that was all?");
                break;
            };
            interleavings += 1;
            judge(&prepared.objects, pushed, case.grace, &what).await;
        }
    }
    interleavings
}

#[tokio::test(start_paused = true)]
async fn push_over_folders_in_the_middle_of_a_collection_is_whole() {
    assert!(interleave_all(Mode::Folders, Order::PushInCollection).await > 1000);
}

#[tokio::test(start_paused = true)]
async fn push_over_objects_in_the_middle_of_a_collection_is_whole() {
    assert!(interleave_all(Mode::Objects, Order::PushInCollection).await > 1000);
}

#[tokio::test(start_paused = true)]
async fn push_over_folders_with_a_collection_in_its_middle_is_whole() {
    assert!(interleave_all(Mode::Folders, Order::CollectionInPush).await > 400);
}

#[tokio::test(start_paused = true)]
async fn push_over_objects_with_a_collection_in_its_middle_is_whole() {
    assert!(interleave_all(Mode::Objects, Order::CollectionInPush).await > 400);
}

/// A pull of a manifest that is about to go, in the middle of a collection: what is recorded stays, and no
/// record outlives its manifest.
async fn pull_in_collection(mode: Mode, access: Access) {
    let before = prepared(mode).await;
    let after = Untagged::GoAfter(50 * HOUR);
    let (mut kept, mut gone) = (0, 0);
    for at in 0.. {
        let what = format!("{mode:?}: {access:?} at {at}");
        let objects = before.objects.copied();
        let untagged = before.untagged.clone();
        let pull = |objects: Objects| async move {
            let client = process_that_records(Arc::new(objects), HOUR, 50 * HOUR);
            let app = name("app");
            if client.has("app", &untagged.to_string()).await {
                client.registry.manifests().record_pull(&app, &untagged, access);
                client.registry.settle().await;
            }
        };
        let collect = |objects: Objects| async move {
            process(&objects, HOUR).collect_with(after).await;
        };
        if !in_the_middle(&objects, at, collect, pull).await {
            break;
        }
        links_lead_somewhere(&objects, &what).await;
        let reader = process(&objects, HOUR);
        let folder = TreeKey::RevisionFolder(&name("app"), &before.untagged).key();
        if reader.is_complete("app", &before.untagged).await {
            kept += 1;
            reader.collect_with(after).await;
            assert!(reader.is_complete("app", &before.untagged).await, "{what}: it was pulled");
        } else {
            gone += 1;
            let left = super::tests::objects_below(&objects, folder.as_str()).await;
            assert!(left.is_empty(), "{what}: {left:?}");
        }
    }
    assert!(kept > 5 && gone > 5, "{mode:?}: {kept} kept, {gone} gone");
}

#[tokio::test(start_paused = true)]
async fn pull_in_the_middle_of_a_collection_keeps_its_manifest_or_leaves_no_record() {
    for mode in [Mode::Folders, Mode::Objects] {
        for access in [Access::Get, Access::Head] {
            pull_in_collection(mode, access).await;
        }
    }
}

/// Two collections, one before each step of the other, remove what one would.
async fn collect_twice(mode: Mode) -> usize {
    let left =
        |objects: Objects| async move { super::tests::objects_below(&objects, "docker").await };
    let collect = |objects: Objects| async move {
        process(&objects, HOUR).collect(true).await;
    };
    let Prepared { objects: before, .. } = prepared(mode).await;
    let alone = before.copied();
    collect(alone.clone()).await;
    let expected = left(alone).await;
    for at in 0.. {
        let objects = before.copied();
        if !in_the_middle(&objects, at, collect, collect).await {
            return at;
        }
        assert_eq!(left(objects).await, expected, "{mode:?}: at {at}");
    }
    0
}

#[tokio::test(start_paused = true)]
async fn two_collections_over_folders_remove_what_one_would() {
    assert!(collect_twice(Mode::Folders).await > 100);
}

#[tokio::test(start_paused = true)]
async fn two_collections_over_objects_remove_what_one_would() {
    assert!(collect_twice(Mode::Objects).await > 20);
}

/// The link of a process that died before it validated proves nothing: a client that pushes a manifest that
/// needs the bytes relies on them itself.
async fn push_behind_the_dead(mode: Mode) {
    let Prepared { objects: before, .. } = prepared(mode).await;
    for at in 0.. {
        let what = format!("{mode:?}: at {at}");
        let objects = before.copied();
        let outcome = Arc::new(Mutex::new(None));
        let told = Arc::clone(&outcome);
        let collect = |objects: Objects| async move {
            process(&objects, Duration::ZERO).collect(false).await;
        };
        let push = |objects: Objects| async move {
            let client = process(&objects, Duration::ZERO);
            let config = client.offer("new", b"{}", None).await;
            let layer = client.digest(b"loose");
            link_and_die(&objects, "new", &layer).await;
            let digest = client.try_put("new", Some("pushed"), image(&config, &layer)).await;
            let pushed = digest.map(|digest| Pushed { repository: "new", digest });
            *told.lock().unwrap() = Some(pushed);
        };
        if !in_the_middle(&objects, at, collect, push).await {
            assert!(at > 20, "{what}: that was all?");
            break;
        }
        let pushed = outcome.lock().unwrap().take().unwrap();
        // The dead have left a link that leads nowhere, if the bytes went before it.
        match pushed {
            Ok(pushed) => is_whole(&objects, &pushed, &what).await,
            Err(Error::ManifestBlobUnknown(_)) => {}
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

/// Mounts a blob as far as the link, and no further.
async fn link_and_die(objects: &Objects, repository: &str, digest: &Digest) {
    let name = name(repository);
    let of = Digest::of(Algorithm::Sha256, repository.as_bytes());
    let fenced = |key: Key, hex: &str| {
        let number = usize::from_str_radix(&hex[..2], 16).unwrap();
        Fenced { key, stripe: Stripe::of(number) }
    };
    let data = TreeKey::Data(digest).key();
    let on = Reliance {
        repository: Some(fenced(repositories().child(repository), of.hex())),
        bytes: Some(fenced(data.clone(), digest.hex())),
    };
    let fences: &dyn Fences = objects.fences();
    let entered = fences.enter(on).await.unwrap();
    if entered.renew(&data).await.unwrap() {
        let link = TreeKey::Layer(&name, digest).key();
        let text = bytes::Bytes::from(digest.to_string());
        objects.put(&link, text, Durability::Synced).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn push_over_folders_survives_the_death_of_another() {
    push_behind_the_dead(Mode::Folders).await;
}

#[tokio::test(start_paused = true)]
async fn push_over_objects_survives_the_death_of_another() {
    push_behind_the_dead(Mode::Objects).await;
}

/// A repository that is closed before each step of a push, as by cleanups that never end, lets the push
/// come to its end all the same.
#[tokio::test(start_paused = true)]
async fn push_ends_though_its_repository_is_closed_at_every_step() {
    for mode in [Mode::Folders, Mode::Objects] {
        let Prepared { objects, .. } = prepared(mode).await;
        let cleaned = objects.clone();
        let interrupted = objects.interrupted_always(move || {
            let objects = cleaned.clone();
            let close = async move {
                // The deletion of a tag that is not there closes the repository and changes nothing.
                assert!(!process(&objects, HOUR).has_deleted_tag("app", "absent").await);
            };
            in_between(close).0
        });
        let client = process(&interrupted, HOUR);
        let config = client.offer("app", b"{}", None).await;
        let layer = client.offer("app", b"loose", None).await;
        let digest = client.try_put("app", Some("pushed"), image(&config, &layer)).await.unwrap();
        assert!(interrupted.steps() > 20, "{mode:?}");
        let pushed = Pushed { repository: "app", digest };
        is_whole(&objects, &pushed, &format!("{mode:?}")).await;
    }
}

/// Collections that sweep all bytes before each step of a push do not keep it busy for ever.
#[tokio::test(start_paused = true)]
async fn push_gives_up_when_all_bytes_are_swept_at_every_step() {
    let Prepared { objects, .. } = prepared(Mode::Objects).await;
    let swept = objects.clone();
    let interrupted = objects.interrupted_always(move || {
        let objects = swept.clone();
        let sweep = async move {
            let fences: &dyn Fences = objects.fences();
            let run = fences.begin_run().await.unwrap();
            for stripe in Stripe::all() {
                run.sweep(stripe).await.unwrap().open().await.unwrap();
            }
            run.end().await.unwrap();
        };
        in_between(sweep).0
    });
    let client = process(&interrupted, HOUR);
    let layer = client.digest(b"loose");
    let pushed = client.try_put("app", Some("pushed"), image(&client.digest(b"{}"), &layer)).await;
    assert!(matches!(pushed, Err(Error::Overtaken)), "{pushed:?}");
    // Not before the deletions of a busy time have ended, and not long after.
    let steps = interrupted.steps();
    assert!((100..300).contains(&steps), "{steps} steps");
}
