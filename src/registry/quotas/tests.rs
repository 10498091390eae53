use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::*;
use crate::{
    oci::Algorithm,
    registry::{
        Caller, Chunk, Collect, DeleteMode, GcEvent, GcObserver, NewUpload, Options, Registry,
        SystemClock, Untagged,
    },
    storage::memory::Memory,
};

/// The registries of two processes over one storage, with a quota of 100 bytes.
struct Processes {
    server: Registry,
    other: Registry,
}

fn processes() -> Processes {
    let memory = Memory::default();
    let registry = || {
        let quotas = serde_json::from_value(json!([{ "bytes": "100B" }])).unwrap();
        let options = Options { grace: Duration::ZERO, quotas, ..Options::default() };
        Registry::new(Arc::new(memory.clone()), Arc::new(SystemClock), options)
    };
    Processes { server: registry(), other: registry() }
}

fn app() -> RepositoryName {
    "app".parse().unwrap()
}

/// Pushes a blob of so many equal bytes.
async fn push(registry: &Registry, byte: u8, length: usize) -> Result<Digest, Error> {
    let bytes = Bytes::from(vec![byte; length]);
    let digest = Digest::of(Algorithm::Sha256, &bytes);
    let body = stream::iter([Ok(bytes)]).boxed();
    let chunk = Chunk { body, length: None, range: None, largest: None };
    let name = app();
    let new = NewUpload { name: &name, owner: None };
    registry.uploads().put(&Caller::default(), new, &digest, chunk).await?;
    Ok(digest)
}

fn used(refused: Result<Digest, Error>) -> u64 {
    match refused {
        Err(Error::QuotaExceeded(QuotaExceeded { used, .. })) => used,
        other => panic!("{other:?}"),
    }
}

struct Ignore;

impl GcObserver for Ignore {
    fn found(&mut self, _: GcEvent<'_>) {}
}

async fn delete(registry: &Registry, blob: &Digest) {
    let mode = DeleteMode::Force;
    assert!(registry.blobs().delete(&Caller::default(), &app(), blob, mode).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn deletions_of_another_process_lock_a_repository_for_seconds_at_most() {
    let Processes { server, other } = processes();
    let blob = push(&server, 1, 60).await.unwrap();
    delete(&other, &blob).await;
    assert_eq!(used(push(&server, 2, 60).await), 60);
    tokio::time::sleep(Duration::from_secs(10)).await;
    push(&server, 2, 60).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pushes_of_another_process_count_after_a_collection_or_an_hour() {
    let Processes { server, other } = processes();
    push(&server, 1, 10).await.unwrap();
    push(&other, 2, 60).await.unwrap();
    // The count of the server is too low.
    push(&server, 3, 60).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(used(push(&server, 4, 10).await), 130);

    let Processes { server, other } = processes();
    push(&server, 1, 10).await.unwrap();
    push(&other, 2, 60).await.unwrap();
    let how = Collect {
        grace: Duration::from_secs(3600),
        untagged: Untagged::Stay,
        dry_run: false,
        gently: false,
    };
    server.gc().collect(how, &mut Ignore).await.unwrap();
    assert_eq!(used(push(&server, 3, 60).await), 70);
}

#[tokio::test(start_paused = true)]
async fn refused_pushes_do_not_count_the_repository_each_time() {
    let Processes { server, other } = processes();
    let blob = push(&server, 1, 60).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    // This one counts, and what another process does afterwards is not seen for ten seconds.
    assert_eq!(used(push(&server, 2, 60).await), 60);
    delete(&other, &blob).await;
    for _ in 0..3 {
        assert_eq!(used(push(&server, 2, 60).await), 60);
    }
}

#[tokio::test]
async fn counts_are_kept_for_a_bounded_number_of_repositories() {
    let Processes { server, .. } = processes();
    let quotas = &server.0.quotas;
    let name = |number: usize| format!("app{number}").parse().unwrap();
    let held = quotas.count_of(&name(0));
    for number in 1..2 * MOST {
        drop(quotas.count_of(&name(number)));
        assert!(quotas.counts().len() <= MOST);
    }
    assert!(Arc::ptr_eq(&held, &quotas.count_of(&name(0))));
}

#[tokio::test]
async fn message_says_how_much_there_is() {
    let of = |used, reserved, bytes| QuotaExceeded {
        repository: "team-a/app".parse().unwrap(),
        most: ByteSize::parse("50GiB").unwrap(),
        used,
        reserved,
        bytes,
    };
    let gib = |tenths: u64| tenths * (1 << 30) / 10 + 1000;
    assert_eq!(
        of(gib(497), 0, Some(gib(12))).to_string(),
        "team-a/app may hold 50 GiB: 49.7 GiB are used, this blob has 1.2 GiB"
    );
    assert_eq!(
        of(gib(480), gib(17), None).to_string(),
        "team-a/app may hold 50 GiB: 48 GiB are used, 1.7 GiB more are being pushed, and this blob \
         needs more than is left"
    );
}
