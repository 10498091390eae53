//! Upload sessions: every way to push a blob, and every way in which a push breaks.

use std::os::unix::fs::MetadataExt as _;

use futures_util::stream;
use portcullis::oci::ErrorCode;

use crate::support::{
    Answer, Answered as _, TestServer, content::closing, digest, digest512, files, noise,
};

/// A body whose length is not announced, in pieces.
fn streamed(bytes: &[u8], piece: usize) -> reqwest::Body {
    let pieces: Vec<_> =
        bytes.chunks(piece).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    reqwest::Body::wrap_stream(stream::iter(pieces))
}

/// A body that breaks after these bytes.
fn broken(bytes: &[u8], piece: usize) -> reqwest::Body {
    let mut pieces: Vec<_> = bytes.chunks(piece).map(|piece| Ok(piece.to_vec())).collect();
    pieces.push(Err(std::io::Error::other("the network is gone")));
    reqwest::Body::wrap_stream(stream::iter(pieces))
}

/// The path of a `Location`, which does not change with the port of the server.
fn path(location: &str) -> String {
    match location.split_once("://") {
        Some((_, rest)) => rest[rest.find('/').unwrap()..].to_owned(),
        None => location.to_owned(),
    }
}

/// The number of bytes in a `Range`. `0-0` is one byte, or none.
fn end(answer: &Answer) -> usize {
    let end = answer.header("range").strip_prefix("0-").unwrap();
    end.parse().unwrap()
}

async fn assert_blob(server: &TestServer, name: &str, digest: &str, bytes: &[u8]) {
    let answer = server.get(&format!("/v2/{name}/blobs/{digest}")).await;
    let answer = answer.expect(200);
    assert!(answer.body == bytes, "other bytes at {digest}");
}

/// Asserts that neither content nor a session nor a half-written file exists.
fn assert_nothing(server: &TestServer) {
    let left = files(&server.tree());
    assert!(left.is_empty(), "{left:?}");
}

/// Resumes an upload as a client does: asks for its offset, sends the rest, closes it.
async fn resume(server: &TestServer, location: &str, bytes: &[u8], digest: &str) {
    let status = server.get(location).await.expect(204);
    assert!(!status.headers.contains_key("content-length"), "RFC 9110, 8.6: not in a 204");
    let from = match end(&status) {
        0 => 0,
        last => last + 1,
    };
    let location = status.header("location").to_owned();
    let range = format!("{from}-{}", bytes.len() - 1);
    let rest = bytes[from..].to_vec();
    let answer = server.patch(&location, Some(&range), rest).await.expect(202);
    assert_eq!(end(&answer), bytes.len() - 1);
    let location = answer.header("location");
    let answer = server.put(&closing(location, digest), "").await;
    answer.expect(201);
}

#[tokio::test]
async fn session_starts_empty() {
    let server = TestServer::start().await;
    let answer = server.post("/v2/app/blobs/uploads/").await.expect(202);
    assert_eq!(answer.header("range"), "0-0");
    assert_eq!(answer.header("content-length"), "0");
    let uuid = answer.header("docker-upload-uuid");
    assert!(answer.header("location").contains(uuid));
    let status = server.get(answer.header("location")).await.expect(204);
    assert_eq!(status.header("range"), "0-0");
    assert_eq!(status.header("docker-upload-uuid"), uuid);
    assert!(status.header("location").contains(uuid));
    // registry:2 answers HEAD as it does GET.
    let head = server.head(answer.header("location")).await.expect(204);
    assert_eq!(head.header("range"), "0-0");
    assert_eq!(head.header("docker-upload-uuid"), uuid);
}

#[tokio::test]
async fn single_post_pushes_a_blob() {
    let server = TestServer::start().await;
    for digest in [digest("all at once"), digest512("all at once")] {
        let answer = server
            .request("POST", &format!("/v2/app/blobs/uploads/?digest={digest}"))
            .header("content-type", "application/octet-stream")
            .body("all at once")
            .answer()
            .await
            .expect(201);
        assert!(answer.headers.contains_key("docker-content-digest"));
        let pulled = server.get(answer.header("location")).await.expect(200);
        assert_eq!(pulled.body, "all at once");
        assert_blob(&server, "app", &digest, b"all at once").await;
    }
    let uploads: Vec<_> =
        files(&server.tree()).into_iter().filter(|file| file.contains("_uploads")).collect();
    assert!(uploads.is_empty(), "{uploads:?}");
}

