//! Blobs: pull, ranges, conditions, deletion, and access by repository.

use portcullis::{oci::ErrorCode, storage};

use serde_json::json;

use crate::support::{
    Answer, Answered as _, TestServer, digest, digest512, files, image, noise,
    server::{PASSWORD, USER},
};

async fn ranged(server: &TestServer, target: &str, range: &str) -> Answer {
    server.request("GET", target).header("range", range).answer().await
}

async fn unless(server: &TestServer, method: &str, target: &str, tag: &str) -> Answer {
    server.request(method, target).header("if-none-match", tag).answer().await
}

#[tokio::test]
async fn get_returns_the_bytes_with_their_type_and_digest() {
    let server = TestServer::start().await;
    let bytes = noise(1, 70_000);
    let digest = server.push_blob("app", bytes.clone()).await;
    let answer = server.get(&format!("/v2/app/blobs/{digest}")).await;
    let answer = answer.expect(200);
    assert_eq!(answer.body, bytes);
    assert_eq!(answer.header("content-length"), "70000");
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.header("docker-content-digest"), digest);
    assert_eq!(answer.header("etag"), format!("\"{digest}\""));
    assert_eq!(answer.header("accept-ranges"), "bytes");
    let cache = answer.header("cache-control");
    assert!(cache.contains("max-age=31536000"), "{cache}");
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let server = TestServer::start().await;
    let digest = server.push_blob("app", noise(2, 5000)).await;
    let target = format!("/v2/app/blobs/{digest}");
    let get = server.get(&target).await.expect(200);
    let head = server.head(&target).await.expect(200);
    for name in [
        "content-length",
        "content-type",
        "docker-content-digest",
        "etag",
        "accept-ranges",
        "cache-control",
        "docker-distribution-api-version",
    ] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn single_range_returns_its_bytes() {
    let server = TestServer::start().await;
    let bytes = noise(3, 1000);
    let digest = server.push_blob("app", bytes.clone()).await;
    let target = format!("/v2/app/blobs/{digest}");
    for (range, from, to) in [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=999-999", 999, 999),
        ("bytes=0-999", 0, 999),
        ("bytes=990-5000", 990, 999),
        ("bytes=0-18446744073709551615", 0, 999),
        ("bytes=400-", 400, 999),
        ("bytes=0-", 0, 999),
        ("bytes=-1", 999, 999),
        ("bytes=-100", 900, 999),
        ("bytes=-1000", 0, 999),
        ("bytes=-5000", 0, 999),
    ] {
        let answer = ranged(&server, &target, range).await.expect(206);
        assert_eq!(answer.body, bytes[from..=to], "{range}");
        let said = format!("bytes {from}-{to}/1000");
        assert_eq!(answer.header("content-range"), said, "{range}");
        let length = (to - from + 1).to_string();
        assert_eq!(answer.header("content-length"), length, "{range}");
        assert_eq!(answer.header("docker-content-digest"), digest, "{range}");
        assert_eq!(answer.header("etag"), format!("\"{digest}\""), "{range}");
    }
}

#[tokio::test]
async fn range_beyond_the_blob_is_refused_with_its_size() {
    let server = TestServer::start().await;
    let digest = server.push_blob("app", noise(4, 1000)).await;
    let target = format!("/v2/app/blobs/{digest}");
    for range in ["bytes=1000-", "bytes=1000-1001", "bytes=5000-6000", "bytes=-0"] {
        let answer = ranged(&server, &target, range).await.expect(416);
        assert_eq!(answer.header("content-range"), "bytes */1000", "{range}");
    }
}

/// RFC 9110 §14.2: an unknown unit is ignored; a malformed range may be ignored or refused, but
/// never gives part of the content.
#[tokio::test]
async fn malformed_range_never_gives_a_part() {
    let server = TestServer::start().await;
    let bytes = noise(5, 1000);
    let digest = server.push_blob("app", bytes.clone()).await;
    let target = format!("/v2/app/blobs/{digest}");
    let answer = ranged(&server, &target, "lines=0-3").await.expect(200);
    assert_eq!(answer.body, bytes);
    for range in ["bytes=", "bytes=-", "bytes=a-b", "bytes=9-3", "bytes", "bytes=+1-2", "0-3"] {
        let answer = ranged(&server, &target, range).await;
        match answer.status.as_u16() {
            200 => assert_eq!(answer.body, bytes, "{range}"),
            400 | 416 => {}
            other => panic!("{range}: {other}"),
        }
    }
}

