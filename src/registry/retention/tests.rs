use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicUsize},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use super::{run::BATCH, *};
use crate::{
    oci::{Algorithm, Digest, Reference, Tag},
    registry::{Caller, Clock, ExistingTags, Options, Put, Registry, TagRules, tree::TreeKey},
    storage::{Durability, Storage as _, memory::Memory},
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A clock that tests advance, in seconds.
#[derive(Clone, Debug, Default)]
struct TestClock(Arc<AtomicI64>);

impl Clock for TestClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

/// A registry in memory with retention rules and a clock that tests advance.
struct Site {
    memory: Memory,
    clock: TestClock,
    registry: Registry,
    rules: Vec<RetentionRule>,
}

fn options(rules: &Value) -> Result<RetentionOptions, serde_json::Error> {
    serde_json::from_value(json!({ "rules": rules }))
}

fn seconds(time: Duration) -> Value {
    json!({ "secs": time.as_secs(), "nanos": 0 })
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// A manifest without references, with content of its own for each seed.
fn manifest(seed: &str) -> Bytes {
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
        "annotations": { "seed": seed },
    });
    index.to_string().into()
}

fn digest(seed: &str) -> Digest {
    Digest::of(Algorithm::Sha256, &manifest(seed))
}

impl Site {
    fn new(rules: &Value) -> Self {
        let memory = Memory::default();
        let clock = TestClock::default();
        let retention = options(rules).unwrap();
        let rules = retention.rules.clone();
        let tags = TagRules { retention, ..TagRules::default() };
        let options = Options { tags, ..Options::default() };
        let storage = Arc::new(memory.clone());
        let registry = Registry::new(storage, Arc::new(clock.clone()), options);
        Self { memory, clock, registry, rules }
    }

    async fn push(&self, repository: &str, at: &str, seed: &str) {
        let reference = Reference::Tag(tag(at));
        let put = Put {
            reference,
            tags: vec![],
            content_type: None,
            bytes: manifest(seed),
            existing_tags: ExistingTags::Move,
        };
        self.registry.manifests().put(&Caller::default(), &name(repository), put).await.unwrap();
    }

    /// Pushes tags, each with content of its own, and advances the clock by an hour after each.
    async fn push_hourly(&self, repository: &str, tags: &[&str]) {
        for tag in tags {
            self.push(repository, tag, tag).await;
            self.advance(HOUR);
        }
    }

    fn advance(&self, time: Duration) {
        self.memory.advance(time);
        self.clock.0.fetch_add(i64::try_from(time.as_secs()).unwrap(), Ordering::Relaxed);
    }

    async fn pull(&self, repository: &str, seed: &str) {
        self.registry.manifests().record_pull(
            &name(repository),
            &digest(seed),
            crate::registry::Access::Get,
        );
        self.registry.settle().await;
    }

    async fn pulled(&self, repository: &str, seed: &str) -> Option<SystemTime> {
        let name = name(repository);
        self.memory.modified(&TreeKey::Pulled(&name, &digest(seed)).key()).await.unwrap()
    }

    /// Applies the rules. Returns a line for each deleted tag, and the number of tags under a rule.
    async fn retain(&self, dry_run: bool) -> (Vec<String>, u64) {
        let deleted = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&deleted);
        let watcher = move |decision: &Decision<'_>| {
            let expired = decision.outcome.as_ref().unwrap();
            let line = format!("{}:{}: {expired}", decision.repository, expired.tag);
            lines.lock().unwrap().push(line);
            ControlFlow::Continue(())
        };
        let retained =
            self.registry.retention().apply(&self.rules, dry_run, watcher).await.unwrap();
        let deleted = std::mem::take(&mut *deleted.lock().unwrap());
        assert_eq!(retained.deleted, deleted.len() as u64);
        (deleted, retained.found)
    }

    async fn tags(&self, repository: &str) -> Vec<String> {
        let tags =
            self.registry.lists().tags(&name(repository), None, 1000).await.unwrap().unwrap();
        tags.items.iter().map(ToString::to_string).collect()
    }
}

