//! Additions to a repository, with a deletion before each of their steps.

use std::{
    future::Future,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::*;
use crate::{
    oci::Reference,
    registry::{
        Caller, CatalogQuery, Chunk, ExistingTags, Options, Put, Registry, Shown, SystemClock,
        TagRules, Upload, tree::OWNER,
    },
    storage::{
        STARTED_AT, Storage as _,
        memory::{Memory, Mode, in_the_middle},
    },
};

fn app() -> RepositoryName {
    "team/app".parse().unwrap()
}

fn registry(memory: &Memory) -> Registry {
    let rule = serde_json::json!({ "keeppulledwithin": { "secs": 3600, "nanos": 0 } });
    let retention = serde_json::from_value(serde_json::json!({ "rules": [rule] })).unwrap();
    let tags = TagRules { retention, ..TagRules::default() };
    let options = Options { tags, ..Options::default() };
    Registry::new(Arc::new(memory.clone()), Arc::new(SystemClock), options)
}

async fn delete_repository(memory: Memory) {
    registry(&memory).delete_repository(&Caller::default(), &app()).await.unwrap();
}

async fn begin(memory: &Memory) -> Upload {
    let owner = Some(Arc::from("ann"));
    let registry = registry(memory);
    let begun = registry.uploads().begin(&app(), Algorithm::Sha256, owner.clone()).await;
    Upload { name: app(), id: begun.unwrap(), owner }
}

fn chunk(bytes: Bytes) -> Chunk {
    Chunk { body: stream::iter([Ok(bytes)]).boxed(), length: None, range: None, largest: None }
}

/// Runs `add` on a copy of `before`, with `delete` before each of its steps in turn, and gives each copy and
/// what `add` returned to `judge`.
async fn interleave<T, Adding, Judging>(
    before: &Memory,
    add: impl Fn(Memory) -> Adding,
    judge: impl Fn(Memory, T) -> Judging,
) where
    Adding: Future<Output = T>,
    Judging: Future<Output = ()>,
{
    for at in 0.. {
        let memory = before.copied();
        let outcome = Mutex::new(None);
        let outer = async |memory: Memory| {
            let added = add(memory).await;
            *outcome.lock().unwrap() = Some(added);
        };
        if !in_the_middle(&memory, at, outer, delete_repository).await {
            assert!(at > 1, "that was all?");
            return;
        }
        let added = outcome.lock().unwrap().take().unwrap();
        judge(memory, added).await;
    }
}

/// An upload that is there after the deletion has the notes that it was begun with.
async fn is_whole_or_gone(memory: &Memory, upload: &Upload) -> bool {
    let at = TreeKey::Upload(&upload.name, upload.id).key();
    let exists = memory.staging().exists(&at).await.unwrap();
    for note in [OWNER, STARTED_AT] {
        let found = memory.staging().note(&at, note, 999).await.unwrap();
        assert_eq!(found.is_some(), exists, "{note}");
    }
    exists
}

#[tokio::test(start_paused = true)]
async fn upload_that_begins_while_its_repository_is_deleted_is_whole_or_gone() {
    for mode in [Mode::Folders, Mode::Objects] {
        let add = |memory: Memory| async move { begin(&memory).await };
        let judge = |memory: Memory, upload| async move {
            is_whole_or_gone(&memory, &upload).await;
        };
        interleave(&Memory::new(mode), add, judge).await;
    }
}

#[tokio::test(start_paused = true)]
async fn upload_whose_repository_is_deleted_while_it_grows_is_whole_or_gone() {
    // So much that the state of the hasher is saved.
    let bytes = Bytes::from(vec![7; 5 << 20]);
    for mode in [Mode::Folders, Mode::Objects] {
        let memory = Memory::new(mode);
        let upload = begin(&memory).await;
        let add = |memory: Memory| {
            let (upload, chunk) = (upload.clone(), chunk(bytes.clone()));
            async move { registry(&memory).uploads().append(&upload, chunk).await }
        };
        let judge = |memory: Memory, appended: Result<u64, Error>| {
            let upload = upload.clone();
            async move {
                let exists = is_whole_or_gone(&memory, &upload).await;
                assert!(appended.is_ok() || !exists, "{appended:?}");
            }
        };
        interleave(&memory, add, judge).await;
    }
}

/// Over folders nothing is left; over objects nothing that a reader finds.
#[tokio::test(start_paused = true)]
async fn deleted_manifest_leaves_neither_a_pull_record_nor_a_referrer() {
    for mode in [Mode::Folders, Mode::Objects] {
        pull_and_list_while_the_repository_is_deleted(mode).await;
    }
}

async fn pull_and_list_while_the_repository_is_deleted(mode: Mode) {
    let memory = Memory::new(mode);
    let subject = Digest::of(Algorithm::Sha256, b"subject");
    let descriptor = serde_json::json!({ "mediaType": "x", "digest": subject, "size": 1 });
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [], "subject": descriptor,
    });
    let bytes = Bytes::from(index.to_string());
    let reference = Reference::Tag("latest".parse().unwrap());
    let put = Put {
        reference,
        tags: Vec::new(),
        content_type: None,
        bytes,
        existing_tags: ExistingTags::Move,
    };
    let put = registry(&memory).manifests().put(&Caller::default(), &app(), put).await.unwrap();
    // As registry:2 leaves it: a manifest that is entered nowhere.
    let name = app();
    let entry = TreeKey::Referrer { name: &name, subject: &subject, referrer: &put.digest };
    memory.delete(&entry.key()).await.unwrap();
    let digest = &put.digest;
    let add = |memory: Memory| {
        let (digest, subject) = (digest.clone(), subject.clone());
        async move {
            let registry = registry(&memory);
            registry.manifests().record_pull(&app(), &digest, crate::registry::Access::Get);
            registry.settle().await;
            registry.lists().referrers(&app(), &subject, None, None).await.unwrap();
        }
    };
    let judge = |memory: Memory, ()| {
        let subject = subject.clone();
        async move {
            let lists = Arc::clone(registry(&memory).lists());
            let query = CatalogQuery { after: "", term: "", limit: 9 };
            let catalog = lists.repositories(query, Shown::All).await.unwrap();
            assert!(catalog.items.is_empty(), "{catalog:?}");
            let referrers = lists.referrers(&app(), &subject, None, None).await.unwrap();
            assert!(referrers.descriptors.is_empty(), "{referrers:?}");
            let left = memory.list(&repositories(), None, 9).await.unwrap();
            assert!(mode == Mode::Objects || left.is_empty(), "{left:?}");
        }
    };
    interleave(&memory, add, judge).await;
}