/// The parts of a `multipart/byteranges` response: the headers of each, and its bytes.
fn parts(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let kind = answer.header("content-type");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let body = [b"\r\n", answer.body.as_ref()].concat();
    let delimiter = format!("\r\n--{boundary}");
    let find = |bytes: &[u8], what: &[u8]| {
        bytes.windows(what.len()).position(|window| window == what).unwrap()
    };
    let mut rest = &body[..];
    let mut parts = Vec::new();
    loop {
        assert!(rest.starts_with(delimiter.as_bytes()));
        rest = &rest[delimiter.len()..];
        if rest == b"--\r\n" {
            return parts;
        }
        let head = find(rest, b"\r\n\r\n");
        let fields = String::from_utf8(rest[..head].to_vec()).unwrap();
        rest = &rest[head + 4..];
        let end = find(rest, delimiter.as_bytes());
        let lines: Vec<&str> = fields.trim_start().split("\r\n").collect();
        assert_eq!(lines[1..], ["Content-Type: application/octet-stream"]);
        let range = lines[0].strip_prefix("Content-Range: ").unwrap();
        parts.push((range.to_owned(), rest[..end].to_vec()));
        rest = &rest[end..];
    }
}

/// RFC 9110 §14.6 and §15.3.7.2. podman takes the parts in the order in which it asked for them.
#[tokio::test]
async fn several_ranges_give_their_parts_in_the_order_asked_for() {
    let server = TestServer::start().await;
    let bytes = noise(6, 1000);
    let digest = server.push_blob("app", bytes.clone()).await;
    let target = format!("/v2/app/blobs/{digest}");
    for (range, expected) in [
        ("bytes=0-9,20-29", vec![0..10, 20..30]),
        ("bytes=990-,0-0, 5-5,-3,", vec![990..1000, 0..1, 5..6, 997..1000]),
        ("bytes=0-9,5-14", vec![0..10, 5..15]),
        ("bytes=0-499,500-999", vec![0..500, 500..1000]),
    ] {
        let answer = ranged(&server, &target, range).await.expect(206);
        assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "{range}");
        assert_eq!(answer.header("etag"), format!("\"{digest}\""), "{range}");
        assert_eq!(answer.header("docker-content-digest"), digest, "{range}");
        // RFC 9110 §15.3.7.2: the parts have it.
        assert!(!answer.headers.contains_key("content-range"), "{range}");
        let expected: Vec<_> = expected
            .into_iter()
            .map(|part| {
                let said = format!("bytes {}-{}/1000", part.start, part.end - 1);
                (said, bytes[part].to_vec())
            })
            .collect();
        assert_eq!(parts(&answer), expected, "{range}");
    }
}

/// A blob that is read in several pieces, over both versions of HTTP, and more than once in
/// parallel.
#[tokio::test]
async fn parts_of_a_large_blob_are_streamed_whole() {
    let server = TestServer::start().await;
    let bytes = noise(61, 3 << 20);
    let digest = server.push_blob("app", bytes.clone()).await;
    let target = format!("/v2/app/blobs/{digest}");
    let old = crate::support::server::client_builder().http1_only().build().unwrap();
    let range = "bytes=2097152-3145727,1-1500000";
    for client in [&server.client, &old] {
        let request = client.get(format!("{}{target}", server.base));
        let request = request.basic_auth(USER, Some(PASSWORD)).header("range", range);
        let answer = request.answer().await.expect(206);
        let parts = parts(&answer);
        assert_eq!(parts.len(), 2);
        assert!(parts[0].1 == bytes[2_097_152..3_145_728]);
        assert!(parts[1].1 == bytes[1..1_500_001]);
    }
}

/// containers/storage asks for up to 1024 parts at once, and wants as many parts as it asked for.
#[tokio::test]
async fn thousand_ranges_are_answered_in_one_response() {
    let server = TestServer::start().await;
    let bytes = noise(62, 100_000);
    let digest = server.push_blob("app", bytes.clone()).await;
    let target = format!("/v2/app/blobs/{digest}");
    let starts = |count: usize| (0..count).map(|n| n * 90);
    let range = |count| {
        let ranges: Vec<_> = starts(count).map(|at| format!("{at}-{}", at + 9)).collect();
        format!("bytes={}", ranges.join(","))
    };
    let answer = ranged(&server, &target, &range(1024)).await.expect(206);
    let parts = parts(&answer);
    assert_eq!(parts.len(), 1024);
    assert!(starts(1024).zip(&parts).all(|(at, (_, part))| *part == bytes[at..at + 10]));
    let answer = ranged(&server, &target, &range(1025)).await.expect(200);
    assert!(answer.body == bytes);
}