#[tokio::test]
async fn latest_tags_are_kept_and_the_others_deleted_with_a_reason() {
    let site = Site::new(&json!([{ "repositories": "ci/**", "tags": "^pr-", "keeplatest": 2 }]));
    site.push_hourly("ci/app", &["pr-9", "pr-1", "pr-5", "latest", "pr-2"]).await;
    site.push_hourly("app", &["pr-1", "pr-2", "pr-3"]).await;
    // Pushed again, `pr-9` is the latest.
    site.push("ci/app", "pr-9", "pr-9").await;
    let expected = ["pr-5", "pr-1"].map(|tag| format!("ci/app:{tag}: not among the 2 latest, "));
    let (deleted, found) = site.retain(true).await;
    assert_eq!(found, 4);
    assert!(
        deleted.iter().zip(&expected).all(|(deleted, words)| deleted.starts_with(words)),
        "{deleted:?}"
    );
    assert_eq!(deleted[0], "ci/app:pr-5: not among the 2 latest, pushed 6 hours ago");
    assert_eq!(site.tags("ci/app").await.len(), 5, "a dry run deletes nothing");
    assert_eq!(site.retain(false).await, (deleted, found));
    assert_eq!(site.tags("ci/app").await, ["latest", "pr-2", "pr-9"]);
    assert_eq!(site.tags("app").await.len(), 3);
    let deleted = Reference::Digest(digest("pr-5"));
    let manifest = site.registry.manifests().get(&name("ci/app"), &deleted).await.unwrap();
    assert!(manifest.is_none(), "the manifest is deleted with its last tag");
    assert_eq!(site.retain(false).await, (vec![], 2));
}

#[tokio::test]
async fn tag_is_kept_by_any_condition() {
    let site = Site::new(&json!([{ "keeplatest": 1, "keeppushedwithin": seconds(10 * DAY) }]));
    site.push_hourly("app", &["a", "b", "c"]).await;
    assert_eq!(site.retain(false).await.0, [""; 0]);
    site.advance(10 * DAY - 2 * HOUR - HOUR / 2);
    assert_eq!(
        site.retain(false).await.0,
        ["app:a: not among the 1 latest, pushed 10 days ago"],
        "the others were pushed later"
    );
    site.advance(100 * DAY);
    assert_eq!(site.retain(false).await.0.len(), 1);
    assert_eq!(site.tags("app").await, ["c"]);
}

#[tokio::test]
async fn tag_is_decided_by_the_first_matching_rule_and_kept_without_one() {
    let site = Site::new(&json!([
        { "tags": "^v1", "keeplatest": 9 },
        { "repositories": "team/*", "tags": "^v", "keeppushedwithin": seconds(DAY) },
    ]));
    site.push_hourly("team/app", &["v1", "v2", "latest"]).await;
    site.push_hourly("app", &["v1", "v2"]).await;
    site.advance(3 * DAY);
    assert_eq!(site.retain(false).await, (vec!["team/app:v2: pushed 3 days ago".into()], 3));
}

#[tokio::test]
async fn pulled_tags_are_kept_and_those_without_a_pull_age_from_their_push() {
    let site = Site::new(&json!([{ "keeppulledwithin": seconds(7 * DAY) }]));
    site.push("app", "pulled", "one").await;
    site.push("app", "same", "one").await;
    site.push("app", "other", "two").await;
    site.advance(6 * DAY);
    site.pull("app", "one").await;
    assert_eq!(site.retain(false).await, (vec![], 3));
    site.advance(2 * DAY);
    let (deleted, _) = site.retain(false).await;
    assert_eq!(deleted, ["app:other: pushed 8 days ago, not pulled since"]);
    // A push after the pull keeps the tag as well.
    site.push("app", "same", "one").await;
    site.advance(6 * DAY);
    let (deleted, _) = site.retain(false).await;
    assert_eq!(deleted, ["app:pulled: pushed 14 days ago, pulled 8 days ago"]);
    site.advance(2 * DAY);
    let (deleted, _) = site.retain(false).await;
    assert_eq!(deleted, ["app:same: pushed 8 days ago, not pulled since"]);
}