#[tokio::test]
async fn post_with_wrong_digest_is_refused_and_leaves_nothing() {
    let server = TestServer::start().await;
    for digest in [digest("other"), digest512("other")] {
        server
            .request("POST", &format!("/v2/app/blobs/uploads/?digest={digest}"))
            .body("something")
            .answer()
            .await
            .expect_error(400, ErrorCode::DigestInvalid);
        server.get(&format!("/v2/app/blobs/{digest}")).await.expect(404);
        assert_nothing(&server);
    }
}

#[tokio::test]
async fn post_with_a_malformed_digest_is_refused_and_leaves_nothing() {
    let server = TestServer::start().await;
    let hex = "0".repeat(64);
    for bad in ["sha256:abc", "nonsense", "", &format!("md5:{hex}"), &format!("sha256:{hex}0")] {
        server
            .request("POST", &format!("/v2/app/blobs/uploads/?digest={bad}"))
            .body("something")
            .answer()
            .await
            .expect_error(400, ErrorCode::DigestInvalid);
    }
    assert_nothing(&server);
}

#[tokio::test]
async fn post_and_put_push_a_blob() {
    let server = TestServer::start().await;
    let bytes = noise(20, 200_000);
    let digest = digest(&bytes);
    let location = server.open_upload("app").await;
    let answer = server
        .request("PUT", &closing(&location, &digest))
        .header("content-type", "application/octet-stream")
        .body(bytes.clone())
        .answer()
        .await
        .expect(201);
    assert_eq!(answer.header("docker-content-digest"), digest);
    let pulled = server.get(answer.header("location")).await.expect(200);
    assert_eq!(pulled.body, bytes);
    server.get(&location).await.expect_error(404, ErrorCode::BlobUploadUnknown);
}

#[tokio::test]
async fn stream_without_length_is_accepted() {
    let server = TestServer::start().await;
    let bytes = noise(21, 300_000);
    let digest = digest(&bytes);
    let location = server.open_upload("app").await;
    let answer = server.patch(&location, None, streamed(&bytes, 7001)).await.expect(202);
    assert_eq!(answer.header("range"), "0-299999");
    assert!(answer.headers.contains_key("docker-upload-uuid"));
    let location = answer.header("location").to_owned();
    let status = server.get(&location).await.expect(204);
    assert_eq!(status.header("range"), "0-299999");
    server.put(&closing(&location, &digest), "").await.expect(201);
    assert_blob(&server, "app", &digest, &bytes).await;
}

#[tokio::test]
async fn put_without_length_is_accepted() {
    let server = TestServer::start().await;
    let bytes = noise(22, 300_000);
    let digest = digest(&bytes);
    let location = server.open_upload("app").await;
    let answer = server.put(&closing(&location, &digest), streamed(&bytes, 9001)).await;
    answer.expect(201);
    assert_blob(&server, "app", &digest, &bytes).await;
}

#[tokio::test]
async fn streams_append_to_each_other() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    server.patch(&location, None, "abc").await.expect(202);
    server.patch(&location, None, "").await.expect(202);
    let answer = server.patch(&location, None, streamed(b"defg", 2)).await.expect(202);
    assert_eq!(answer.header("range"), "0-6");
    let digest = digest("abcdefgh");
    server.put(&closing(&location, &digest), "h").await.expect(201);
    assert_blob(&server, "app", &digest, b"abcdefgh").await;
}

#[tokio::test]
async fn chunks_in_order_make_a_blob() {
    let server = TestServer::start().await;
    for (last, digest) in [(true, digest("abcdefghij")), (false, digest512("abcdefghij"))] {
        let mut location = server.open_upload("app").await;
        for (range, chunk, expected) in [("0-3", "abcd", "0-3"), ("4-6", "efg", "0-6")] {
            let answer = server.patch(&location, Some(range), chunk).await.expect(202);
            assert_eq!(answer.header("range"), expected);
            location = answer.header("location").to_owned();
        }
        if last {
            let answer = server.patch(&location, Some("7-9"), "hij").await.expect(202);
            let location = answer.header("location");
            server.put(&closing(location, &digest), "").await.expect(201);
        } else {
            server
                .request("PUT", &closing(&location, &digest))
                .header("content-range", "7-9")
                .body("hij")
                .answer()
                .await
                .expect(201);
        }
        assert_blob(&server, "app", &digest, b"abcdefghij").await;
    }
}