/// 1024 ranges of a blob of a gigabyte are 22 KB of a request. podman, over HTTP/1.1, gives the
/// pull up when that is refused.
#[tokio::test]
async fn range_header_as_long_as_podman_sends_is_read() {
    let server = TestServer::start().await;
    let digest = server.push_blob("app", noise(66, 1000)).await;
    let ranges = vec!["1234567890-1234567999"; 1024].join(",");
    let old = crate::support::server::client_builder().http1_only().build().unwrap();
    let request = old.get(format!("{}/v2/app/blobs/{digest}", server.base));
    let request = request.basic_auth(USER, Some(PASSWORD));
    let answer = request.header("range", format!("bytes={ranges}")).answer().await.expect(416);
    assert_eq!(answer.header("content-range"), "bytes */1000");
}

/// RFC 9110 §17.15: overlapping ranges that exceed the blob cost no more than the blob.
#[tokio::test]
async fn ranges_that_add_up_to_more_than_the_blob_give_the_blob() {
    let server = TestServer::start().await;
    let bytes = noise(63, 1000);
    let digest = server.push_blob("app", bytes.clone()).await;
    let target = format!("/v2/app/blobs/{digest}");
    for range in ["bytes=0-,0-", "bytes=0-600,400-999", "bytes=-1000,0-0"] {
        let answer = ranged(&server, &target, range).await.expect(200);
        assert_eq!(answer.body, bytes, "{range}");
        assert_eq!(answer.header("content-length"), "1000", "{range}");
    }
}

#[tokio::test]
async fn several_ranges_leave_out_those_without_a_byte() {
    let server = TestServer::start().await;
    let bytes = noise(64, 1000);
    let digest = server.push_blob("app", bytes.clone()).await;
    let target = format!("/v2/app/blobs/{digest}");
    for range in ["bytes=0-3,", "bytes=, 0-3", "bytes=0-3,1000-", "bytes=5000-6000,0-3,-0"] {
        let answer = ranged(&server, &target, range).await.expect(206);
        assert_eq!(answer.header("content-range"), "bytes 0-3/1000", "{range}");
        assert_eq!(answer.header("content-type"), "application/octet-stream", "{range}");
        assert_eq!(answer.body, bytes[..4], "{range}");
    }
    for range in ["bytes=1000-,2000-", "bytes=-0,-0", "bytes=0-3,9-3"] {
        let answer = ranged(&server, &target, range).await.expect(416);
        assert_eq!(answer.header("content-range"), "bytes */1000", "{range}");
    }
    let answer = ranged(&server, &target, "bytes=0-3,x").await.expect(200);
    assert_eq!(answer.body, bytes);
}

/// RFC 9110 §13.1.5, for several ranges as for one; and `HEAD` ignores them all (§14.2).
#[tokio::test]
async fn several_ranges_count_only_for_the_content_that_if_range_names() {
    let server = TestServer::start().await;
    let bytes = noise(65, 1000);
    let digest = server.push_blob("app", bytes.clone()).await;
    let target = format!("/v2/app/blobs/{digest}");
    let by = |method: &'static str, tag: &str| {
        let request = server.request(method, &target).header("range", "bytes=5-9,20-29");
        request.header("if-range", tag.to_owned()).answer()
    };
    let tag = format!("\"{digest}\"");
    assert_eq!(parts(&by("GET", &tag).await.expect(206)).len(), 2);
    for other in
        [format!("W/{tag}"), "\"x\"".to_owned(), "Sat, 01 Jan 2000 00:00:00 GMT".to_owned()]
    {
        assert_eq!(by("GET", &other).await.expect(200).body, bytes, "{other}");
    }
    let head = by("HEAD", &tag).await.expect(200);
    assert_eq!(head.header("content-length"), "1000");
    assert_eq!(head.header("content-type"), "application/octet-stream");
}

/// RFC 9110 §14.2: `Range` means something for GET only.
#[tokio::test]
async fn head_ignores_ranges() {
    let server = TestServer::start().await;
    let digest = server.push_blob("app", noise(7, 1000)).await;
    let answer = server
        .request("HEAD", &format!("/v2/app/blobs/{digest}"))
        .header("range", "bytes=0-9")
        .answer()
        .await
        .expect(200);
    assert_eq!(answer.header("content-length"), "1000");
}