#[tokio::test]
async fn pulls_are_recorded_once_an_hour_and_only_where_a_rule_needs_them() {
    let site = Site::new(&json!([{ "keeppulledwithin": seconds(DAY) }]));
    site.push("app", "v1", "one").await;
    assert_eq!(site.pulled("app", "one").await, None);
    site.pull("app", "one").await;
    let first = site.pulled("app", "one").await.unwrap();
    site.advance(HOUR - Duration::from_secs(1));
    site.pull("app", "one").await;
    assert_eq!(site.pulled("app", "one").await, Some(first));
    site.advance(Duration::from_secs(1));
    site.pull("app", "one").await;
    assert!(site.pulled("app", "one").await.unwrap() > first + HOUR / 2);

    let site = Site::new(&json!([{ "keeppushedwithin": seconds(DAY) }]));
    site.push("app", "v1", "one").await;
    site.pull("app", "one").await;
    assert_eq!(site.pulled("app", "one").await, None);
}

#[tokio::test]
async fn pull_record_is_deleted_with_its_manifest_and_not_written_without_it() {
    let site = Site::new(&json!([{ "keeppulledwithin": seconds(DAY) }]));
    site.push("app", "v1", "one").await;
    site.pull("app", "one").await;
    assert!(
        site.registry
            .manifests()
            .delete(&Caller::default(), &name("app"), &digest("one"))
            .await
            .unwrap()
    );
    assert_eq!(site.pulled("app", "one").await, None);
    site.advance(2 * HOUR);
    site.pull("app", "one").await;
    assert_eq!(site.pulled("app", "one").await, None);
}

/// Pushes two batches of tags that retention deletes, and one more that it keeps. Returns them oldest
/// first.
async fn push_two_batches(site: &Site) -> Vec<String> {
    let tags: Vec<String> = (0..=2 * BATCH).map(|n| format!("t{n:03}")).collect();
    for tag in &tags {
        site.push("app", tag, tag).await;
    }
    site.advance(2 * DAY);
    let (deleted, _) = site.retain(true).await;
    assert_eq!(deleted.len(), 2 * BATCH);
    tags
}

