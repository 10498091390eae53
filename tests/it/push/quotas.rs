//! `access.quotas`: how many bytes a repository may hold.

use std::time::Duration;

use futures_util::stream;
use portcullis::{config::Config, oci::ErrorCode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    Answer, Answered as _, TestServer,
    content::{OCI_INDEX, closing, empty_index, trifle},
    digest, files, image, noise,
    raw::{GUARD, Stream},
};

/// More than half of the quota of `team/app`.
const SOME: usize = 600_000;

fn quota(config: &mut Config, bytes: &str) {
    let quotas = json!([{ "repositories": ["team/**"], "bytes": bytes }]);
    config.quotas = serde_json::from_value(quotas).unwrap();
}

async fn limited() -> TestServer {
    TestServer::with(|config| quota(config, "1MB")).await
}

async fn begin(server: &TestServer) -> String {
    let begun = server.post("/v2/team/app/blobs/uploads/").await.expect(202);
    begun.header("location").to_owned()
}

/// Pushes a blob in one request.
async fn push(server: &TestServer, name: &str, bytes: &[u8]) -> Answer {
    let target = format!("/v2/{name}/blobs/uploads/?digest={}", digest(bytes));
    server.request("POST", &target).body(bytes.to_vec()).answer().await
}

/// The files of uploads.
fn uploads(server: &TestServer) -> Vec<String> {
    files(&server.tree()).into_iter().filter(|file| file.contains("_uploads")).collect()
}

#[track_caller]
fn assert_refused(answer: Answer, message: &str) {
    let answer = answer.expect_error(413, ErrorCode::Denied);
    assert_eq!(answer.json()["errors"][0]["message"], message);
}