/// RFC 9110 §13.1.5: a range applies only to the content of which the client has a part.
#[tokio::test]
async fn if_range_of_other_content_returns_the_whole_blob() {
    let server = TestServer::start().await;
    let bytes = noise(8, 1000);
    let digest = server.push_blob("app", bytes.clone()).await;
    let target = format!("/v2/app/blobs/{digest}");
    let other = format!("\"{}\"", crate::support::digest("other"));
    for (tag, status) in [(format!("\"{digest}\""), 206), (other, 200)] {
        let answer = server
            .request("GET", &target)
            .header("range", "bytes=5-9")
            .header("if-range", &tag)
            .answer()
            .await
            .expect(status);
        assert_eq!(answer.body.len(), if status == 206 { 5 } else { 1000 }, "{tag}");
    }
}

#[tokio::test]
async fn if_match_of_other_content_sends_nothing() {
    let server = TestServer::start().await;
    let digest = server.push_blob("app", noise(8, 100)).await;
    let target = format!("/v2/app/blobs/{digest}");
    let other = crate::support::digest("other");
    for (tag, status) in [
        (format!("\"{digest}\""), 200),
        (format!("\"{other}\", \"{digest}\""), 200),
        ("*".to_owned(), 200),
        (format!("\"{other}\""), 412),
        // RFC 9110 §13.1.1: compared strongly.
        (format!("W/\"{digest}\""), 412),
        (String::new(), 412),
    ] {
        for method in ["GET", "HEAD"] {
            let request = server.request(method, &target).header("if-match", &tag);
            assert_eq!(request.answer().await.status, status, "{method} {tag}");
        }
    }
}

#[tokio::test]
async fn if_none_match_of_the_same_content_sends_nothing() {
    let server = TestServer::start().await;
    let digest = server.push_blob("app", noise(9, 100)).await;
    let target = format!("/v2/app/blobs/{digest}");
    let other = crate::support::digest("other");
    for tag in [
        format!("\"{digest}\""),
        format!("W/\"{digest}\""),
        digest.clone(),
        format!("\"{other}\", \"{digest}\""),
        format!("\"{other}\",W/\"{digest}\""),
        "*".to_owned(),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = unless(&server, method, &target, &tag).await.expect(304);
            assert!(!answer.headers.contains_key("content-length"), "{:?}", answer.headers);
            assert!(answer.body.is_empty(), "{tag}");
            assert_eq!(answer.header("etag"), format!("\"{digest}\""), "{tag}");
            // RFC 9110 §15.4.5: the headers of the full response.
            assert!(answer.header("cache-control").contains("max-age=31536000"), "{tag}");
        }
    }
    for tag in [format!("\"{other}\""), "\"\"".to_owned(), "nonsense".to_owned()] {
        unless(&server, "GET", &target, &tag).await.expect(200);
    }
}

#[tokio::test]
async fn condition_does_not_make_a_missing_blob_appear() {
    let server = TestServer::start().await;
    server.push_blob("app", "something").await;
    let target = format!("/v2/app/blobs/{}", digest("missing"));
    unless(&server, "GET", &target, "*").await.expect_error(404, ErrorCode::BlobUnknown);
}

#[tokio::test]
async fn unchanged_blob_gets_304_even_for_a_range() {
    let server = TestServer::start().await;
    let digest = server.push_blob("app", noise(10, 100)).await;
    server
        .request("GET", &format!("/v2/app/blobs/{digest}"))
        .header("range", "bytes=0-9")
        .header("if-none-match", format!("\"{digest}\""))
        .answer()
        .await
        .expect(304);
}

#[tokio::test]
async fn unknown_blob_is_unknown() {
    let server = TestServer::start().await;
    server.push_blob("app", "something").await;
    let target = format!("/v2/app/blobs/{}", digest("missing"));
    let get = server.get(&target).await;
    get.expect_error(404, ErrorCode::BlobUnknown);
    assert!(server.head(&target).await.expect(404).body.is_empty());
    let missing = digest512("missing");
    let get = server.get(&format!("/v2/app/blobs/{missing}")).await;
    get.expect_error(404, ErrorCode::BlobUnknown);
    let nowhere = server.get(&format!("/v2/nowhere/blobs/{missing}")).await;
    nowhere.expect(404);
}

