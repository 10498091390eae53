use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;

use super::*;
use crate::{
    oci::{Algorithm, Reference, References, Tag},
    registry::{Body, Caller, Chunk, ExistingTags, NewUpload, Options, Put, Registry, SystemClock},
    storage::memory::Memory as Objects,
};

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// What was found, as text.
#[derive(Debug, Default)]
struct Notes(Vec<String>);

impl GcObserver for Notes {
    fn found(&mut self, found: GcEvent<'_>) {
        let Self(notes) = self;
        match found {
            GcEvent::Link(_) | GcEvent::Untagged(_) | GcEvent::Bytes(_) | GcEvent::Kept(_) => {
                notes.push(format!("{found:?}"));
            }
            _ => {}
        }
    }
}

/// A process on a tree that others may be on as well.
pub(super) struct Process {
    pub(super) registry: Registry,
    grace: Duration,
}

pub(super) fn process(objects: &Objects, grace: Duration) -> Process {
    process_on(Arc::new(objects.clone()), grace)
}

pub(super) fn process_on(storage: Arc<dyn crate::storage::Storage>, grace: Duration) -> Process {
    process_that_records(storage, grace, Duration::ZERO)
}

/// A process that records pulls for a collection of manifests that are untagged for `period`.
pub(super) fn process_that_records(
    storage: Arc<dyn crate::storage::Storage>,
    grace: Duration,
    period: Duration,
) -> Process {
    let options = Options { grace, untagged: period, ..Options::default() };
    Process { registry: Registry::new(storage, Arc::new(SystemClock), options), grace }
}

pub(super) fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

