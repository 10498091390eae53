//! Pushes and collections, one in the middle of the other: at each step that one of them takes in the
//! storage the other runs, as far as it comes. They are two processes on one storage, which know of
//! each other only what the storage and its fences tell them.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::tests::{HOUR, Process, about, image, index, name, process};
use crate::{
    oci::Digest,
    registry::Error,
    storage::{
        Key, Storage as _,
        memory::{Memory as Objects, Mode, Work},
    },
};

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
fn cases() -> impl Iterator<Item = (Mode, Push, Duration, bool)> {
    MODES.into_iter().flat_map(|mode| PUSHES.map(|push| (mode, push))).flat_map(|(mode, push)| {
        [HOUR, Duration::ZERO]
            .into_iter()
            .flat_map(move |grace| [(mode, push, grace, false), (mode, push, grace, true)])
    })
}

/// Fences that are locks, and fences that are looked at again.
const MODES: [Mode; 1] = [Mode::Folders];

/// What is there before: an image in `app` and one in `new`, one without a tag, and layers that nobody
/// needs. In `new` all is needed, so that it is locked by no collection.
async fn prepared(mode: Mode) -> (Objects, Digest) {
    let objects = Objects::new(mode);
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
    for (mode, push, grace, untagged_too) in cases() {
        for at in 0.. {
            let what =
                format!("{mode:?}: {push:?} at {at} of a collection ({grace:?}, {untagged_too})");
            let (objects, untagged) = prepared(mode).await;
            let outcome = Outcome::default();
            let (told, client) = (Arc::clone(&outcome), process(&objects, grace));
            let (work, ended) = in_between(async move {
                let pushed = push.run(&client, &untagged).await;
                *told.lock().unwrap() = Some(pushed);
            });
            let storage = objects.interrupted(at, work);
            process(&storage, grace).collect(untagged_too).await;
            if storage.steps() <= at {
                assert!(at > 20, "{what}: that was all?");
                break;
            }
            ended.notified().await;
            let pushed = judge(&outcome, grace, &what);
            // Without locks a push that is refused may have written its manifest before it looked
            // again; a tag never names that.
            if pushed.is_some() || mode == Mode::Folders {
                links_lead_somewhere(&objects, &what).await;
            }
            if let Some((repository, pushed)) = pushed {
                is_whole(&objects, repository, &pushed, &what).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_is_whole_that_has_a_collection_in_its_middle() {
    for (mode, push, grace, untagged_too) in cases() {
        for at in 0.. {
            let what =
                format!("{mode:?}: a collection ({grace:?}, {untagged_too}) at {at} of {push:?}");
            let (objects, untagged) = prepared(mode).await;
            let collector = process(&objects, grace);
            let (work, ended) = in_between(async move {
                collector.collect(untagged_too).await;
            });
            let storage = objects.interrupted(at, work);
            let client = process(&storage, grace);
            let outcome = Outcome::default();
            *outcome.lock().unwrap() = Some(push.run(&client, &untagged).await);
            if storage.steps() <= at {
                assert!(at > 5, "{what}: that was all?");
                break;
            }
            ended.notified().await;
            let pushed = judge(&outcome, grace, &what);
            // Without locks a push that is refused may have written its manifest before it looked
            // again; a tag never names that.
            if pushed.is_some() || mode == Mode::Folders {
                links_lead_somewhere(&objects, &what).await;
            }
            if let Some((repository, pushed)) = pushed {
                is_whole(&objects, repository, &pushed, &what).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_collections_at_once_take_what_one_would() {
    let left =
        |objects: Objects| async move { super::tests::objects_below(&objects, "docker").await };
    for mode in MODES {
        let (objects, _) = prepared(mode).await;
        process(&objects, HOUR).collect(true).await;
        let expected = left(objects).await;
        for at in 0.. {
            let (objects, _) = prepared(mode).await;
            let other = process(&objects, HOUR);
            let (work, ended) = in_between(async move {
                other.collect(true).await;
            });
            let storage = objects.interrupted(at, work);
            process(&storage, HOUR).collect(true).await;
            if storage.steps() <= at {
                break;
            }
            ended.notified().await;
            assert_eq!(left(objects).await, expected, "{mode:?}: at {at}");
        }
    }
}