/// A watcher that calls `act` when the first tag has been deleted.
fn once(
    act: impl Fn() + Send + Sync + 'static,
) -> impl Fn(&Decision<'_>) -> ControlFlow<()> + Send + Sync + 'static {
    let begun = AtomicBool::new(false);
    move |_| {
        if !begun.swap(true, Ordering::Relaxed) {
            act();
        }
        ControlFlow::Continue(())
    }
}

#[tokio::test]
async fn tags_pushed_pulled_or_latest_again_during_a_run_are_kept() {
    let rule = json!({ "keeplatest": 1, "keeppushedwithin": seconds(DAY) });
    let site = Site::new(&json!([rule]));
    let tags = push_two_batches(&site).await;
    let latest = tag(&tags[2 * BATCH]);
    let pushed_again = tag(&tags[0]);
    let pulled = tag(&tags[1]);
    let app = name("app");
    let key = TreeKey::TagCurrent(&app, &pushed_again).key();
    let link = Bytes::from(digest(pushed_again.as_str()).to_string());
    let memory = site.memory.clone();
    let watcher = once(move || {
        memory.put(&key, link.clone(), Durability::Lazy).now_or_never().unwrap().unwrap();
    });
    let retained = site.registry.retention().apply(&site.rules, false, watcher).await.unwrap();
    assert_eq!(retained.deleted, 2 * BATCH as u64 - 1);
    assert_eq!(site.tags("app").await, [pushed_again.to_string(), latest.to_string()]);

    // After the deletion of the latest tag, another tag is the latest.
    let site = Site::new(&json!([{ "keeplatest": 1 }]));
    push_two_batches(&site).await;
    let key = TreeKey::TagCurrent(&app, &latest).key();
    let memory = site.memory.clone();
    let watcher = once(move || assert!(memory.delete(&key).now_or_never().unwrap().unwrap()));
    let retained = site.registry.retention().apply(&site.rules, false, watcher).await.unwrap();
    assert_eq!(retained.deleted, 2 * BATCH as u64 - 1);
    assert_eq!(site.tags("app").await, [tags[BATCH - 1].clone()]);

    let site = Site::new(&json!([{ "keeplatest": 1, "keeppulledwithin": seconds(DAY) }]));
    push_two_batches(&site).await;
    let key = TreeKey::Pulled(&app, &digest(pulled.as_str())).key();
    let memory = site.memory.clone();
    let watcher = once(move || {
        memory.put(&key, Bytes::new(), Durability::Lazy).now_or_never().unwrap().unwrap();
    });
    site.registry.retention().apply(&site.rules, false, watcher).await.unwrap();
    assert_eq!(site.tags("app").await, [pulled.to_string(), latest.to_string()]);
}

#[tokio::test]
async fn run_ends_when_its_watcher_breaks() {
    let site = Site::new(&json!([{ "keeplatest": 1 }]));
    push_two_batches(&site).await;
    let deleted = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&deleted);
    let watcher = move |_: &Decision<'_>| {
        counted.fetch_add(1, Ordering::Relaxed);
        ControlFlow::Break(())
    };
    let retained = site.registry.retention().apply(&site.rules, false, watcher).await.unwrap();
    let deleted = deleted.load(Ordering::Relaxed);
    assert_eq!(
        (deleted, retained.deleted),
        (BATCH, BATCH as u64),
        "the watcher sees each deleted tag"
    );
    assert_eq!(site.tags("app").await.len(), BATCH + 1);
}

/// A server that stops drops the run at any await. Each deleted tag must have its line in the log, and
/// its manifest must not stay untagged.
#[tokio::test]
async fn dropped_run_finishes_the_batch_that_it_has_begun() {
    let site = Site::new(&json!([{ "keeplatest": 1 }]));
    site.push_hourly("app", &["v1", "v2"]).await;
    let deleted = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&deleted);
    let watcher = move |_: &Decision<'_>| {
        counted.fetch_add(1, Ordering::Relaxed);
        ControlFlow::Continue(())
    };
    // The closed repository keeps the batch from finishing before the run is dropped.
    let held = site.registry.tree().closing(&name("app")).await.unwrap();
    let mut run = Box::pin(site.registry.retention().apply(&site.rules, false, watcher));
    assert!((&mut run).now_or_never().is_none(), "the run waits for the repository");
    drop(run);
    held.open().await.unwrap();
    site.registry.settle().await;
    assert_eq!(deleted.load(Ordering::Relaxed), 1);
    assert_eq!(site.tags("app").await, ["v2"]);
    let released = Reference::Digest(digest("v1"));
    assert!(site.registry.manifests().get(&name("app"), &released).await.unwrap().is_none());
}

#[test]
fn rule_without_a_keep_condition_is_refused() {
    for rule in [
        json!({}),
        json!({ "repositories": "ci/**", "tags": "^pr-" }),
        json!({ "keeplatest": 0, "keeppushedwithin": seconds(Duration::ZERO) }),
        json!({ "keeppulledwithin": seconds(Duration::ZERO) }),
    ] {
        let error = options(&json!([rule])).unwrap_err().to_string();
        assert!(error.contains("would delete every tag"), "{error}");
    }
}