#[tokio::test]
async fn chunk_out_of_order_is_refused_and_the_session_continues() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    server.patch(&location, Some("4-7"), "efgh").await.expect_error(416, ErrorCode::RangeInvalid);
    server.patch(&location, Some("0-3"), "abcd").await.expect(202);
    // A gap, a repetition, and an overlap.
    for (range, chunk) in [("6-7", "gh"), ("0-3", "abcd"), ("2-5", "cdef"), ("3-3", "d")] {
        let answer = server.patch(&location, Some(range), chunk).await;
        let answer = answer.expect_error(416, ErrorCode::RangeInvalid);
        assert_eq!(answer.header("range"), "0-3", "{range}");
    }
    let status = server.get(&location).await.expect(204);
    assert_eq!(status.header("range"), "0-3");
    server.patch(&location, Some("4-7"), "efgh").await.expect(202);
    let digest = digest("abcdefgh");
    server.put(&closing(&location, &digest), "").await.expect(201);
    assert_blob(&server, "app", &digest, b"abcdefgh").await;
}

/// A client that gets the offset can resume there.
#[tokio::test]
async fn chunk_at_a_wrong_offset_gets_416_before_its_length_is_checked() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    let start = server.get(&location).await.expect(204);
    let uuid = start.header("docker-upload-uuid");
    server.patch(&location, Some("0-3"), "abcd").await.expect(202);
    let close = closing(&location, &digest("abcdef"));
    for range in ["0-9", "9-9", "5-100", "bytes 0-1/2"] {
        for (method, target) in [("PATCH", &location), ("PUT", &close)] {
            let request = server.request(method, target).header("content-range", range);
            let answer = request.body("efg").answer().await;
            let answer = answer.expect_error(416, ErrorCode::RangeInvalid);
            assert_eq!(answer.header("range"), "0-3", "{method} {range}");
            assert_eq!(answer.header("docker-upload-uuid"), uuid, "{method} {range}");
            assert_eq!(path(answer.header("location")), path(&location), "{method} {range}");
        }
    }
    // At the right offset the length is checked; for an unknown session the session is.
    let answer = server.patch(&location, Some("4-9"), "ef").await;
    answer.expect_error(400, ErrorCode::SizeInvalid);
    let nobody = "/v2/app/blobs/uploads/7e8d4bd4-4a3f-4c5e-9b3e-0123456789ab";
    let answer = server.patch(nobody, Some("4-9"), "ef").await;
    answer.expect_error(404, ErrorCode::BlobUploadUnknown);
    server.patch(&location, Some("4-5"), "ef").await.expect(202);
    server.put(&close, "").await.expect(201);
}

#[tokio::test]
async fn chunk_names_its_range_in_each_form_that_clients_send() {
    let server = TestServer::start().await;
    let mut location = server.open_upload("app").await;
    for (range, chunk, expected) in [
        ("0-0", "", "0-0"),
        ("0--1", "", "0-0"),
        ("bytes=0-1", "ab", "0-1"),
        ("2-1", "", "0-1"),
        ("bytes 2-3/10", "cd", "0-3"),
        ("4-5/10", "ef", "0-5"),
        ("bytes 6-5/*", "", "0-5"),
        ("bytes 6-7/*", "gh", "0-7"),
    ] {
        let answer = server.patch(&location, Some(range), chunk).await.expect(202);
        assert_eq!(answer.header("range"), expected, "{range}");
        location = answer.header("location").to_owned();
    }
    let whole = digest("abcdefghij");
    let close = |range: &'static str, chunk: &'static str| {
        let request = server.request("PUT", &closing(&location, &whole));
        request.header("content-range", range).body(chunk).answer()
    };
    // An empty chunk with a range, and a range beyond its own size.
    close("8-8", "").await.expect_error(400, ErrorCode::SizeInvalid);
    close("8-9/9", "ij").await.expect_error(416, ErrorCode::RangeInvalid);
    close("bytes 8-9/10", "ij").await.expect(201);
    assert_blob(&server, "app", &whole, b"abcdefghij").await;
    // The last request of an upload often has an empty body with `Content-Length: 0`.
    let location = server.open_upload("app").await;
    server.patch(&location, Some("0-3"), "abcd").await.expect(202);
    let request = server.request("PUT", &closing(&location, &digest("abcd")));
    request.header("content-range", "4-3").body("").answer().await.expect(201);
}

#[tokio::test]
async fn stream_out_of_order_is_refused() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    server.patch(&location, None, "abcd").await.expect(202);
    let answer = server.patch(&location, Some("9-12"), streamed(b"jklm", 2)).await;
    answer.expect_error(416, ErrorCode::RangeInvalid);
    let status = server.get(&location).await.expect(204);
    assert_eq!(status.header("range"), "0-3");
}

