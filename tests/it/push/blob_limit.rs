//! The largest blob that may be pushed: `http.limits.blob`.

use futures_util::stream;
use portcullis::{byte_size::ByteSize, config::Config, oci::ErrorCode};
use tokio::io::AsyncReadExt as _;

use crate::support::{
    Answer, Answered as _, TestServer,
    content::closing,
    digest, files, noise,
    raw::{GUARD, Stream},
    server::client_builder,
};

const MOST: usize = 1024 * 1024;

fn limit(config: &mut Config, most: usize) {
    config.http.api.limits.blob = ByteSize::new(most as u64);
}

async fn limited() -> TestServer {
    TestServer::with(|config| limit(config, MOST)).await
}

/// A body without a length.
fn streamed(bytes: &[u8]) -> reqwest::Body {
    let pieces: Vec<_> =
        bytes.chunks(65_536).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    reqwest::Body::wrap_stream(stream::iter(pieces))
}

async fn begin(server: &TestServer) -> String {
    let begun = server.post("/v2/app/blobs/uploads/").await.expect(202);
    begun.header("location").to_owned()
}

fn assert_nothing(server: &TestServer) {
    let left = files(&server.tree());
    assert!(left.is_empty(), "{left:?}");
}

/// Asserts a refusal with this message. docker sends a blob six times where the code is another.
#[track_caller]
fn assert_refused(answer: Answer, message: &str) {
    let answer = answer.expect_error(413, ErrorCode::Denied);
    let error = &answer.json()["errors"][0];
    assert_eq!(error["message"], message, "{error}");
    assert_eq!(error["detail"]["limit"], MOST as u64);
}

/// The response to a request whose body is never sent.
async fn response(stream: &mut Stream) -> String {
    let reading = async {
        let mut response = Vec::new();
        while !response.ends_with(b"}]}\n") {
            response.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(response).unwrap()
    };
    tokio::time::timeout(GUARD, reading).await.unwrap()
}

#[tokio::test]
async fn blob_over_the_limit_is_refused_before_its_first_byte() {
    let server = limited().await;
    let digest = digest("any");
    let length = MOST + 1;
    for method in ["POST", "PATCH", "PUT"] {
        let location = match method {
            "POST" => format!("/v2/app/blobs/uploads/?digest={digest}"),
            _ => begin(&server).await,
        };
        let target = match method {
            "PUT" => closing(&location, &digest),
            _ => location.clone(),
        };
        let path = target.strip_prefix(&server.base).unwrap_or(&target);
        let head = format!("{method} {path}\r\ncontent-length: {length}\r\n");
        let response = response(&mut server.begin(&head).await).await;
        assert!(response.starts_with("HTTP/1.1 413 "), "{method}: {response}");
        assert!(response.contains("blobs may have 1 MiB, this one has 1048577 B"), "{response}");
        if method != "POST" {
            server.get(&location).await.expect_error(404, ErrorCode::BlobUploadUnknown);
        }
        assert_nothing(&server);
    }
}

#[tokio::test]
async fn blob_over_the_limit_is_refused_with_what_its_upload_has_already() {
    let server = limited().await;
    let location = begin(&server).await;
    let first = server.patch(&location, None, noise(1, MOST)).await.expect(202);
    let location = first.header("location").to_owned();
    let head = format!("PATCH {}\r\n", location.strip_prefix(&server.base).unwrap_or(&location));
    let head = format!("{head}content-length: {MOST}\r\n");
    let response = response(&mut server.begin(&head).await).await;
    assert!(response.contains("blobs may have 1 MiB, this one has 2 MiB"), "{response}");
    server.get(&location).await.expect_error(404, ErrorCode::BlobUploadUnknown);
    assert_nothing(&server);
}

#[tokio::test]
async fn blob_of_unknown_length_is_refused_when_it_has_passed_the_limit() {
    let server = limited().await;
    let bytes = noise(2, MOST + 1);
    let digest = digest(&bytes);
    // HTTP/2 without a length, and HTTP/1.1 in chunks.
    for client in [client_builder(), client_builder().http1_only()] {
        let client = client.build().unwrap();
        let send = async |method: &str, target: &str| {
            let url = match target.strip_prefix('/') {
                Some(path) => format!("{}/{path}", server.base),
                None => target.to_owned(),
            };
            let request = client.request(method.parse().unwrap(), url);
            let user = (crate::support::server::USER, crate::support::server::PASSWORD);
            let request = request.basic_auth(user.0, Some(user.1)).body(streamed(&bytes));
            request.answer().await
        };
        let message = "blobs may have 1 MiB, this one has more";
        let target = format!("/v2/app/blobs/uploads/?digest={digest}");
        assert_refused(send("POST", &target).await, message);
        let location = begin(&server).await;
        assert_refused(send("PATCH", &location).await, message);
        server.get(&location).await.expect_error(404, ErrorCode::BlobUploadUnknown);
        let location = begin(&server).await;
        assert_refused(send("PUT", &closing(&location, &digest)).await, message);
        server.get(&location).await.expect_error(404, ErrorCode::BlobUploadUnknown);
        assert_nothing(&server);
    }
}

#[tokio::test]
async fn blob_of_the_limit_is_accepted() {
    let server = limited().await;
    let bytes = noise(3, MOST);
    let digest = server.push_blob("app", bytes.clone()).await;
    assert!(server.get(&format!("/v2/app/blobs/{digest}")).await.expect(200).body == bytes);
    let location = begin(&server).await;
    let answer = server.put(&closing(&location, &digest), streamed(&bytes)).await;
    answer.expect(201);
}

#[tokio::test]
async fn limit_of_a_reloaded_configuration_is_in_force() {
    let server = TestServer::start().await;
    let bytes = noise(4, MOST + 1);
    let target = format!("/v2/app/blobs/uploads/?digest={}", digest(&bytes));
    for (most, status) in [(MOST, 413), (MOST + 1, 201), (MOST, 413)] {
        let mut config = server.config().clone();
        limit(&mut config, most);
        let reloaded = server.app().apply(&config).await;
        assert_eq!(reloaded.change("http.limits.blob"), portcullis::app::Change::Applied);
        let request = server.request("POST", &target).body(bytes.clone());
        request.answer().await.expect(status);
    }
    // Without the key there is no limit.
    server.app().apply(server.config()).await;
    server.request("POST", &target).body(bytes.clone()).answer().await.expect(201);
}
