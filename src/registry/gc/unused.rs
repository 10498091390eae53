//! Collections of manifests that have been neither tagged nor pulled for a period.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Collected, Untagged,
    tests::{HOUR, Process, about, image, index, name, objects_below, process_that_records},
};
use crate::{
    oci::{Digest, Tag},
    registry::{
        Access, Caller,
        tree::{TreeKey, pulls},
    },
    storage::{Durability, Storage as _, memory::Memory as Objects},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const PERIOD: Duration = Duration::from_secs(30 * 24 * 3600);

/// Notes all manifests of a storage as they are, a hundred hours before now, and says that pulls have been
/// recorded since.
pub(super) async fn note_untagged(objects: &Objects) {
    for folder in objects_below(objects, "docker/registry/v2/repositories").await {
        if let Some(folder) = folder.strip_suffix("/link").filter(|it| it.contains("/revisions/")) {
            let key = crate::storage::Key::new(format!("{folder}/portcullis-untagged"));
            objects.put(&key, Bytes::new(), Durability::Lazy).await.unwrap();
        }
    }
    objects.advance(100 * HOUR);
    let content = Bytes::from_static(b"1970-01-01T00:00:00Z recording\n");
    objects.put(&pulls(), content, Durability::Lazy).await.unwrap();
}

/// A server that records pulls and collects once a day.
struct Server {
    objects: Objects,
    process: Process,
}

impl Server {
    fn on(objects: &Objects) -> Self {
        let storage = Arc::new(objects.clone());
        Self { objects: objects.clone(), process: process_that_records(storage, HOUR, PERIOD) }
    }

    /// A server that has recorded pulls for longer than any gap matters.
    async fn new() -> Self {
        let server = Self::on(&Objects::default());
        server.process.registry.confirm_pulls().await.unwrap();
        server.pass(31).await;
        server
    }

    /// Lets days pass, with a confirmation each hour and a collection each day. Returns the manifests that
    /// went.
    async fn pass(&self, days: u32) -> u64 {
        let mut manifests = 0;
        for _ in 0..days {
            self.pass_hours(24).await;
            manifests += self.collect().await.manifests;
        }
        manifests
    }

    /// Lets hours pass, with a confirmation each and without a collection.
    async fn pass_hours(&self, hours: u32) {
        for _ in 0..hours {
            self.objects.advance(HOUR);
            self.process.registry.confirm_pulls().await.unwrap();
        }
    }

    async fn collect(&self) -> Collected {
        // Of a process of its own: this one remembers the pulls of the last hour by the clock of the system.
        let storage = Arc::new(self.objects.clone());
        let process = process_that_records(storage, HOUR, PERIOD);
        process.collect_with(Untagged::GoAfter(PERIOD)).await.0
    }

    async fn pull(&self, digest: &Digest, access: Access) {
        // As above.
        let storage = Arc::new(self.objects.clone());
        let registry = process_that_records(storage, HOUR, PERIOD).registry;
        registry.manifests().record_pull(&name("app"), digest, access);
        registry.settle().await;
    }

    async fn untag(&self, tag: &str) {
        let tag: Tag = tag.parse().unwrap();
        let manifests = self.process.registry.manifests();
        assert!(manifests.delete_tag(&Caller::default(), &name("app"), &tag).await.unwrap());
    }

    async fn has(&self, digest: &Digest) -> bool {
        self.process.has("app", &digest.to_string()).await
    }

    async fn stop(self) -> Objects {
        self.process.registry.settle().await;
        self.process.registry.end_pulls().await.unwrap();
        self.objects
    }
}

#[tokio::test(start_paused = true)]
async fn manifest_goes_once_it_has_been_untagged_and_not_pulled_for_the_period() {
    let server = Server::new().await;
    let first = server.process.image("app", Some("latest"), b"first").await;
    assert_eq!(server.pass(40).await, 0, "it has a tag");
    let second = server.process.image("app", Some("latest"), b"second").await;
    let by_digest = server.process.image("app", None, b"by its digest").await;
    assert_eq!(server.pass(30).await, 0, "the tag moved away only then");
    let kept = server.collect().await.untagged;
    assert_eq!((kept.manifests, kept.held_until), (2, None));
    assert_eq!(server.pass(2).await, 2);
    assert!(
        server.has(&second).await && !server.has(&first).await && !server.has(&by_digest).await
    );
    assert!(!server.process.has_blob("app", b"first").await);
}

#[tokio::test(start_paused = true)]
async fn manifest_that_is_pulled_by_its_digest_stays() {
    for access in [Access::Get, Access::Head] {
        let server = Server::new().await;
        let pinned = server.process.image("app", None, b"pinned").await;
        let loose = server.process.image("app", None, b"loose").await;
        for _ in 0..4 {
            server.pass(20).await;
            server.pull(&pinned, access).await;
        }
        assert!(server.has(&pinned).await && !server.has(&loose).await, "{access:?}");
        assert_eq!(server.pass(29).await, 0, "{access:?}");
        assert_eq!(server.pass(3).await, 1, "{access:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn manifest_that_an_index_a_subject_or_a_referrer_needs_stays() {
    let server = Server::new().await;
    let process = &server.process;
    let child = process.image("app", None, b"child").await;
    process.put("app", Some("list"), index(&[&child])).await;
    let config = process.blob("app", b"{}").await;
    let layer = process.blob("app", b"signature").await;
    let signature = process.put("app", None, about(&child, &config, &layer)).await;
    let pulled_child = process.image("app", None, b"of an old index").await;
    let old = process.put("app", None, index(&[&pulled_child])).await;
    for _ in 0..4 {
        server.pass(20).await;
        server.pull(&pulled_child, Access::Get).await;
    }
    for (digest, stays) in
        [(&child, true), (&signature, true), (&pulled_child, true), (&old, false)]
    {
        assert_eq!(server.has(digest).await, stays);
    }
    server.untag("list").await;
    assert_eq!(server.pass(29).await, 0);
    assert_eq!(server.pass(3).await, 4, "and the child of the old index");
}

#[tokio::test(start_paused = true)]
async fn manifest_that_was_tagged_again_counts_from_the_end_of_that_tag() {
    let server = Server::new().await;
    let image_of =
        |server: &Server| image(&server.process.digest(b"{}"), &server.process.digest(b"layer"));
    let old = server.process.image("app", None, b"layer").await;
    server.pass(20).await;
    server.process.put("app", Some("again"), image_of(&server)).await;
    server.pass(40).await;
    // As by registry:2, or with a power cut behind it: nothing but the tag goes.
    let again: Tag = "again".parse().unwrap();
    let link = TreeKey::TagCurrent(&name("app"), &again).key();
    assert!(server.objects.delete(&link).await.unwrap());
    assert_eq!(server.pass(29).await, 0, "the last collection saw a tag");
    assert_eq!(server.pass(3).await, 1);
    assert!(!server.has(&old).await);
}

/// An operator upgrades, or switches the option on.
#[tokio::test(start_paused = true)]
async fn tree_of_another_registry_loses_nothing_within_the_period() {
    let objects = Objects::default();
    let other = super::tests::process(&objects, HOUR);
    other.image("app", Some("latest"), b"first").await;
    other.image("app", Some("latest"), b"second").await;
    objects.advance(400 * DAY);
    let server = Server::on(&objects);
    assert_eq!(server.collect().await.manifests, 0, "without a record of pulls");
    server.process.registry.confirm_pulls().await.unwrap();
    assert_eq!(server.pass(29).await, 0);
    assert_eq!(server.pass(3).await, 1);
}

/// registry:2 serves for a while, and records no pull.
#[tokio::test(start_paused = true)]
async fn gap_in_the_records_holds_everything_untagged_for_as_long() {
    let server = Server::new().await;
    server.process.image("app", None, b"pinned").await;
    server.pass(25).await;
    let objects = server.stop().await;
    objects.advance(10 * DAY);
    let server = Server::on(&objects);
    let collected = server.collect().await;
    assert_eq!(collected.manifests, 0, "no server records");
    assert!(collected.untagged.held_until.is_some());
    server.process.registry.confirm_pulls().await.unwrap();
    assert_eq!(server.pass(9).await, 0, "35 days and more without a pull");
    assert_eq!(server.pass(2).await, 1);
}

#[tokio::test(start_paused = true)]
async fn server_that_died_holds_everything_untagged_for_a_day_and_one_that_stopped_does_not() {
    for dies in [true, false] {
        let server = Server::new().await;
        server.process.image("app", None, b"pinned").await;
        server.pass(30).await;
        server.pass_hours(25).await;
        let objects = if dies { server.objects } else { server.stop().await };
        objects.advance(HOUR);
        let server = Server::on(&objects);
        server.process.registry.confirm_pulls().await.unwrap();
        let gone = server.collect().await.manifests;
        assert_eq!(gone, u64::from(!dies), "a pull may be lost");
        assert_eq!(gone + server.pass(2).await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn missing_or_damaged_record_of_the_watch_holds_everything_untagged_for_the_period() {
    for content in [None, Some(&b""[..]), Some(b"tomorrow recording")] {
        let server = Server::new().await;
        server.process.image("app", None, b"pinned").await;
        server.pass(29).await;
        match content {
            None => assert!(server.objects.delete(&pulls()).await.unwrap()),
            Some(content) => {
                let content = Bytes::from_static(content);
                server.objects.put(&pulls(), content, Durability::Lazy).await.unwrap();
            }
        }
        assert_eq!(server.pass(29).await, 0, "{content:?}");
        assert_eq!(server.pass(3).await, 1, "{content:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn dry_run_notes_nothing_and_lists_what_goes() {
    let server = Server::new().await;
    server.process.image("app", None, b"loose").await;
    server.pass(30).await;
    server.pass_hours(25).await;
    let before = objects_below(&server.objects, "docker").await;
    let how = super::Collect {
        grace: HOUR,
        untagged: Untagged::GoAfter(PERIOD),
        dry_run: true,
        gently: false,
    };
    let dry = server.process.registry.gc().collect(how, &mut super::Ignore).await.unwrap();
    assert_eq!(objects_below(&server.objects, "docker").await, before);
    assert_eq!(dry.manifests, 1);
    assert_eq!(server.collect().await.manifests, 1);
}

#[tokio::test(start_paused = true)]
async fn collection_counts_what_untagged_manifests_and_the_grace_period_hold() {
    let server = Server::new().await;
    let process = &server.process;
    process.image("app", Some("tagged"), b"shared").await;
    let untagged = process.image("app", None, b"only untagged").await;
    process.image("other", None, b"shared").await;
    process.blob("app", b"loose").await;
    let size = async |digest: &Digest| {
        server.objects.size(&TreeKey::Data(digest).key()).await.unwrap().unwrap()
    };
    let kept = process.registry.gc().untagged_in(&name("app")).await.unwrap();
    let expected = size(&untagged).await + b"only untagged".len() as u64;
    assert_eq!((kept.manifests, kept.bytes), (1, expected));

    let (collected, _) = process.collect_with(Untagged::Stay).await;
    // The manifest in `other` is the same as the tagged one, and shares all its bytes.
    assert_eq!((collected.untagged.manifests, collected.untagged.bytes), (2, expected));
    assert_eq!((collected.graced.links, collected.graced.bytes), (1, b"loose".len() as u64));
    let until = collected.graced.until.unwrap();
    let now = server.objects.time().await.unwrap();
    assert!(until > now + HOUR && until <= now + HOUR + HOUR / 4);

    let (collected, _) = process.collect_with(Untagged::Go).await;
    assert_eq!((collected.graced.manifests, collected.untagged.manifests), (2, 0));
    assert_eq!(collected.graced.bytes, expected + b"loose".len() as u64);
    server.objects.advance(2 * HOUR);
    let (collected, _) = process.collect_with(Untagged::Go).await;
    assert_eq!(collected.bytes, expected + b"loose".len() as u64, "and that is what goes");
}