#[tokio::test]
async fn final_chunk_out_of_order_is_refused_and_the_session_continues() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    server.patch(&location, Some("0-3"), "abcd").await.expect(202);
    let digest = digest("abcdef");
    for (range, chunk) in [("5-6", "ef"), ("2-3", "ef")] {
        let answer = server
            .request("PUT", &closing(&location, &digest))
            .header("content-range", range)
            .body(chunk)
            .answer()
            .await;
        answer.expect_error(416, ErrorCode::RangeInvalid);
        let status = server.get(&location).await.expect(204);
        assert_eq!(status.header("range"), "0-3");
    }
    server
        .request("PUT", &closing(&location, &digest))
        .header("content-range", "4-5")
        .body("ef")
        .answer()
        .await
        .expect(201);
    assert_blob(&server, "app", &digest, b"abcdef").await;
}

#[tokio::test]
async fn chunk_whose_length_contradicts_its_range_is_refused_and_the_session_continues() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    server.patch(&location, Some("0-3"), "abcd").await.expect(202);
    for (range, chunk) in [("4-9", "ef"), ("4-4", "ef")] {
        server.patch(&location, Some(range), chunk).await.expect_error(400, ErrorCode::SizeInvalid);
        let status = server.get(&location).await.expect(204);
        assert_eq!(status.header("range"), "0-3", "{range}");
    }
    let digest = digest("abcdef");
    let answer = server
        .request("PUT", &closing(&location, &digest))
        .header("content-range", "4-9")
        .body("ef")
        .answer()
        .await;
    answer.expect_error(400, ErrorCode::SizeInvalid);
    server.patch(&location, Some("4-5"), "ef").await.expect(202);
    server.put(&closing(&location, &digest), "").await.expect(201);
}

#[tokio::test]
async fn malformed_content_range_adds_nothing() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    server.patch(&location, None, "abcd").await.expect(202);
    for range in ["nonsense", "4", "-4", "5-4", "4-18446744073709551616", "0x4-5", "+4-5"] {
        let answer = server.patch(&location, Some(range), "ef").await;
        assert!(matches!(answer.status.as_u16(), 400 | 416), "{range}: {answer:?}");
        let status = server.get(&location).await.expect(204);
        assert_eq!(status.header("range"), "0-3", "{range}");
    }
}

#[tokio::test]
async fn put_with_wrong_digest_is_refused_and_leaves_nothing() {
    let server = TestServer::start().await;
    for (patched, put) in [("", "something"), ("some", "thing"), ("something", "")] {
        let location = server.open_upload("app").await;
        if !patched.is_empty() {
            server.patch(&location, None, patched).await.expect(202);
        }
        let answer = server.put(&closing(&location, &digest("other")), put).await;
        answer.expect_error(400, ErrorCode::DigestInvalid);
        server.get(&location).await.expect_error(404, ErrorCode::BlobUploadUnknown);
        assert_nothing(&server);
    }
    for content in ["other", "something"] {
        let blob = format!("/v2/app/blobs/{}", digest(content));
        server.get(&blob).await.expect(404);
    }
}

#[tokio::test]
async fn put_without_digest_is_refused_and_keeps_the_session() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    server.patch(&location, None, "abcd").await.expect(202);
    server.put(&location, "").await.expect_error(400, ErrorCode::DigestInvalid);
    let status = server.get(&location).await.expect(204);
    assert_eq!(status.header("range"), "0-3");
    let answer = server.put(&closing(&location, &digest("abcd")), "").await;
    answer.expect(201);
}

#[tokio::test]
async fn put_with_a_malformed_digest_is_refused() {
    let server = TestServer::start().await;
    for bad in ["sha256:abc", "nonsense", "", &format!("sha384:{}", "0".repeat(96))] {
        let location = server.open_upload("app").await;
        let answer = server.put(&closing(&location, bad), "abcd").await;
        answer.expect_error(400, ErrorCode::DigestInvalid);
    }
}

#[tokio::test]
async fn cancelled_upload_is_unknown() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    server.patch(&location, None, "abcd").await.expect(202);
    server.delete(&location).await.expect(204);
    assert_nothing(&server);
    server.get(&location).await.expect_error(404, ErrorCode::BlobUploadUnknown);
    let answer = server.patch(&location, None, "efgh").await;
    answer.expect_error(404, ErrorCode::BlobUploadUnknown);
    let answer = server.put(&closing(&location, &digest("abcd")), "").await;
    answer.expect_error(404, ErrorCode::BlobUploadUnknown);
    server.delete(&location).await.expect_error(404, ErrorCode::BlobUploadUnknown);
    assert_nothing(&server);
}