/// Reads until the response ends with these bytes.
async fn read_to(stream: &mut Stream, end: &str) -> String {
    let reading = async {
        let mut response = Vec::new();
        while !response.ends_with(end.as_bytes()) {
            response.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(response).unwrap()
    };
    tokio::time::timeout(GUARD, reading).await.unwrap()
}

/// Begins a blob in one request; returns when the server has reserved room for it and reads the body.
async fn push_slowly(server: &TestServer, bytes: &[u8]) -> Stream {
    let digest = digest(bytes);
    let length = bytes.len();
    let head = format!(
        "POST /v2/team/app/blobs/uploads/?digest={digest}\r\ncontent-length: {length}\r\nexpect: \
         100-continue\r\n"
    );
    let mut stream = server.begin(&head).await;
    read_to(&mut stream, "100 Continue\r\n\r\n").await;
    stream
}

/// Repeats a push until it succeeds.
async fn push_until_there_is_room(server: &TestServer, bytes: &[u8]) {
    let pushing = async {
        while push(server, "team/app", bytes).await.status != 201 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(GUARD, pushing).await.unwrap();
}

#[tokio::test]
async fn blob_over_the_quota_is_refused_before_its_first_byte() {
    let server = limited().await;
    push(&server, "team/app", &noise(1, SOME)).await.expect(201);
    let digest = digest("any");
    for method in ["POST", "PATCH", "PUT"] {
        let location = match method {
            "POST" => format!("/v2/team/app/blobs/uploads/?digest={digest}"),
            _ => begin(&server).await,
        };
        let target = match method {
            "PUT" => closing(&location, &digest),
            _ => location.clone(),
        };
        let path = target.strip_prefix(&server.base).unwrap_or(&target);
        let head = format!("{method} {path}\r\ncontent-length: 500000\r\n");
        let response = read_to(&mut server.begin(&head).await, "}]}\n").await;
        assert!(response.starts_with("HTTP/1.1 413 "), "{method}: {response}");
        let message = "team/app may hold 1 MB: 600 kB are used, this blob has 500 kB";
        assert!(response.contains(message), "{method}: {response}");
        assert!(response.contains(r#""code":"DENIED""#), "{method}: {response}");
        assert_eq!(uploads(&server), [""; 0]);
    }
    push(&server, "team/app", &noise(2, 400_000)).await.expect(201);
    // The quota is that of each repository.
    push(&server, "team/other", &noise(1, SOME)).await.expect(201);
    push(&server, "unlimited", &noise(3, 2 * SOME)).await.expect(201);
}

#[tokio::test]
async fn blob_of_unknown_length_is_refused_when_it_passes_the_quota() {
    let server = limited().await;
    push(&server, "team/app", &noise(1, SOME)).await.expect(201);
    let bytes = noise(2, 2 * SOME);
    let streamed = || {
        let pieces = bytes.chunks(65_536).map(|piece| Ok::<_, std::io::Error>(piece.to_vec()));
        reqwest::Body::wrap_stream(stream::iter(pieces.collect::<Vec<_>>()))
    };
    let message = "team/app may hold 1 MB: 600 kB are used, and this blob needs more than is left";
    let location = begin(&server).await;
    assert_refused(server.patch(&location, None, streamed()).await, message);
    let location = begin(&server).await;
    assert_refused(server.put(&closing(&location, &digest(&bytes)), streamed()).await, message);
    assert_eq!(uploads(&server), [""; 0]);
}

#[tokio::test]
async fn chunks_count_together() {
    let server = limited().await;
    let location = begin(&server).await;
    let bytes = noise(1, 2 * SOME);
    let first = server.patch(&location, None, bytes[..SOME].to_vec()).await.expect(202);
    let location = first.header("location").to_owned();
    let answer = server.patch(&location, None, bytes[SOME..].to_vec()).await;
    assert_refused(answer, "team/app may hold 1 MB: 0 B are used, this blob has 1.2 MB");
    server.get(&location).await.expect_error(404, ErrorCode::BlobUploadUnknown);
    assert_eq!(uploads(&server), [""; 0]);
}

#[tokio::test]
async fn blob_that_the_repository_holds_costs_nothing() {
    let server = limited().await;
    let bytes = noise(1, SOME);
    let digest = digest(&bytes);
    for _ in 0..3 {
        push(&server, "team/app", &bytes).await.expect(201);
    }
    let target = format!("/v2/team/app/blobs/uploads/?mount={digest}&from=team/app");
    server.post(&target).await.expect(201);
    push(&server, "team/app", &noise(2, 400_000)).await.expect(201);
}

#[tokio::test]
async fn mounted_blobs_count() {
    let server = limited().await;
    let shared = noise(1, SOME);
    let shared = server.push_blob("base", shared).await;
    let own = server.push_blob("team/app", noise(2, SOME)).await;
    let mount = format!("/v2/team/app/blobs/uploads/?mount={shared}&from=base");
    let message = "team/app may hold 1 MB: 600 kB are used, this blob has 600 kB";
    assert_refused(server.post(&mount).await, message);
    server.head(&format!("/v2/team/app/blobs/{shared}")).await.expect(404);
    assert_eq!(uploads(&server), [""; 0]);

    server.delete(&format!("/v2/team/app/blobs/{own}")).await.expect(202);
    server.post(&mount).await.expect(201);
    let message = "team/app may hold 1 MB: 600 kB are used, this blob has 600 kB";
    assert_refused(push(&server, "team/app", &noise(3, SOME)).await, message);
}

#[tokio::test]
async fn deletions_make_room_at_once() {
    let server = limited().await;
    for round in 0..3 {
        let blob = server.push_blob("team/app", noise(round, SOME)).await;
        push(&server, "team/app", &noise(9, SOME)).await.expect(413);
        server.delete(&format!("/v2/team/app/blobs/{blob}")).await.expect(202);
    }
    trifle(&server, "team/app", "latest").await;
    server.push_blob("team/app", noise(7, SOME)).await;
    push(&server, "team/app", &noise(9, SOME)).await.expect(413);
    server.delete("/v2/team/app/").await.expect(202);
    push(&server, "team/app", &noise(9, SOME)).await.expect(201);
}

#[tokio::test]
async fn collection_makes_room() {
    let server = TestServer::with(|config| {
        quota(config, "1MB");
        let collection = &mut config.storage.maintenance.garbagecollection;
        collection.interval = Duration::from_secs(1);
        collection.grace = Duration::ZERO;
    })
    .await;
    // No manifest references it.
    push(&server, "team/app", &noise(1, SOME)).await.expect(201);
    push_until_there_is_room(&server, &noise(2, SOME)).await;
}

#[tokio::test]
async fn manifests_are_accepted_in_a_full_repository() {
    let server = TestServer::with(|config| quota(config, "100B")).await;
    let config = server.push_blob("team/app", vec![b'x'; 60]).await;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "a/b", "digest": config, "size": 60 }, "layers": [],
    });
    let kind = "application/vnd.oci.image.manifest.v1+json";
    server.push_manifest("team/app", "v1", kind, manifest.to_string()).await.expect(201);
    server.push_manifest("team/app", "v2", OCI_INDEX, empty_index("x")).await.expect(201);
    server.get("/v2/team/app/manifests/v1").await.expect(200);
}

#[tokio::test]
async fn two_pushes_at_once_share_the_quota() {
    let server = limited().await;
    let bytes = noise(1, SOME);
    let mut slow = push_slowly(&server, &bytes).await;
    let message = "team/app may hold 1 MB: 0 B are used, 600 kB more are being pushed, this blob \
                   has 600 kB";
    assert_refused(push(&server, "team/app", &noise(2, SOME)).await, message);
    push(&server, "team/app", &noise(3, 400_000)).await.expect(201);
    slow.write_all(&bytes).await.unwrap();
    slow.flush().await.unwrap();
    let response = read_to(&mut slow, "\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 201 "), "{response}");
}