impl Process {
    pub(super) async fn blob(&self, repository: &str, bytes: &'static [u8]) -> Digest {
        let name = name(repository);
        let digest = digest(bytes);
        loop {
            let body: Body = Box::pin(stream::iter([Ok(Bytes::from_static(bytes))]));
            let chunk = Chunk { range: None, length: None, largest: None, body };
            let uploads = self.registry.uploads();
            let new = NewUpload { name: &name, owner: None };
            match uploads.put(&Caller::default(), new, &digest, chunk).await {
                Ok(_) => return digest,
                // A sweep took the bytes before the upload validated: the client pushes them again.
                Err(Error::UploadUnknown) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(super) async fn put(
        &self,
        repository: &str,
        tag: Option<&str>,
        json: serde_json::Value,
    ) -> Digest {
        self.try_put(repository, tag, json).await.unwrap()
    }

    pub(super) async fn try_put(
        &self,
        repository: &str,
        tag: Option<&str>,
        json: serde_json::Value,
    ) -> Result<Digest, Error> {
        let bytes = Bytes::from(json.to_string());
        let reference = match tag {
            Some(tag) => Reference::Tag(tag.parse::<Tag>().unwrap()),
            None => Reference::Digest(digest(&bytes)),
        };
        let put = Put {
            reference,
            tags: Vec::new(),
            content_type: None,
            bytes,
            existing_tags: ExistingTags::Move,
        };
        Ok(self.registry.manifests().put(&Caller::default(), &name(repository), put).await?.digest)
    }

    pub(super) async fn image(
        &self,
        repository: &str,
        tag: Option<&str>,
        layer: &'static [u8],
    ) -> Digest {
        let (config, layer) =
            (self.blob(repository, b"{}").await, self.blob(repository, layer).await);
        self.put(repository, tag, image(&config, &layer)).await
    }

    pub(super) async fn collect(&self, untagged: bool) -> (Collected, Vec<String>) {
        let untagged = if untagged { Untagged::Go } else { Untagged::Stay };
        self.collect_with(untagged).await
    }

    pub(super) async fn collect_with(&self, untagged: Untagged) -> (Collected, Vec<String>) {
        let mut notes = Notes::default();
        let how = Collect { grace: self.grace, untagged, dry_run: false, gently: false };
        let collected = self.registry.gc().collect(how, &mut notes).await.unwrap();
        (collected, notes.0)
    }

    pub(super) async fn has(&self, repository: &str, reference: &str) -> bool {
        let reference = match reference.parse() {
            Ok(digest) => Reference::Digest(digest),
            Err(_) => Reference::Tag(reference.parse().unwrap()),
        };
        self.registry.manifests().get(&name(repository), &reference).await.unwrap().is_some()
    }

    pub(super) fn digest(&self, bytes: &[u8]) -> Digest {
        digest(bytes)
    }

    /// Sees to it that a blob is in a repository: asks for it, mounts it, or uploads it.
    pub(super) async fn offer(
        &self,
        repository: &str,
        bytes: &'static [u8],
        from: Option<Option<&str>>,
    ) -> Digest {
        let repository_name = name(repository);
        let digest = digest(bytes);
        if self.registry.blobs().size(&repository_name, &digest).await.unwrap().is_some() {
            return digest;
        }
        if let Some(from) = from {
            let from = from.map(name);
            let mounted = self
                .registry
                .blobs()
                .mount(&Caller::default(), &repository_name, &digest, from.as_ref())
                .await;
            if mounted.unwrap().is_some() {
                return digest;
            }
        }
        self.blob(repository, bytes).await
    }

    /// What a tag names.
    pub(super) async fn tagged(&self, repository: &str, tag: &str) -> Digest {
        let reference = Reference::Tag(tag.parse().unwrap());
        self.registry.manifests().get(&name(repository), &reference).await.unwrap().unwrap().digest
    }

    /// Whether a manifest is there with all that it needs, and what that needs.
    pub(super) async fn is_complete(&self, repository: &str, digest: &Digest) -> bool {
        let mut open = vec![digest.clone()];
        while let Some(digest) = open.pop() {
            let reference = Reference::Digest(digest);
            let manifest =
                self.registry.manifests().get(&name(repository), &reference).await.unwrap();
            let Some(manifest) = manifest else { return false };
            let references = References::of(&manifest.bytes).unwrap();
            for blob in &references.blobs {
                if self.registry.blobs().open(&name(repository), blob).await.unwrap().is_none() {
                    return false;
                }
            }
            open.extend(references.manifests);
        }
        true
    }

    pub(super) async fn has_deleted_tag(&self, repository: &str, tag: &str) -> bool {
        let (caller, tag) = (Caller::default(), tag.parse().unwrap());
        self.registry.manifests().delete_tag(&caller, &name(repository), &tag).await.unwrap()
    }

    pub(super) async fn has_blob(&self, repository: &str, bytes: &[u8]) -> bool {
        self.registry.blobs().open(&name(repository), &digest(bytes)).await.unwrap().is_some()
    }
}

pub(super) fn image(config: &Digest, layer: &Digest) -> serde_json::Value {
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let named = |digest| serde_json::json!({ "mediaType": "x", "digest": digest, "size": 1 });
    serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type, "config": named(config),
        "layers": [named(layer)],
    })
}

pub(super) fn index(children: &[&Digest]) -> serde_json::Value {
    let named = |digest| serde_json::json!({ "mediaType": "x", "digest": digest, "size": 1 });
    serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": children.iter().map(named).collect::<Vec<_>>(),
    })
}

pub(super) fn about(subject: &Digest, config: &Digest, layer: &Digest) -> serde_json::Value {
    let mut image = image(config, layer);
    image["subject"] = serde_json::json!({ "mediaType": "x", "digest": subject, "size": 1 });
    image
}

#[tokio::test]
async fn blob_that_no_manifest_references_goes_and_a_referenced_one_stays() {
    let objects = Objects::default();
    let process = process(&objects, Duration::ZERO);
    process.image("team/app", Some("1"), b"kept").await;
    process.blob("team/app", b"dropped").await;
    process.blob("team/other", b"kept").await;
    let (collected, _) = process.collect(false).await;
    assert_eq!((collected.links, collected.blobs, collected.bytes), (2, 1, 7));
    assert!(process.has("team/app", "1").await && process.has_blob("team/app", b"kept").await);
    assert!(!process.has_blob("team/app", b"dropped").await);
    assert!(!process.has_blob("team/other", b"kept").await, "it needs it not");
    let (collected, _) = process.collect(false).await;
    assert_eq!((collected.links, collected.blobs), (0, 0));
    process.blob("team/app", b"dropped").await;
    assert!(process.has_blob("team/app", b"dropped").await, "it can be pushed again at once");
}