/// Content and sessions are two things: an upload can be abandoned with deletion disabled.
#[tokio::test]
async fn upload_can_be_cancelled_with_deletion_disabled() {
    let server = TestServer::with(|config| config.storage.delete.enabled = false).await;
    let location = server.open_upload("app").await;
    server.delete(&location).await.expect(204);
}

#[tokio::test]
async fn session_that_was_never_opened_is_unknown() {
    let server = TestServer::start().await;
    server.push_blob("app", "something").await;
    let target = "/v2/app/blobs/uploads/7e8d4bd4-4a3f-4c5e-9b3e-0123456789ab";
    server.get(target).await.expect_error(404, ErrorCode::BlobUploadUnknown);
    let answer = server.patch(target, None, "abcd").await;
    answer.expect_error(404, ErrorCode::BlobUploadUnknown);
    let answer = server.put(&closing(target, &digest("abcd")), "abcd").await;
    answer.expect_error(404, ErrorCode::BlobUploadUnknown);
    server.delete(target).await.expect_error(404, ErrorCode::BlobUploadUnknown);
}

#[tokio::test]
async fn session_id_cannot_name_another_path() {
    let server = TestServer::start().await;
    let image = crate::support::image(&server, "app", "latest").await;
    let before = files(&server.tree());
    for uuid in ["..%2f_manifests", "%2e%2e", ".", "x", "a%00b", "..%2f..%2fapp%2f_layers"] {
        let target = format!("/v2/app/blobs/uploads/{uuid}");
        for method in ["GET", "DELETE", "PATCH", "PUT"] {
            let answer = server.request(method, &target).body("x").answer().await;
            assert!(answer.status.is_client_error(), "{method} {uuid}: {answer:?}");
        }
    }
    assert_eq!(files(&server.tree()), before);
    let answer = server.get("/v2/app/manifests/latest").await.expect(200);
    assert_eq!(answer.text(), image.manifest);
}

#[tokio::test]
async fn session_is_unknown_to_other_repositories() {
    let server = TestServer::start().await;
    server.push_blob("other", "something").await;
    let location = server.open_upload("app").await;
    server.patch(&location, None, "abcd").await.expect(202);
    let foreign = location.replacen("/v2/app/", "/v2/other/", 1);
    let unknown = ErrorCode::BlobUploadUnknown;
    server.get(&foreign).await.expect_error(404, unknown);
    server.patch(&foreign, None, "efgh").await.expect_error(404, unknown);
    let digest = digest("abcd");
    server.put(&closing(&foreign, &digest), "").await.expect_error(404, unknown);
    server.delete(&foreign).await.expect_error(404, unknown);
    let status = server.get(&location).await.expect(204);
    assert_eq!(status.header("range"), "0-3");
    server.put(&closing(&location, &digest), "").await.expect(201);
}

#[tokio::test]
async fn blob_is_mounted_from_a_repository_that_has_it() {
    let server = TestServer::start().await;
    for digest in [digest("shared"), digest512("shared")] {
        server
            .request("POST", &format!("/v2/from/blobs/uploads/?digest={digest}"))
            .body("shared")
            .answer()
            .await
            .expect(201);
        let answer = server
            .post(&format!("/v2/to/blobs/uploads/?mount={digest}&from=from"))
            .await
            .expect(201);
        assert!(answer.headers.contains_key("docker-content-digest"));
        let location = answer.header("location");
        assert!(location.contains("/v2/to/blobs/"), "{location}");
        assert_eq!(server.get(location).await.expect(200).body, "shared");
        assert_blob(&server, "to", &digest, b"shared").await;
    }
}

#[tokio::test]
async fn mount_from_a_repository_that_lacks_the_blob_opens_a_session() {
    let server = TestServer::start().await;
    let wanted = digest("wanted");
    server.push_blob("lacks", "something").await;
    for from in ["lacks", "nowhere", "lacks/sub"] {
        let target = format!("/v2/to/blobs/uploads/?mount={wanted}&from={from}");
        let answer = server.post(&target).await.expect(202);
        assert!(answer.headers.contains_key("docker-upload-uuid"));
        let location = answer.header("location").to_owned();
        server.get(&format!("/v2/to/blobs/{wanted}")).await.expect(404);
        server.delete(&location).await.expect(204);
    }
    let target = format!("/v2/to/blobs/uploads/?mount={wanted}&from=lacks");
    let answer = server.post(&target).await.expect(202);
    let close = closing(answer.header("location"), &wanted);
    server.put(&close, "wanted").await.expect(201);
    assert_blob(&server, "to", &wanted, b"wanted").await;
}

