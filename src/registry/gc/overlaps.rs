//! A request and a collection of which each stands still in the middle of the other; a push and the deletion of
//! its manifest; a clock that goes back while a collection runs.

use super::{
    races::{Prepared, Pushed, is_whole, links_lead_somewhere, prepared},
    tests::{HOUR, image, name, process},
    *,
};
use crate::storage::memory::{Memory as Objects, Mode, in_between, in_the_middle};

const MODES: [Mode; 2] = [Mode::Folders, Mode::Objects];

/// Longer than a process waits for another that runs in its middle.
const PAUSE: Duration = Duration::from_millis(2);

/// Asks for a blob, begins a collection before the `at`-th step of that, and lets it wait for the answer before
/// its `within`-th step. Returns how far the two overlap.
async fn ask(objects: &Objects, blob: &Digest, at: usize, within: usize) -> Overlap {
    let waiting = objects.interrupted(within, Box::pin(tokio::time::sleep(PAUSE)));
    let collecting = waiting.clone();
    let (collection, ended) = in_between(async move {
        process(&collecting, HOUR).collect(false).await;
    });
    let asking = objects.interrupted(at, collection);
    let client = process(&asking, HOUR);
    let is_told = client.registry.blobs().size(&name("app"), blob).await.unwrap().is_some();
    if asking.steps() <= at {
        return Overlap::Neither;
    }
    ended.notified().await;
    match waiting.steps() <= within {
        true => Overlap::Request,
        false => Overlap::Both { is_told },
    }
}

/// Which of the two has so many steps.
#[derive(Debug)]
enum Overlap {
    Neither,
    Request,
    Both {
        /// Whether the client was told that the blob exists.
        is_told: bool,
    },
}

/// A client is told that a blob exists, and the lease begins after a collection has looked at the link and before
/// it removes the link.
#[tokio::test(start_paused = true)]
async fn blob_that_a_client_is_told_exists_outlives_the_collection_that_has_looked_at_it() {
    for mode in MODES {
        let before = Objects::new(mode);
        let loose = process(&before, HOUR).blob("app", b"loose").await;
        before.advance(100 * HOUR);
        let (mut told, mut at, mut within) = (0, 0, 0);
        loop {
            let objects = before.copied();
            match ask(&objects, &loose, at, within).await {
                Overlap::Neither => break,
                Overlap::Request => (at, within) = (at + 1, 0),
                Overlap::Both { is_told } => {
                    let found = process(&objects, HOUR).has_blob("app", b"loose").await;
                    assert!(!is_told || found, "{mode:?}: at {at} and {within}");
                    told += usize::from(is_told);
                    within += 1;
                }
            }
        }
        assert!(at > 2 && told > 20, "{mode:?}: {told} answers in {at} steps");
    }
}

/// A manifest is deleted and pushed again at another tag, one before each step of the other: the tag never names
/// a manifest that has gone.
#[tokio::test(start_paused = true)]
async fn tag_that_is_pushed_while_its_manifest_is_deleted_names_a_manifest() {
    for mode in MODES {
        let before = Objects::new(mode);
        let client = process(&before, HOUR);
        let digest = client.image("app", Some("first"), b"layer").await;
        let json = image(&client.digest(b"{}"), &client.digest(b"layer"));
        let push = |objects: Objects| {
            let json = json.clone();
            async move {
                process(&objects, HOUR).try_put("app", Some("second"), json).await.unwrap();
            }
        };
        let delete = |objects: Objects| {
            let digest = digest.clone();
            async move {
                let registry = process(&objects, HOUR).registry;
                let caller = Caller::default();
                registry.manifests().delete(&caller, &name("app"), &digest).await.unwrap();
            }
        };
        for at in 0.. {
            let deleted = before.copied();
            let pushed = before.copied();
            let is_reached = [
                in_the_middle(&deleted, at, delete, push).await,
                in_the_middle(&pushed, at, push, delete).await,
            ];
            if is_reached == [false, false] {
                assert!(at > 10, "{mode:?}: that was all?");
                break;
            }
            links_lead_somewhere(&deleted, &format!("{mode:?}: push before step {at}")).await;
            links_lead_somewhere(&pushed, &format!("{mode:?}: deletion before step {at}")).await;
        }
    }
}

/// The clock goes back before each step of a collection, so that the bytes of a push look old.
#[tokio::test(start_paused = true)]
async fn push_behind_a_clock_that_goes_back_in_a_collection_is_whole() {
    for mode in MODES {
        let Prepared { objects: before, .. } = prepared(mode).await;
        let mut ended = 0;
        for at in 0.. {
            let what = format!("{mode:?}: at {at}");
            let objects = before.copied();
            let outcome = Arc::new(Mutex::new(None));
            let told = Arc::clone(&outcome);
            let collect = async |objects: Objects| {
                let how =
                    Collect { grace: HOUR, untagged: Untagged::Go, dry_run: false, gently: false };
                let gc = process(&objects, HOUR).registry;
                match gc.gc().collect(how, &mut Quiet).await {
                    Ok(_) => {}
                    Err(Error::ClockWentBack) => ended += 1,
                    Err(error) => panic!("{what}: {error}"),
                }
            };
            let push = |objects: Objects| async move {
                objects.turn_back(50 * HOUR);
                let client = process(&objects, HOUR);
                let config = client.offer("app", b"{}", None).await;
                let layer = client.offer("app", b"loose", None).await;
                let pushed = client.try_put("app", Some("pushed"), image(&config, &layer)).await;
                *told.lock().unwrap() = Some(pushed);
            };
            if !in_the_middle(&objects, at, collect, push).await {
                break;
            }
            let pushed = outcome.lock().unwrap().take().unwrap();
            match pushed {
                Ok(digest) => {
                    is_whole(&objects, &Pushed { repository: "app", digest }, &what).await
                }
                // Its links look old too, and no lease holds.
                Err(Error::ManifestBlobUnknown(_)) => {}
                Err(error) => panic!("{what}: {error}"),
            }
        }
        assert!(ended > 20, "{mode:?}: {ended} collections ended");
    }
}

/// Hears nothing of a collection.
struct Quiet;

impl GcObserver for Quiet {
    fn found(&mut self, _: GcEvent<'_>) {}
}
