//! `storage.retention`: deletion of tags by rules, and pulls that keep tags.

use std::{os::unix::fs::symlink, path::PathBuf, process::Command, time::Duration};

use portcullis::{config::Config, registry::RetentionOptions};
use serde_json::{Value, json};

use crate::support::{
    Answered as _, TestServer,
    content::{OCI_INDEX, empty_index, trifle},
    digest,
    process::Process,
    raw::GUARD,
};

const DAY: &str = "24h";

/// A server that applies retention at this interval.
async fn server(interval: Duration, rule: Value) -> TestServer {
    let change = |config: &mut Config| {
        let rules = json!({ "rules": [rule] });
        let options: RetentionOptions = serde_json::from_value(rules).unwrap();
        config.storage.tags.retention = RetentionOptions { interval, ..options };
    };
    TestServer::with(change).await
}

async fn tags(server: &TestServer, name: &str) -> Value {
    server.get(&format!("/v2/{name}/tags/list")).await.expect(200).json()["tags"].clone()
}

/// Waits until a repository has these tags.
async fn has_come_to(server: &TestServer, name: &str, expected: Value) {
    let coming = async {
        while tags(server, name).await != expected {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(GUARD, coming).await.is_ok(), "{}", tags(server, name).await);
}

#[tokio::test]
async fn tags_that_no_rule_keeps_are_deleted_but_not_while_the_registry_is_read_only() {
    let second = Duration::from_secs(1);
    let server = server(2 * second, json!({ "repositories": "ci/*", "keeplatest": 1 })).await;
    let mut config = server.config().clone();
    config.storage.maintenance.readonly.enabled = true;
    for name in ["ci/app", "app"] {
        trifle(&server, name, "v1").await;
        trifle(&server, name, "v2").await;
    }
    server.app().apply(&config).await;
    // Long enough for a run of retention.
    tokio::time::sleep(3 * second).await;
    assert_eq!(tags(&server, "ci/app").await, json!(["v1", "v2"]));
    config.storage.maintenance.readonly.enabled = false;
    server.app().apply(&config).await;
    has_come_to(&server, "ci/app", json!(["v2"])).await;
    assert_eq!(tags(&server, "app").await, json!(["v1", "v2"]));
    let digest = digest(empty_index("ci/app:v1"));
    // Its manifest is deleted after it.
    let target = format!("/v2/ci/app/manifests/{digest}");
    while server.get(&target).await.status != 404 {
        tokio::time::sleep(second / 20).await;
    }
}

/// The file that records a pull of a manifest.
fn record(tree: PathBuf, name: &str, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").unwrap();
    let revisions = tree.join(format!("repositories/{name}/_manifests/revisions/sha256"));
    revisions.join(hex).join("portcullis-pulled")
}

#[tokio::test]
async fn get_of_a_manifest_is_recorded_and_a_head_is_not() {
    let hour = Duration::from_secs(3600);
    let server = server(hour, json!({ "keeppulledwithin": { "secs": 60, "nanos": 0 } })).await;
    let (one, two) = (trifle(&server, "app", "one").await, trifle(&server, "app", "two").await);
    server.head("/v2/app/manifests/one").await.expect(200);
    server.head(&format!("/v2/app/manifests/{one}")).await.expect(200);
    server.get("/v2/app/manifests/two").await.expect(200);
    let server = server.restart().await;
    let recorded = |digest: &str| record(server.tree(), "app", digest).exists();
    assert!(recorded(&two) && !recorded(&one));
    server.get(&format!("/v2/app/manifests/{one}")).await.expect(200);
    let folder = server.stop().await;
    let tree = folder.path().join("data/docker/registry/v2");
    assert!(record(tree.clone(), "app", &one).exists());
    let record = std::fs::read(record(tree, "app", &two)).unwrap();
    assert_eq!(record, b"", "its time is all it has");
    let verify = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .env_clear()
        .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", folder.path().join("data"))
        .arg("verify")
        .output()
        .unwrap();
    assert!(verify.status.success() && verify.stdout.is_empty(), "{verify:?}");
}

#[tokio::test]
async fn pulls_are_not_recorded_without_a_rule_that_needs_them() {
    let server = server(Duration::from_secs(3600), json!({ "keeplatest": 7 })).await;
    let digest = trifle(&server, "app", "one").await;
    server.get("/v2/app/manifests/one").await.expect(200);
    let server = server.restart().await;
    assert!(!record(server.tree(), "app", &digest).exists());
}

#[tokio::test]
async fn pull_that_cannot_be_recorded_is_served_and_logged_once() {
    let server = Process::start(&[
        ("REGISTRY_STORAGE_RETENTION_RULES_0_TAGS", "^v"),
        ("REGISTRY_STORAGE_RETENTION_RULES_0_KEEPPULLEDWITHIN", DAY),
    ]);
    for n in 0..4 {
        let (tag, index) = (format!("v{n}"), empty_index(&n.to_string()));
        let target = format!("/v2/app/manifests/{tag}");
        let request = server.request("PUT", &target).header("content-type", OCI_INDEX);
        request.body(index.clone()).answer().await.expect(201);
        // A write through the link fails.
        symlink("portcullis-pulled", record(server.tree(), "app", &digest(&index))).unwrap();
        server.request("GET", &target).answer().await.expect(200);
    }
    let log = server.end().await;
    assert_eq!(log.matches("a pull could not be recorded").count(), 1, "{log}");
}

#[tokio::test]
async fn deleted_tags_are_logged_with_the_reason_and_their_digest() {
    let server = Process::start(&[
        ("REGISTRY_STORAGE_RETENTION_INTERVAL", "1s"),
        ("REGISTRY_STORAGE_RETENTION_RULES_0_KEEPLATEST", "1"),
    ]);
    for tag in ["v1", "v2"] {
        let request = server.request("PUT", &format!("/v2/app/manifests/{tag}"));
        let request = request.header("content-type", OCI_INDEX);
        request.body(empty_index(tag)).answer().await.expect(201);
    }
    let going = async {
        while server.request("GET", "/v2/app/manifests/v1").answer().await.status == 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // A server that stops drops a run before it logs the result.
        while !server.log_so_far().contains("applied retention rules") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(GUARD, going).await.unwrap();
    server.request("GET", "/v2/app/manifests/v2").answer().await.expect(200);
    let log = server.end().await;
    let line = log.lines().find(|line| line.contains("deleted a tag")).unwrap();
    for said in ["app", "v1", "not among the 1 latest, pushed just now", &digest(empty_index("v1"))]
    {
        assert!(line.contains(said), "{line}");
    }
    assert!(log.contains("applied retention rules"), "{log}");
}
