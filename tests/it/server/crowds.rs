//! Many concurrent clients of the same blob, tag or session, and pulls of content that others
//! delete.

use futures_util::future::join_all;
use portcullis::oci::ErrorCode;
use tokio::io::AsyncReadExt as _;

use crate::support::{
    Answered as _, TestServer,
    content::{OCI_INDEX, OCI_MANIFEST, closing, empty_index},
    digest, files, image, noise,
};

const CROWD: usize = 32;

/// A server at which the client has logged in, as real clients do before they send many requests at
/// once.
async fn acquainted() -> TestServer {
    let server = TestServer::start().await;
    server.get("/v2/").await.expect(200);
    server
}

/// The files of the tree outside upload sessions.
fn content(server: &TestServer) -> Vec<String> {
    files(&server.tree()).into_iter().filter(|file| !file.contains("/_uploads/")).collect()
}

#[tokio::test]
async fn concurrent_pushes_of_the_same_blob_all_succeed() {
    let server = acquainted().await;
    let bytes = noise(71, 300_000);
    let digest = digest(&bytes);
    let target = format!("/v2/app/blobs/uploads/?digest={digest}");
    let push = |_| server.request("POST", &target).body(bytes.clone()).answer();
    for answer in join_all((0..CROWD).map(push)).await {
        answer.expect(201);
    }
    assert!(server.get(&format!("/v2/app/blobs/{digest}")).await.expect(200).body == bytes);
    assert_eq!(content(&server).len(), files(&server.tree()).len(), "a session is left over");
}

#[tokio::test]
async fn many_concurrent_pushes_of_one_tag_leave_one_of_them() {
    let server = acquainted().await;
    let body = |nth: usize| empty_index(&format!("client {nth}"));
    let push = |nth| server.push_manifest("app", "latest", OCI_INDEX, body(nth));
    let pull = |_| server.get("/v2/app/manifests/latest");
    let (pushed, pulled) =
        tokio::join!(join_all((0..CROWD).map(push)), join_all((0..CROWD).map(pull)));
    for answer in pushed {
        answer.expect(201);
    }
    let all: Vec<_> = (0..CROWD).map(body).collect();
    for answer in pulled.into_iter().filter(|answer| answer.status != 404) {
        assert!(all.contains(&answer.expect(200).text()));
    }
    let last = server.get("/v2/app/manifests/latest").await.expect(200);
    assert!(all.contains(&last.text()));
    assert_eq!(last.header("docker-content-digest"), digest(&last.body));
    for manifest in &all {
        server.get(&format!("/v2/app/manifests/{}", digest(manifest))).await.expect(200);
    }
}

#[tokio::test]
async fn session_with_many_writers_lets_one_succeed() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    let chunk = |nth: usize| noise(nth as u64 + 1000, 50_000);
    let write = |nth| server.patch(&location, Some("0-49999"), chunk(nth));
    let answers = join_all((0..CROWD).map(write)).await;
    let won: Vec<usize> = (0..CROWD).filter(|nth| answers[*nth].status == 202).collect();
    assert_eq!(won.len(), 1, "{won:?}");
    for answer in answers.iter().filter(|answer| answer.status != 202) {
        assert!(matches!(answer.status.as_u16(), 409 | 416), "{answer:?}");
        assert!(answer.json()["errors"][0]["code"].is_string());
    }
    assert_eq!(server.get(&location).await.expect(204).header("range"), "0-49999");
    let digest = digest(chunk(won[0]));
    let close = closing(&location, &digest);
    let closed = join_all((0..CROWD).map(|_| server.put(&close, ""))).await;
    assert_eq!(closed.iter().filter(|answer| answer.status == 201).count(), 1, "{closed:?}");
    assert!(closed.iter().all(|answer| matches!(answer.status.as_u16(), 201 | 404 | 409 | 416)));
    let pulled = server.get(&format!("/v2/app/blobs/{digest}")).await.expect(200);
    assert!(pulled.body == chunk(won[0]));
}

#[tokio::test]
async fn session_is_either_finished_or_cancelled_by_concurrent_requests() {
    let server = TestServer::start().await;
    for nth in 0..8 {
        let bytes = format!("content {nth}");
        let location = server.open_upload("app").await;
        server.patch(&location, None, bytes.clone()).await.expect(202);
        let close = closing(&location, &digest(&bytes));
        let (closed, cancelled) = tokio::join!(server.put(&close, ""), server.delete(&location));
        let blob = server.get(&format!("/v2/app/blobs/{}", digest(&bytes))).await;
        match (closed.status.as_u16(), cancelled.status.as_u16()) {
            (201, 404 | 409) => assert_eq!(blob.expect(200).text(), bytes),
            (404 | 409, 204) => drop(blob.expect(404)),
            both => panic!("{both:?}"),
        }
        server.get(&location).await.expect_error(404, ErrorCode::BlobUploadUnknown);
    }
}

#[tokio::test]
async fn blob_deleted_during_a_pull_arrives_whole() {
    let server = TestServer::start().await;
    let bytes = noise(72, 16 << 20);
    let digest = server.push_blob("app", bytes.clone()).await;
    let target = format!("/v2/app/blobs/{digest}");
    let mut stream = server.begin(&format!("GET {target}\r\nconnection: close\r\n")).await;
    let mut begun = vec![0; 1000];
    stream.read_exact(&mut begun).await.unwrap();
    server.delete(&target).await.expect(202);
    server.get(&target).await.expect_error(404, ErrorCode::BlobUnknown);
    stream.read_to_end(&mut begun).await.unwrap();
    assert!(begun.starts_with(b"HTTP/1.1 200"));
    assert!(begun.ends_with(&bytes), "the body is not what the digest says");
}

#[tokio::test]
async fn manifest_deleted_and_pushed_during_pulls_is_whole_or_absent() {
    let server = TestServer::start().await;
    let image = image(&server, "app", "latest").await;
    let target = format!("/v2/app/manifests/{}", image.digest);
    let changing = async {
        for _ in 0..20 {
            server.delete(&target).await.expect(202);
            let put = server.push_manifest("app", "latest", OCI_MANIFEST, image.manifest.clone());
            put.await.expect(201);
        }
    };
    let pulling = async {
        for nth in 0..100 {
            let target = if nth % 2 == 0 { &target } else { "/v2/app/manifests/latest" };
            let answer = server.get(target).await;
            match answer.status.as_u16() {
                200 => assert_eq!(answer.text(), image.manifest),
                _ => drop(answer.expect_error(404, ErrorCode::ManifestUnknown)),
            }
        }
    };
    tokio::join!(changing, pulling);
    server.get("/v2/app/manifests/latest").await.expect(200);
}