#[tokio::test]
async fn push_that_breaks_off_frees_its_room() {
    let server = limited().await;
    let bytes = noise(1, SOME);
    let mut slow = push_slowly(&server, &bytes).await;
    slow.write_all(&bytes[..SOME / 2]).await.unwrap();
    slow.flush().await.unwrap();
    push(&server, "team/app", &noise(2, SOME)).await.expect(413);
    drop(slow);
    push_until_there_is_room(&server, &noise(2, SOME)).await;
    // A wrong digest frees it as well.
    server.delete("/v2/team/app/").await.expect(202);
    let target = format!("/v2/team/app/blobs/uploads/?digest={}", digest("other"));
    let wrong = server.request("POST", &target).body(bytes.clone());
    wrong.answer().await.expect_error(400, ErrorCode::DigestInvalid);
    push(&server, "team/app", &bytes).await.expect(201);
    server.settles().await;
}

#[tokio::test]
async fn quota_of_a_reloaded_configuration_is_in_force() {
    let server = limited().await;
    push(&server, "team/app", &noise(1, SOME)).await.expect(201);
    push(&server, "team/app", &noise(2, SOME)).await.expect(413);
    let mut config = server.config().clone();
    quota(&mut config, "2MB");
    let reloaded = server.app().apply(&config).await;
    assert_eq!(reloaded.change("access.quotas"), portcullis::app::Change::Applied);
    push(&server, "team/app", &noise(2, SOME)).await.expect(201);
    server.app().apply(server.config()).await;
    push(&server, "team/app", &noise(3, 1000)).await.expect(413);
    config.quotas.clear();
    server.app().apply(&config).await;
    push(&server, "team/app", &noise(3, 2 * SOME)).await.expect(201);
}

#[tokio::test]
async fn restarted_server_counts_what_is_there() {
    let server = limited().await;
    image(&server, "team/app", "latest").await;
    push(&server, "team/app", &noise(1, SOME)).await.expect(201);
    let server = server.restart().await;
    push(&server, "team/app", &noise(2, SOME)).await.expect(413);
    push(&server, "team/app", &noise(2, 300_000)).await.expect(201);
}