#[tokio::test]
async fn mount_without_source_gives_the_blob_or_a_session() {
    let server = TestServer::start().await;
    let known = server.push_blob("somewhere", "known").await;
    let target = format!("/v2/to/blobs/uploads/?mount={known}");
    let answer = server.post(&target).await;
    match answer.status.as_u16() {
        201 => assert_blob(&server, "to", &known, b"known").await,
        202 => {
            let close = closing(answer.header("location"), &known);
            server.put(&close, "known").await.expect(201);
        }
        other => panic!("{other}: {answer:?}"),
    }
    let unknown = digest("unknown");
    let target = format!("/v2/to/blobs/uploads/?mount={unknown}");
    let answer = server.post(&target).await.expect(202);
    let close = closing(answer.header("location"), &unknown);
    server.put(&close, "unknown").await.expect(201);
}

#[tokio::test]
async fn deleted_blob_cannot_be_mounted_from_its_repository() {
    let server = TestServer::start().await;
    let digest = server.push_blob("from", "gone").await;
    server.delete(&format!("/v2/from/blobs/{digest}")).await.expect(202);
    server.post(&format!("/v2/to/blobs/uploads/?mount={digest}&from=from")).await.expect(202);
    server.get(&format!("/v2/to/blobs/{digest}")).await.expect(404);
}

#[tokio::test]
async fn sha512_is_pushed_in_chunks_with_and_without_the_hint() {
    let server = TestServer::start().await;
    let bytes = noise(23, 200_000);
    let digest = digest512(&bytes);
    for (name, query) in [("hinted", "?digest-algorithm=sha512"), ("unhinted", "")] {
        let target = format!("/v2/{name}/blobs/uploads/{query}");
        let answer = server.post(&target).await.expect(202);
        let mut location = answer.header("location").to_owned();
        for (range, part) in
            [("0-99999", &bytes[..100_000]), ("100000-149999", &bytes[100_000..150_000])]
        {
            let answer = server.patch(&location, Some(range), part.to_vec()).await.expect(202);
            location = answer.header("location").to_owned();
        }
        let answer = server.put(&closing(&location, &digest), bytes[150_000..].to_vec()).await;
        answer.expect(201);
        assert_blob(&server, name, &digest, &bytes).await;
    }
    let target = "/v2/hinted/blobs/uploads/?digest-algorithm=sha512";
    let answer = server.post(target).await.expect(202);
    let close = closing(answer.header("location"), &digest512("other"));
    server.put(&close, "something").await.expect_error(400, ErrorCode::DigestInvalid);
}

#[tokio::test]
async fn sha512_upload_is_resumed_after_a_restart() {
    let server = TestServer::start().await;
    let bytes = noise(24, 200_000);
    let digest = digest512(&bytes);
    let hinted = server.post("/v2/a/blobs/uploads/?digest-algorithm=sha512").await;
    let hinted = path(hinted.expect(202).header("location"));
    let unhinted = path(&server.open_upload("b").await);
    for location in [&hinted, &unhinted] {
        server.patch(location, None, bytes[..70_000].to_vec()).await.expect(202);
    }
    let server = server.restart().await;
    for (name, location) in [("a", &hinted), ("b", &unhinted)] {
        resume(&server, location, &bytes, &digest).await;
        assert_blob(&server, name, &digest, &bytes).await;
    }
}

#[tokio::test]
async fn unknown_algorithm_is_refused() {
    let server = TestServer::start().await;
    for algorithm in ["md5", "sha384", "nonsense"] {
        let target = format!("/v2/app/blobs/uploads/?digest-algorithm={algorithm}");
        server.post(&target).await.expect(400);
    }
    assert_nothing(&server);
}

#[tokio::test]
async fn session_is_resumed_after_a_restart() {
    let server = TestServer::start().await;
    let bytes = noise(25, 50_000);
    let location = path(&server.open_upload("app").await);
    server.patch(&location, None, bytes[..20_000].to_vec()).await.expect(202);
    let server = server.restart().await;
    let status = server.get(&location).await.expect(204);
    assert_eq!(status.header("range"), "0-19999");
    resume(&server, &location, &bytes, &digest(&bytes)).await;
    assert_blob(&server, "app", &digest(&bytes), &bytes).await;
}

