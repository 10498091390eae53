//! Excessive content: nested too deep, too many descriptors, too many tags, a loop.

use std::fmt::Write as _;

use portcullis::oci::ErrorCode;
use serde_json::json;

use crate::support::{
    Answered as _, TestServer,
    content::{OCI_INDEX, OCI_MANIFEST, descriptor, empty_index},
    digest, files,
    process::Before,
    raw,
};

#[tokio::test]
async fn deeply_nested_manifest_is_refused() {
    let server = TestServer::start().await;
    let deep = |open: &str, close: &str| open.repeat(500_000) + &close.repeat(500_000);
    let (list, object) = (deep("[", "]"), deep("{\"a\":", "}").replace(":}", ":0}"));
    for nested in [&list, &object, &"[".repeat(4_000_000)] {
        let index = empty_index("x")
            .replace("\"annotations\":", &format!("\"x\":{nested},\"annotations\":"));
        for (kind, body) in [(OCI_INDEX, index), (OCI_MANIFEST, nested.clone())] {
            let answer = server.push_manifest("app", "latest", kind, body).await;
            // Valid JSON below an unknown key may be accepted.
            assert!(matches!(answer.status.as_u16(), 201 | 400 | 413), "{answer:?}");
        }
    }
    server.get("/v2/").await.expect(200);
}

/// An image of this many missing layers.
fn layers(count: usize) -> String {
    let blob = |nth: usize| json!({ "digest": digest(nth.to_string()), "size": 1 });
    let layers: Vec<_> = (0..count).map(blob).collect();
    let config = descriptor("application/json", "");
    json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers })
        .to_string()
}

#[tokio::test]
async fn manifest_of_a_hundred_thousand_descriptors_is_refused() {
    let before = Before::start().await;
    for count in [100_000, 10_000] {
        let request = before.server.request("PUT", "/v2/app/manifests/latest");
        let request = request.header("content-type", OCI_MANIFEST).body(layers(count));
        // A manifest that is too long may be refused while the client still sends it.
        if let Ok(answer) = request.send().await {
            assert!(matches!(answer.status().as_u16(), 400 | 413), "{count}: {answer:?}");
        }
    }
    before.is_back().await;
}

/// A tree can contain what the API refuses: a digest that is its own child, its own subject.
#[tokio::test]
async fn manifest_that_references_itself_causes_no_loop() {
    let server = TestServer::start().await;
    let body = empty_index("x");
    server.push_manifest("app", "latest", OCI_INDEX, body.clone()).await.expect(201);
    let own = digest(&body);
    let hex = own.strip_prefix("sha256:").unwrap();
    let descriptor = json!({ "mediaType": OCI_INDEX, "digest": own, "size": 1 });
    let looped = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [descriptor], "subject": descriptor,
    });
    let data = server.tree().join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]));
    std::fs::write(&data, looped.to_string()).unwrap();
    let referrers = server.tree().join("repositories/app/_referrers");
    let _ = std::fs::remove_dir_all(referrers);
    let server = server.restart().await;
    for target in [
        "/v2/app/manifests/latest".to_owned(),
        format!("/v2/app/manifests/{own}"),
        format!("/v2/app/referrers/{own}"),
        "/v2/app/tags/list".to_owned(),
        "/v2/_catalog".to_owned(),
    ] {
        server.get(&target).await.expect(200);
    }
    server.push_manifest("app", "two", OCI_INDEX, looped.to_string()).await.expect(201);
    server.delete(&format!("/v2/app/manifests/{own}")).await.expect(202);
    server.get("/v2/app/manifests/latest").await.expect_error(404, ErrorCode::ManifestUnknown);
}

#[tokio::test]
async fn million_tags_at_once_are_refused() {
    let server = TestServer::start().await;
    let body = empty_index("x");
    let mut target = format!("/v2/app/manifests/{}?", digest(&body));
    for nth in 0..1_000_000 {
        write!(target, "tag=t{nth}&").unwrap();
    }
    let length = body.len();
    let head = format!("PUT {target}\r\ncontent-type: {OCI_INDEX}\r\ncontent-length: {length}\r\n");
    let answer = raw::exchange(server.begin(&head).await, body.as_bytes()).await;
    let status = raw::status(&answer);
    assert!(status.is_none_or(|status| matches!(status, 400 | 413 | 414 | 431)), "{answer}");
    assert!(files(&server.tree()).is_empty());
    server.get("/v2/").await.expect(200);
}

/// Reading the largest manifest must not cost forty times its length in memory.
#[tokio::test]
async fn manifest_of_very_many_descriptors_is_refused_with_little_memory() {
    let before = Before::start().await;
    let request = before.server.request("PUT", "/v2/app/manifests/latest");
    let request = request.header("content-type", OCI_MANIFEST).body(layers(35_000));
    request.answer().await.expect(400);
    before.is_back().await;
}

/// Each tag is two files to sync and a header of the answer: there must be a limit far below what
/// fits into a head, or the answer has more headers than clients read (100, mostly).
#[tokio::test]
async fn thousands_of_tags_at_once_are_refused() {
    let server = TestServer::start().await;
    let body = empty_index("x");
    let mut target = format!("/v2/app/manifests/{}?", digest(&body));
    for nth in 0..2_000 {
        write!(target, "tag=t{nth}&").unwrap();
    }
    let length = body.len();
    let head = format!(
        "PUT {target}\r\nconnection: close\r\n\
         content-type: {OCI_INDEX}\r\ncontent-length: {length}\r\n"
    );
    let answer = raw::exchange(server.begin(&head).await, body.as_bytes()).await;
    let headers = answer.split("\r\n\r\n").next().unwrap().lines().count();
    assert!(headers < 100, "{headers} headers");
    assert!(matches!(raw::status(&answer), Some(400 | 413 | 414)), "{answer}");
    assert!(files(&server.tree()).is_empty());
}
