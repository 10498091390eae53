//! Limits: how large a manifest, how long a name and a tag may be.

use futures_util::stream;
use portcullis::oci::ErrorCode;

use crate::support::{
    Answered as _, TestServer,
    content::{OCI_INDEX, empty_index, trifle},
    digest, files,
};

const MOST: usize = 4 * 1024 * 1024;

/// A valid manifest of exactly this size.
fn sized(size: usize) -> String {
    let pad = "x".repeat(size - empty_index("").len());
    let manifest = empty_index(&pad);
    assert_eq!(manifest.len(), size);
    manifest
}

fn in_pieces(text: &str) -> reqwest::Body {
    let pieces: Vec<_> = text
        .as_bytes()
        .chunks(65_536)
        .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()))
        .collect();
    reqwest::Body::wrap_stream(stream::iter(pieces))
}

#[tokio::test]
async fn a_manifest_of_four_mebibytes_is_taken() {
    let server = TestServer::start().await;
    let body = sized(MOST);
    let answer = server.push_manifest("app", "declared", OCI_INDEX, body.clone()).await;
    answer.expect(201);
    server
        .request("PUT", "/v2/app/manifests/streamed")
        .header("content-type", OCI_INDEX)
        .body(in_pieces(&body))
        .answer()
        .await
        .expect(201);
    for tag in ["declared", "streamed"] {
        let answer = server.get(&format!("/v2/app/manifests/{tag}")).await.expect(200);
        assert!(answer.body == body.as_bytes());
        assert_eq!(answer.header("docker-content-digest"), digest(&body));
    }
}

#[tokio::test]
async fn a_manifest_over_four_mebibytes_is_refused_and_leaves_nothing() {
    let server = TestServer::start().await;
    let body = sized(MOST + 1);
    let answer = server.push_manifest("app", "declared", OCI_INDEX, body.clone()).await;
    answer.expect(413);
    let answer = server
        .request("PUT", "/v2/app/manifests/streamed")
        .header("content-type", OCI_INDEX)
        .body(in_pieces(&body))
        .answer()
        .await;
    answer.expect(413);
    assert!(files(&server.tree()).is_empty());
}

#[tokio::test]
async fn a_blob_may_be_larger_than_a_manifest() {
    let server = TestServer::start().await;
    let bytes = crate::support::noise(60, MOST + 1);
    let digest = server.push_blob("app", bytes.clone()).await;
    let answer = server.get(&format!("/v2/app/blobs/{digest}")).await.expect(200);
    assert!(answer.body == bytes);
}

#[tokio::test]
async fn names_of_the_grammar_are_taken() {
    let server = TestServer::start().await;
    let long = "x".repeat(200);
    let deep = vec!["d"; 60].join("/");
    for name in [
        "a",
        "0",
        "a.b",
        "a_b",
        "a__b",
        "a-b",
        "a---b",
        "a/b/c/d/e/f/g/h",
        "a.b_c__d-e/f",
        &long,
        &deep,
    ] {
        trifle(&server, name, "latest").await;
        server.get(&format!("/v2/{name}/manifests/latest")).await.expect(200);
    }
}

#[tokio::test]
async fn a_name_over_its_length_is_refused() {
    let server = TestServer::start().await;
    for name in ["x".repeat(256), ["x".repeat(127), "y".repeat(128)].join("/"), "x".repeat(5000)] {
        let target = format!("/v2/{name}/tags/list");
        server.get(&target).await.expect_error(400, ErrorCode::NameInvalid);
    }
}

#[tokio::test]
async fn tags_of_the_grammar_are_taken() {
    let server = TestServer::start().await;
    for tag in ["a", "A", "_", "0", "__..--", "1.0-rc.1_x", "latest", &"x".repeat(128)] {
        trifle(&server, "app", tag).await;
        server.get(&format!("/v2/app/manifests/{tag}")).await.expect(200);
    }
}

#[tokio::test]
async fn a_tag_over_its_length_is_refused() {
    let server = TestServer::start().await;
    let tag = "x".repeat(129);
    let answer = server.push_manifest("app", &tag, OCI_INDEX, empty_index("")).await;
    answer.expect_error(400, ErrorCode::TagInvalid);
    assert!(files(&server.tree()).is_empty());
}