#[tokio::test]
async fn malformed_digest_finds_nothing() {
    let server = TestServer::start().await;
    let digest = server.push_blob("app", "something").await;
    let hex = digest.strip_prefix("sha256:").unwrap();
    for bad in [
        "sha256:abc".to_owned(),
        format!("sha256:{}", hex.to_uppercase()),
        format!("sha256:{hex}0"),
        format!("sha512:{hex}"),
        format!("md5:{hex}"),
        hex.to_owned(),
        "sha256:..%2f..%2f..%2fx".to_owned(),
    ] {
        let answer = server.get(&format!("/v2/app/blobs/{bad}")).await;
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{bad}: {answer:?}");
    }
}

#[tokio::test]
async fn digest_may_be_percent_encoded() {
    let server = TestServer::start().await;
    let bytes = b"something".to_vec();
    let digest = digest(&bytes).replace(':', "%3A");
    server
        .request("POST", &format!("/v2/app/blobs/uploads/?digest={digest}"))
        .body(bytes.clone())
        .answer()
        .await
        .expect(201);
    let answer = server.get(&format!("/v2/app/blobs/{digest}")).await;
    assert_eq!(answer.expect(200).body, bytes);
}

#[tokio::test]
async fn sha512_blobs_are_blobs() {
    let server = TestServer::start().await;
    let bytes = noise(11, 3000);
    let digest = digest512(&bytes);
    server
        .request("POST", &format!("/v2/app/blobs/uploads/?digest={digest}"))
        .body(bytes.clone())
        .answer()
        .await
        .expect(201);
    let target = format!("/v2/app/blobs/{digest}");
    let answer = server.get(&target).await.expect(200);
    assert_eq!(answer.body, bytes);
    let said = answer.header("docker-content-digest");
    assert!(said == digest || said == crate::support::digest(&bytes), "{said}");
    let head = server.head(&target).await.expect(200);
    assert_eq!(head.header("content-length"), "3000");
    let part = ranged(&server, &target, "bytes=-10").await.expect(206);
    assert_eq!(part.body, bytes[2990..]);
    server.delete(&target).await.expect(202);
    server.get(&target).await.expect_error(404, ErrorCode::BlobUnknown);
}

#[tokio::test]
async fn empty_blob_is_a_blob() {
    let server = TestServer::start().await;
    let digest = server.push_blob("app", "").await;
    let target = format!("/v2/app/blobs/{digest}");
    for answer in [server.get(&target).await, server.head(&target).await] {
        let answer = answer.expect(200);
        assert_eq!(answer.header("content-length"), "0");
        assert!(answer.body.is_empty());
    }
    let part = ranged(&server, &target, "bytes=0-").await;
    assert!(matches!(part.status.as_u16(), 200 | 416), "{part:?}");
}

#[tokio::test]
async fn deleted_blob_is_unknown_and_can_be_pushed_again() {
    let server = TestServer::start().await;
    let digest = server.push_blob("app", "something").await;
    let target = format!("/v2/app/blobs/{digest}");
    server.delete(&target).await.expect(202);
    server.get(&target).await.expect_error(404, ErrorCode::BlobUnknown);
    server.head(&target).await.expect(404);
    server.delete(&target).await.expect_error(404, ErrorCode::BlobUnknown);
    server.push_blob("app", "something").await;
    assert_eq!(server.get(&target).await.expect(200).body, "something");
}

#[tokio::test]
async fn deleting_a_blob_leaves_it_in_other_repositories() {
    let server = TestServer::start().await;
    let digest = server.push_blob("one", "shared").await;
    server.push_blob("two", "shared").await;
    server.delete(&format!("/v2/one/blobs/{digest}")).await.expect(202);
    server.get(&format!("/v2/one/blobs/{digest}")).await.expect(404);
    let other = server.get(&format!("/v2/two/blobs/{digest}")).await;
    assert_eq!(other.expect(200).body, "shared");
}

#[tokio::test]
async fn blob_stays_with_deletion_disabled() {
    let server = TestServer::with(|config| config.storage.delete.enabled = false).await;
    let digest = server.push_blob("app", "something").await;
    let target = format!("/v2/app/blobs/{digest}");
    server.delete(&target).await.expect_error(405, ErrorCode::Unsupported);
    server.get(&target).await.expect(200);
}

