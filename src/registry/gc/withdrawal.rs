//! Puts that withdraw what they have written, because a collection removed content that they had verified; with
//! another process before each step from there on.

use std::{future::Future, pin::Pin};

use super::{
    races::links_lead_somewhere,
    tests::{HOUR, Process, image, name, process},
    *,
};
use crate::{
    registry::DeleteMode,
    storage::memory::{Memory as Objects, Mode, in_between},
};

/// What another process does with the storage, and with the manifest that `app:kept` names at first.
type Other = fn(Objects, Digest) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// An image at `app:kept`, and a layer that no manifest needs.
struct Before {
    objects: Objects,
    former: Digest,
}

/// What a put of another image at `app:kept` left.
struct Left {
    objects: Objects,
    put: Result<Digest, Error>,
    /// How many steps the put took.
    steps: usize,
}

/// The image of the layer that no manifest needs.
fn loose(client: &Process) -> serde_json::Value {
    image(&client.digest(b"{}"), &client.digest(b"loose"))
}

impl Before {
    async fn new() -> Self {
        let objects = Objects::new(Mode::Objects);
        let client = process(&objects, HOUR);
        let former = client.image("app", Some("kept"), b"kept").await;
        client.blob("app", b"loose").await;
        objects.advance(100 * HOUR);
        Self { objects, former }
    }

    /// Puts the image at `app:kept`, with a collection before the `at`-th step and `other` before a later one.
    async fn put(&self, at: usize, other: Option<(usize, Other)>) -> Left {
        let objects = self.objects.copied();
        let collected = objects.clone();
        let (collection, collected) = in_between(async move {
            process(&collected, Duration::ZERO).collect(true).await;
        });
        let mut works = vec![(at, collection)];
        let mut ends = vec![(at, collected)];
        if let Some((later, other)) = other {
            let (work, ended) = in_between(other(objects.clone(), self.former.clone()));
            works.push((later, work));
            ends.push((later, ended));
        }
        let interrupted = objects.interrupted_at(works);
        let client = process(&interrupted, Duration::ZERO);
        let put = client.try_put("app", Some("kept"), loose(&client)).await;
        let steps = interrupted.steps();
        for (_, ended) in ends.into_iter().filter(|(at, _)| *at < steps) {
            ended.notified().await;
        }
        links_lead_somewhere(&objects, &format!("at {at}, {other:?}")).await;
        Left { objects, put, steps }
    }

    /// Before which steps of the put a collection makes the put fail.
    async fn refusals(&self) -> Vec<usize> {
        let mut refusals = Vec::new();
        for at in 0.. {
            let Left { put, steps, .. } = self.put(at, None).await;
            if steps <= at {
                break;
            }
            if put.is_err() {
                refusals.push(at);
            }
        }
        refusals
    }

    /// Lets `other` run before each step that follows such a collection, and gives what the put left to `judge`.
    async fn interleave(&self, other: Other, judge: impl AsyncFn(&Process, &str)) {
        let mut interleavings = 0;
        for at in self.refusals().await {
            for later in at + 1.. {
                let Left { objects, steps, .. } = self.put(at, Some((later, other))).await;
                if steps <= later {
                    break;
                }
                interleavings += 1;
                judge(&process(&objects, HOUR), &format!("at {at} and {later}")).await;
            }
        }
        assert!(interleavings > 50, "{interleavings}");
    }
}

#[tokio::test(start_paused = true)]
async fn put_that_is_refused_leaves_the_former_manifest_at_its_tag() {
    let before = Before::new().await;
    let refusals = before.refusals().await;
    assert!(refusals.len() > 5, "{refusals:?}");
    for at in refusals {
        let Left { objects, put, .. } = before.put(at, None).await;
        assert!(matches!(put, Err(Error::ManifestBlobUnknown(_))), "at {at}: {put:?}");
        let reader = process(&objects, HOUR);
        assert!(reader.has("app", "kept").await, "at {at}");
        assert_eq!(reader.tagged("app", "kept").await, before.former, "at {at}");
        assert!(reader.is_complete("app", &before.former).await, "at {at}");
        let withdrawn = reader.digest(loose(&reader).to_string().as_bytes());
        assert!(!reader.has("app", &withdrawn.to_string()).await, "at {at}");
    }
}

/// The tag must not return to the former manifest, which would leave a tag without a manifest.
#[tokio::test(start_paused = true)]
async fn put_that_is_refused_does_not_return_its_tag_to_a_manifest_that_was_deleted() {
    let delete: Other = |objects, former| {
        Box::pin(async move {
            let registry = process(&objects, HOUR).registry;
            let caller = Caller::default();
            registry.manifests().delete(&caller, &name("app"), &former).await.unwrap();
        })
    };
    let judge = async |_: &Process, _: &str| {};
    Before::new().await.interleave(delete, judge).await;
}

#[tokio::test(start_paused = true)]
async fn put_that_is_refused_leaves_the_manifest_to_another_put_that_completed_it() {
    let complete: Other = |objects, _| {
        Box::pin(async move {
            let client = process(&objects, HOUR);
            client.offer("app", b"loose", None).await;
            client.try_put("app", None, loose(&client)).await.unwrap();
        })
    };
    let judge = async |reader: &Process, what: &str| {
        let digest = reader.digest(loose(reader).to_string().as_bytes());
        assert!(reader.is_complete("app", &digest).await, "{what}");
    };
    Before::new().await.interleave(complete, judge).await;
}

/// Another client completes the manifest, tags it, and deletes its layer.
#[tokio::test(start_paused = true)]
async fn put_that_is_refused_leaves_a_manifest_that_another_put_has_tagged() {
    let tag: Other = |objects, _| {
        Box::pin(async move {
            let client = process(&objects, HOUR);
            let layer = client.offer("app", b"loose", None).await;
            client.try_put("app", Some("other"), loose(&client)).await.unwrap();
            let blobs = client.registry.blobs();
            let caller = Caller::default();
            blobs.delete(&caller, &name("app"), &layer, DeleteMode::Force).await.unwrap();
        })
    };
    let judge = async |reader: &Process, what: &str| {
        assert!(reader.has("app", "other").await, "{what}");
    };
    Before::new().await.interleave(tag, judge).await;
}