/// Wants no more as soon as it has heard of something.
#[derive(Default)]
struct Brief(bool);

impl GcObserver for Brief {
    fn found(&mut self, _: GcEvent<'_>) {
        self.0 = true;
    }
    fn is_over(&self) -> bool {
        self.0
    }
}

#[tokio::test]
async fn collection_that_is_cancelled_removes_no_bytes() {
    let objects = Objects::default();
    let process = process(&objects, Duration::ZERO);
    for repository in ["a", "b"] {
        process.blob(repository, b"nobody needs it").await;
    }
    let grace = Duration::ZERO;
    let how = Collect { grace, untagged: Untagged::Go, dry_run: false, gently: false };
    let collected = process.registry.gc().collect(how, &mut Brief::default()).await.unwrap();
    assert_eq!((collected.repositories, collected.links, collected.blobs), (1, 1, 0));
    assert!(process.has_blob("b", b"nobody needs it").await, "and none of what it has not seen");
}

#[tokio::test]
async fn dry_run_lists_what_a_collection_would_remove_and_removes_nothing() {
    let objects = Objects::default();
    let process = process(&objects, Duration::ZERO);
    process.image("app", Some("1"), b"old").await;
    process.image("app", Some("1"), b"new").await;
    process.blob("app", b"dropped").await;
    let how =
        Collect { grace: Duration::ZERO, untagged: Untagged::Go, dry_run: true, gently: false };
    let mut dry = Notes::default();
    let would = process.registry.gc().collect(how, &mut dry).await.unwrap();
    assert!(process.has_blob("app", b"dropped").await && process.has_blob("app", b"old").await);
    let (collected, notes) = process.collect(true).await;
    assert_eq!(dry.0, notes);
    assert_eq!(would, collected);
    // The manifest, and its layer; the blob that nobody named.
    assert_eq!((collected.manifests, collected.links, collected.blobs), (1, 2, 3));
}

#[tokio::test]
async fn content_younger_than_the_grace_period_stays() {
    let objects = Objects::default();
    let process = process(&objects, HOUR);
    process.blob("app", b"layer").await;
    process.image("app", Some("1"), b"first").await;
    process.image("app", Some("1"), b"second").await;
    assert_eq!(process.collect(true).await.0.blobs, 0);
    objects.advance(HOUR);
    assert_eq!(process.collect(true).await.0.blobs, 0, "what was promised may be renewed later");
    objects.advance(HOUR / 2);
    let (collected, _) = process.collect(true).await;
    assert_eq!((collected.manifests, collected.links, collected.blobs), (1, 2, 3));
}