/// A kill after the data has become a blob and before the rest of the session is removed: the saved
/// hasher then covers bytes that the session no longer has.
#[tokio::test]
async fn saved_hasher_is_not_used_for_other_bytes() {
    let first = noise(31, 5 << 20);
    let mut other = first.clone();
    other[0] ^= 1;
    for (claimed, status) in [(digest(&first), 400), (digest(&other), 201)] {
        let server = TestServer::start().await;
        let location = path(&server.open_upload("app").await);
        server.patch(&location, None, first.clone()).await.expect(202);
        let id = location.rsplit('/').next().unwrap();
        let data = server.tree().join(format!("repositories/app/_uploads/{id}/data"));
        let server = server.restart().await;
        std::fs::remove_file(data).unwrap();

        // In chunks too small for a saved hasher.
        for piece in other.chunks(1 << 20) {
            server.patch(&location, None, piece.to_vec()).await.expect(202);
        }
        let server = server.restart().await;
        server.put(&closing(&location, &claimed), "").await.expect(status);
    }
}

async fn breaks_and_goes_on(length: usize, sent: usize, restart: bool) {
    let mut server = TestServer::start().await;
    let bytes = noise(26, length);
    let digest = digest(&bytes);
    let location = path(&server.open_upload("app").await);
    let head = format!(
        "PATCH {location}\r\ncontent-type: application/octet-stream\r\ncontent-length: {length}\r\n"
    );
    server.break_off(&head, &bytes[..sent]).await;
    if restart {
        server = server.restart().await;
    }
    let status = server.get(&location).await.expect(204);
    // registry:2 keeps the bytes before the break.
    assert_eq!(status.header("range"), format!("0-{}", sent - 1));
    resume(&server, &location, &bytes, &digest).await;
    assert_blob(&server, "app", &digest, &bytes).await;
}

#[tokio::test]
async fn small_interrupted_upload_is_resumed() {
    breaks_and_goes_on(300_000, 123_457, false).await;
}

#[tokio::test]
async fn small_interrupted_upload_is_resumed_after_a_restart() {
    breaks_and_goes_on(300_000, 123_457, true).await;
}

#[tokio::test]
async fn large_interrupted_upload_is_resumed() {
    breaks_and_goes_on(12 << 20, (11 << 20) + 77, false).await;
}

#[tokio::test]
async fn large_interrupted_upload_is_resumed_after_a_restart() {
    breaks_and_goes_on(12 << 20, (11 << 20) + 77, true).await;
}

/// Over HTTP/2 the stream is reset while the connection lives. Bytes under way may be lost, but the
/// offset that the server then reports is right.
#[tokio::test]
async fn upload_of_a_reset_stream_is_resumed_after_a_restart() {
    for (length, sent) in [(300_000, 200_000), (12 << 20, 11 << 20)] {
        let server = TestServer::start().await;
        let bytes = noise(27, length);
        let digest = digest(&bytes);
        let location = path(&server.open_upload("app").await);
        let sending = server.request("PATCH", &location).body(broken(&bytes[..sent], 60_000));
        assert!(sending.send().await.is_err());
        let server = server.restart().await;
        let status = server.get(&location).await.expect(204);
        assert!(end(&status) < sent, "more than was sent");
        resume(&server, &location, &bytes, &digest).await;
        assert_blob(&server, "app", &digest, &bytes).await;
    }
}

#[tokio::test]
async fn reserved_space_is_returned_when_an_upload_is_interrupted() {
    let server = TestServer::start().await;
    let location = path(&server.open_upload("app").await);
    let head = format!("PATCH {location}\r\ncontent-length: {}\r\n", 64 << 20);
    server.break_off(&head, &noise(30, 1 << 20)).await;
    let have = end(&server.get(&location).await.expect(204)) + 1;
    let id = location.rsplit('/').next().unwrap();
    let data = server.tree().join(format!("repositories/app/_uploads/{id}/data"));
    let metadata = std::fs::metadata(data).unwrap();
    assert_eq!(metadata.len(), have as u64);
    assert!(metadata.blocks() * 512 < 4 << 20, "{} blocks", metadata.blocks());
}

#[tokio::test]
async fn upload_may_be_interrupted_many_times() {
    let server = TestServer::start().await;
    let bytes = noise(28, 3 << 20);
    let location = path(&server.open_upload("app").await);
    let mut have = 0;
    for piece in [100_000, 1, 900_000, 1_048_576, 65_537] {
        let head = format!(
            "PATCH {location}\r\ncontent-range: {have}-{}\r\ncontent-length: {}\r\n",
            bytes.len() - 1,
            bytes.len() - have
        );
        server.break_off(&head, &bytes[have..have + piece]).await;
        let status = server.get(&location).await.expect(204);
        have = end(&status) + 1;
    }
    resume(&server, &location, &bytes, &digest(&bytes)).await;
    assert_blob(&server, "app", &digest(&bytes), &bytes).await;
}