#[tokio::test]
async fn referenced_blob_stays_until_its_image_is_deleted() {
    let server = TestServer::start().await;
    let pushed = image(&server, "app", "latest").await;
    for blob in [&pushed.config, &pushed.layer] {
        let target = format!("/v2/app/blobs/{blob}");
        let answer = server.delete(&target).await.expect_error(409, ErrorCode::Denied);
        let error = &answer.json()["errors"][0];
        assert_eq!(error["detail"]["manifests"], json!([pushed.digest]));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("delete them first"), "{message}");
        assert!(message.contains("storage.delete.blobs: force"), "{message}");
        server.get(&target).await.expect(200);
    }
    server.delete(&format!("/v2/app/manifests/{}", pushed.digest)).await.expect(202);
    for blob in [&pushed.config, &pushed.layer] {
        server.delete(&format!("/v2/app/blobs/{blob}")).await.expect(202);
    }
}

#[tokio::test]
async fn force_deletes_a_blob_that_an_image_references() {
    let server = TestServer::with(|config| {
        config.storage.delete.blobs = portcullis::http::DeletableBlobs::Force;
    })
    .await;
    let pushed = image(&server, "app", "latest").await;
    let target = format!("/v2/app/blobs/{}", pushed.layer);
    server.delete(&target).await.expect(202);
    server.get(&target).await.expect_error(404, ErrorCode::BlobUnknown);
}

#[tokio::test]
async fn blob_is_private_to_its_repository() {
    let server = TestServer::start().await;
    let digest = server.push_blob("team/a", "secret").await;
    server.push_blob("team/b", "other").await;
    for other in ["team/b", "team", "team/a/sub", "nowhere"] {
        let target = format!("/v2/{other}/blobs/{digest}");
        for method in ["GET", "HEAD", "DELETE"] {
            let answer = server.request(method, &target).answer().await;
            assert_eq!(answer.status, 404, "{method} {other}");
        }
    }
    server.post(&format!("/v2/team/b/blobs/uploads/?mount={digest}&from=team/a")).await.expect(201);
    let mounted = server.get(&format!("/v2/team/b/blobs/{digest}")).await;
    assert_eq!(mounted.expect(200).body, "secret");
}

#[tokio::test]
async fn blob_in_two_repositories_is_stored_once() {
    let server = TestServer::start().await;
    server.push_blob("one", "shared").await;
    server.push_blob("two", "shared").await;
    let data = files(&server.tree().join("blobs"));
    let data: Vec<_> = data.iter().filter(|file| file.ends_with("/data")).collect();
    assert_eq!(data.len(), 1, "{data:?}");
}

#[tokio::test]
async fn blob_is_pushed_twice_without_harm() {
    let server = TestServer::start().await;
    let digest = server.push_blob("app", "something").await;
    server.push_blob("app", "something").await;
    let answer = server.get(&format!("/v2/app/blobs/{digest}")).await;
    assert_eq!(answer.expect(200).body, "something");
}

#[tokio::test]
async fn method_that_blobs_do_not_have_is_unsupported() {
    let server = TestServer::start().await;
    let digest = server.push_blob("app", "something").await;
    for method in ["PUT", "POST", "PATCH"] {
        let target = format!("/v2/app/blobs/{digest}");
        let answer = server.request(method, &target).answer().await;
        answer.expect_error(405, ErrorCode::Unsupported);
    }
}

#[tokio::test]
async fn blobs_outlive_a_restart() {
    let server = TestServer::start().await;
    let bytes = noise(12, 100_000);
    let digest = server.push_blob("app", bytes.clone()).await;
    let server = server.restart().await;
    let answer = server.get(&format!("/v2/app/blobs/{digest}")).await;
    assert_eq!(answer.expect(200).body, bytes);
}

#[tokio::test]
async fn memory_is_a_storage() {
    let server = TestServer::with(|config| config.storage.backend = storage::Options::Memory).await;
    let image = image(&server, "app", "latest").await;
    let answer = server.get("/v2/app/manifests/latest").await.expect(200);
    assert_eq!(answer.text(), image.manifest);
    let layer = format!("/v2/app/blobs/{}", image.layer);
    let part = ranged(&server, &layer, "bytes=0-4").await.expect(206);
    assert_eq!(part.body, "layer");
    let location = server.open_upload("app").await;
    server.patch(&location, Some("0-3"), "abcd").await.expect(202);
    let close = crate::support::content::closing(&location, &digest("abcdef"));
    server.put(&close, "ef").await.expect(201);
    server.delete("/v2/app/manifests/latest").await.expect(202);
    server.get("/v2/app/manifests/latest").await.expect(404);
    let folder = server.stop().await;
    assert_eq!(files(folder.path()), ["htpasswd"]);
}