#[tokio::test]
async fn grace_of_an_untagged_manifest_begins_when_it_loses_its_tag() {
    let objects = Objects::default();
    let process = process(&objects, HOUR);
    let first = process.image("app", Some("1"), b"first").await;
    let second = process.image("app", Some("2"), b"second").await;
    objects.advance(10 * HOUR);
    process.image("app", Some("1"), b"third").await;
    process
        .registry
        .manifests()
        .delete_tag(&Caller::default(), &name("app"), &"2".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(process.collect(true).await.0.manifests, 0);
    assert!(process.has("app", &first.to_string()).await);
    objects.advance(2 * HOUR);
    assert_eq!(process.collect(true).await.0.manifests, 2);
    assert!(!process.has("app", &first.to_string()).await);
    assert!(!process.has("app", &second.to_string()).await);
}

#[tokio::test]
async fn client_that_was_told_of_a_blob_finds_it_for_the_grace_period() {
    let objects = Objects::default();
    let (server, collector) = (process(&objects, HOUR), process(&objects, HOUR));
    let (config, layer) = (server.blob("app", b"{}").await, server.blob("app", b"layer").await);
    let child = server.image("app", None, b"of a child").await;
    objects.advance(100 * HOUR);
    for digest in [&config, &layer] {
        assert!(server.registry.blobs().size(&name("app"), digest).await.unwrap().is_some());
    }
    assert!(server.registry.manifests().touch(&name("app"), &child).await.unwrap());
    objects.advance(HOUR - Duration::from_secs(1));
    let (collected, notes) = collector.collect(true).await;
    assert_eq!((collected.manifests, collected.blobs), (0, 0), "{notes:?}");
    server.put("app", Some("1"), image(&config, &layer)).await;
    server.put("app", Some("2"), index(&[&child])).await;
}

#[tokio::test]
async fn client_that_asks_just_before_its_lease_expires_is_told_again() {
    let objects = Objects::default();
    let collector = process(&objects, HOUR);
    let layer = collector.blob("app", b"layer").await;
    // As old as something may be that is not renewed when it is asked for.
    for _ in 0..20 {
        objects.advance(HOUR / 8 - Duration::from_secs(1));
        // One that has just started remembers nothing.
        let server = process(&objects, HOUR);
        server.registry.blobs().size(&name("app"), &layer).await.unwrap().unwrap();
    }
    objects.advance(HOUR - Duration::from_secs(1));
    assert_eq!(collector.collect(false).await.0.links, 0);
}

#[tokio::test(start_paused = true)]
async fn content_of_an_expired_lease_can_be_deleted() {
    let objects = Objects::default();
    let process = process(&objects, HOUR);
    let image = process.image("app", Some("1"), b"layer").await;
    objects.advance(100 * HOUR);
    let caller = Caller::default();
    let (app, refuse) = (name("app"), crate::registry::DeleteMode::IfUnreferenced);
    let layer = digest(b"layer");
    let deleted = process.registry.blobs().delete(&caller, &app, &layer, refuse);
    let deleted = tokio::time::timeout(HOUR, deleted).await.unwrap();
    assert!(matches!(deleted, Err(Error::BlobNeeded(_))));
    let deleted = process.registry.manifests().delete(&caller, &app, &image);
    assert!(tokio::time::timeout(HOUR, deleted).await.unwrap().unwrap());
    let deleted = process.registry.blobs().delete(&caller, &app, &layer, refuse);
    assert!(tokio::time::timeout(HOUR, deleted).await.unwrap().unwrap());
    process.image("app", Some("1"), b"layer").await;
    objects.advance(100 * HOUR);
    let deleted = process.registry.delete_repository(&caller, &app);
    assert!(tokio::time::timeout(HOUR, deleted).await.unwrap().unwrap());
}

#[tokio::test]
async fn long_push_keeps_its_first_layers() {
    let objects = Objects::default();
    let process = process(&objects, HOUR);
    process.blob("app", b"first").await;
    objects.advance(10 * HOUR);
    let repository = name("app");
    let id = process.registry.uploads().begin(&repository, Algorithm::Sha256, None).await.unwrap();
    let upload = crate::registry::Upload { name: repository, id, owner: None };
    let body: Body = Box::pin(stream::iter([Ok(Bytes::from_static(b"second"))]));
    let chunk = Chunk { range: None, length: None, largest: None, body };
    process.registry.uploads().append(&upload, chunk).await.unwrap();
    assert_eq!(process.collect(false).await.0.links, 0);
    process.registry.uploads().cancel(&upload).await.unwrap();
    assert_eq!(process.collect(false).await.0.links, 1);
}

#[tokio::test]
async fn untagged_manifests_stay_unless_they_are_asked_for() {
    let objects = Objects::default();
    let process = process(&objects, Duration::ZERO);
    let child = process.image("app", None, b"child").await;
    let alone = process.image("app", None, b"alone").await;
    process.put("app", Some("list"), index(&[&child])).await;
    let (config, layer) =
        (process.blob("app", b"{}").await, process.blob("app", b"signature").await);
    let signature = process.put("app", None, about(&child, &config, &layer)).await;
    assert_eq!(process.collect(false).await.0.manifests, 0);
    let (collected, notes) = process.collect(true).await;
    assert_eq!((collected.manifests, collected.blobs), (1, 2), "{notes:?}");
    for (kept, digest) in [(true, &child), (false, &alone), (true, &signature)] {
        assert_eq!(process.has("app", &digest.to_string()).await, kept);
    }
    process
        .registry
        .manifests()
        .delete_tag(&Caller::default(), &name("app"), &"list".parse().unwrap())
        .await
        .unwrap();
    let (collected, _) = process.collect(true).await;
    assert_eq!(collected.manifests, 3, "the index, its child, and what is about that");
    let left = objects_below(&objects, "docker/registry/v2").await;
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn of_what_cannot_be_read_all_stays() {
    let objects = Objects::default();
    let process = process(&objects, Duration::ZERO);
    let broken = process.image("app", Some("1"), b"layer").await;
    process.blob("app", b"loose").await;
    process.image("other", Some("1"), b"of another").await;
    process.blob("other", b"loose too").await;
    let data = crate::registry::tree::TreeKey::Data(&broken).key();
    let storage: &dyn crate::storage::Storage = &objects;
    storage.put(&data, Bytes::new(), crate::storage::Durability::Lazy).await.unwrap();
    let (collected, notes) = process.collect(true).await;
    assert_eq!((collected.kept, collected.links, collected.blobs), (1, 1, 1), "{notes:?}");
    assert!(process.has_blob("app", b"loose").await && process.has_blob("app", b"layer").await);
    assert!(!process.has_blob("other", b"loose too").await);
}

#[tokio::test]
async fn manifest_that_lost_its_last_tag_goes_with_the_content_that_it_alone_references() {
    let objects = Objects::default();
    let process = process(&objects, HOUR);
    let shared = process.image("app", None, b"shared").await;
    let own = process.image("app", None, b"own").await;
    let gone = process.put("app", Some("gone"), index(&[&shared, &own])).await;
    process.put("app", Some("kept"), index(&[&shared])).await;
    let untagged = process.image("app", None, b"untagged").await;
    process
        .registry
        .manifests()
        .delete_tag(&Caller::default(), &name("app"), &"gone".parse().unwrap())
        .await
        .unwrap();
    let removed = process
        .registry
        .gc()
        .remove_released(&name("app"), std::slice::from_ref(&gone))
        .await
        .unwrap();
    assert_eq!(removed, 2);
    for (kept, digest) in [(true, &shared), (true, &untagged), (false, &own), (false, &gone)] {
        assert_eq!(process.has("app", &digest.to_string()).await, kept);
    }
    assert!(process.has_blob("app", b"own").await, "links have their grace");
}

pub(super) async fn objects_below(objects: &Objects, top: &str) -> Vec<String> {
    use crate::storage::{Key, Storage as _};
    let (mut open, mut found) = (vec![Key::new(top.to_owned())], Vec::new());
    while let Some(folder) = open.pop() {
        for entry in objects.list(&folder, None, usize::MAX).await.unwrap() {
            let key = folder.child(&entry.name);
            if entry.is_prefix { open.push(key) } else { found.push(key.to_string()) }
        }
    }
    found
}

#[tokio::test]
async fn bytes_that_a_collection_leaves_are_counted() {
    let process = process(&Objects::default(), Duration::ZERO);
    assert_eq!(process.registry.gc().stored(), None);
    let image = process.image("app", Some("v1"), b"layer").await;
    process.image("other", Some("v1"), b"layer").await;
    process.blob("app", b"a loose blob").await;
    process.collect(false).await;
    let name = name("app");
    let manifest = process.registry.manifests().get(&name, &Reference::Digest(image)).await;
    let left = manifest.unwrap().unwrap().bytes.len() as u64 + "{}layer".len() as u64;
    let stored = Stored { bytes: left, referenced: left };
    assert_eq!(process.registry.gc().stored(), Some(stored));
    // In the grace period it is stored, and a repository refers to it.
    let process = Process { grace: Duration::from_secs(3600), ..process };
    process.blob("app", b"young").await;
    process.collect(false).await;
    let stored = Stored { bytes: left + 5, referenced: left + 5 };
    assert_eq!(process.registry.gc().stored(), Some(stored));
}