#[tokio::test]
async fn interrupted_final_put_makes_no_blob_and_can_be_resumed() {
    let server = TestServer::start().await;
    let bytes = noise(29, 500_000);
    let digest = digest(&bytes);
    let location = path(&server.open_upload("app").await);
    server.patch(&location, None, bytes[..100_000].to_vec()).await.expect(202);
    let head = format!("PUT {}\r\ncontent-length: 400000\r\n", closing(&location, &digest));
    server.break_off(&head, &bytes[100_000..300_000]).await;
    server.get(&format!("/v2/app/blobs/{digest}")).await.expect(404);
    resume(&server, &location, &bytes, &digest).await;
    assert_blob(&server, "app", &digest, &bytes).await;
}

/// The digest is that of the part that arrived: a truncated body is not the blob.
#[tokio::test]
async fn interrupted_post_makes_no_blob() {
    let server = TestServer::start().await;
    let bytes = noise(30, 100_000);
    let part = digest(&bytes[..50_000]);
    for length in ["content-length: 100000\r\n", "transfer-encoding: chunked\r\n"] {
        let head = format!("POST /v2/app/blobs/uploads/?digest={part}\r\n{length}");
        let mut body = bytes[..50_000].to_vec();
        if length.contains("chunked") {
            body = [b"c350\r\n", body.as_slice(), b"\r\n"].concat();
        }
        server.break_off(&head, &body).await;
        server.get(&format!("/v2/app/blobs/{part}")).await.expect(404);
    }
    let blobs = files(&server.tree().join("blobs"));
    assert!(blobs.is_empty(), "{blobs:?}");
}

#[tokio::test]
async fn concurrent_clients_of_one_chunk_do_not_mix() {
    let server = TestServer::start().await;
    let bytes = noise(31, 400_000);
    let location = server.open_upload("app").await;
    let (one, two) = tokio::join!(
        server.patch(&location, Some("0-399999"), streamed(&bytes, 10_000)),
        server.patch(&location, Some("0-399999"), streamed(&bytes, 10_000)),
    );
    let taken = [&one, &two].iter().filter(|answer| answer.status == 202).count();
    assert_eq!(taken, 1, "{one:?} {two:?}");
    assert!(one.status.is_client_error() || two.status.is_client_error());
    let status = server.get(&location).await.expect(204);
    assert_eq!(status.header("range"), "0-399999");
    let answer = server.put(&closing(&location, &digest(&bytes)), "").await;
    answer.expect(201);
}

#[tokio::test]
async fn concurrent_pushes_of_one_blob_both_succeed() {
    let server = TestServer::start().await;
    let bytes = noise(32, 400_000);
    let digest = digest(&bytes);
    let target = format!("/v2/app/blobs/uploads/?digest={digest}");
    let push = || server.request("POST", &target).body(streamed(&bytes, 10_000)).answer();
    let (one, two, three) = tokio::join!(push(), push(), push());
    for answer in [one, two, three] {
        answer.expect(201);
    }
    assert_blob(&server, "app", &digest, &bytes).await;
    let uploads: Vec<_> =
        files(&server.tree()).into_iter().filter(|file| file.contains("_uploads")).collect();
    assert!(uploads.is_empty(), "{uploads:?}");
}

#[tokio::test]
async fn empty_blob_is_pushed_by_post_and_put() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    let digest = digest("");
    server.put(&closing(&location, &digest), "").await.expect(201);
    assert_blob(&server, "app", &digest, b"").await;
}

#[tokio::test]
async fn upload_of_one_byte_can_be_resumed() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    server.patch(&location, Some("0-0"), "a").await.expect(202);
    server.patch(&location, Some("1-1"), "b").await.expect(202);
    let answer = server.put(&closing(&location, &digest("ab")), "").await;
    answer.expect(201);
}

/// The interrupted client returns without a restart of the server.
#[tokio::test]
async fn upload_of_a_reset_stream_is_resumed_at_once() {
    for (length, sent) in [(300_000, 200_000), (12 << 20, 11 << 20)] {
        let server = TestServer::start().await;
        let bytes = noise(33, length);
        let digest = digest(&bytes);
        let location = server.open_upload("app").await;
        let sending = server.request("PATCH", &location).body(broken(&bytes[..sent], 60_000));
        assert!(sending.send().await.is_err());
        resume(&server, &location, &bytes, &digest).await;
        assert_blob(&server, "app", &digest, &bytes).await;
    }
}
