//! Clients that misbehave: that disconnect, send wrong lengths and ranges, or are slow.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    Answered as _, TestServer,
    content::{OCI_INDEX, closing},
    digest, files, h2, noise,
    process::Process,
    raw,
};

/// The path of a `Location`.
fn path<'a>(server: &TestServer, location: &'a str) -> &'a str {
    location.strip_prefix(&server.base).unwrap()
}

/// The files of the tree outside upload sessions.
fn content(server: &TestServer) -> Vec<String> {
    files(&server.tree()).into_iter().filter(|file| !file.contains("/_uploads/")).collect()
}

/// Waits until the server has no more tasks than before: no task waits for a client that is gone.
async fn tasks_come_down_to(server: &TestServer, tasks: usize) {
    let alive = || server.app().tasks();
    let coming = async {
        while alive() > tasks {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let came = tokio::time::timeout(raw::GUARD, coming).await;
    assert!(came.is_ok(), "{} tasks are alive, not {tasks}", alive());
}

/// Ways to interrupt an upload: the head of a request, and the sent part of its body.
fn stages(session: &str, whole: &str) -> Vec<(String, &'static [u8])> {
    let uploads = "/v2/app/blobs/uploads/";
    let chunked = "transfer-encoding: chunked\r\n";
    let manifest = format!("PUT /v2/app/manifests/latest\r\ncontent-type: {OCI_INDEX}\r\n");
    [
        (format!("POST {uploads}\r\n"), &b""[..]),
        (format!("POST {uploads}\r\ncontent-length: 9\r\n"), b""),
        (format!("POST {uploads}?digest={whole}\r\ncontent-length: 9\r\n"), b""),
        (format!("POST {uploads}?digest={whole}\r\ncontent-length: 9\r\n"), b"abcdefgh"),
        (format!("POST {uploads}?digest={whole}\r\n{chunked}"), b"9\r\nabcdefghi"),
        (format!("POST {uploads}?digest={whole}\r\n{chunked}"), b"9\r\nabcdefghi\r\n"),
        (format!("POST {uploads}?digest={whole}\r\n{chunked}"), b"9\r\nabcdefghi\r\n0\r\n"),
        (format!("PATCH {session}\r\ncontent-length: 9\r\ncontent-range: 0-8\r\n"), b""),
        (format!("PATCH {session}\r\ncontent-length: 9\r\ncontent-range: 0-8\r\n"), b"abc"),
        (format!("PATCH {session}\r\n{chunked}content-range: 0-8\r\n"), b"3\r\nabc\r\n6"),
        (format!("PATCH {session}\r\n{chunked}content-range: 0-8\r\n"), b"3\r\nabc\r\nx\r\n"),
        (format!("PUT {session}?digest={whole}\r\ncontent-length: 9\r\n"), b""),
        (format!("{manifest}content-length: 99\r\n"), b"{"),
        (format!("{manifest}{chunked}"), b"2\r\n{}\r\n"),
    ]
    .into()
}

/// Sends a part and disappears: the socket is reset, without an end of TLS.
async fn vanish(mut stream: raw::Stream, part: &[u8]) {
    stream.write_all(part).await.unwrap();
    stream.flush().await.unwrap();
    stream.get_ref().0.set_zero_linger().unwrap();
}

#[tokio::test]
async fn client_that_hangs_up_at_any_stage_leaves_nothing_half_done() {
    let server = TestServer::start().await;
    let whole = digest("abcdefghi");
    server.get("/v2/").await.expect(200);
    let tasks = server.app().tasks();
    assert!(tasks > 0, "the client's connection is one");
    let location = server.open_upload("app").await;
    for (head, part) in stages(path(&server, &location), &whole) {
        vanish(server.begin(&head).await, part).await;
        server.break_off(&head, part).await;
        // In the middle of the head, too.
        let mut stream = server.connect(&[]).await;
        stream.write_all(&head.as_bytes()[..head.len() / 2]).await.unwrap();
        vanish(stream, b"").await;
    }
    tasks_come_down_to(&server, tasks).await;
    server.settles().await;
    assert_eq!(content(&server), Vec::<String>::new());
    // Only the session whose id the client knows keeps the received bytes.
    let kept = files(&server.tree()).into_iter().filter(|file| file.ends_with("/data"));
    let id = location.rsplit('/').next().unwrap();
    let kept: Vec<_> = kept.filter(|file| !file.contains(id)).collect();
    assert_eq!(kept, Vec::<String>::new());
    server.get(&format!("/v2/app/blobs/{whole}")).await.expect(404);
    server.get("/v2/app/manifests/latest").await.expect(404);
    // The session that was interrupted again and again can still become a blob.
    let have = server.get(&location).await.expect(204).header("range").to_owned();
    let from = if have == "0-0" { 0 } else { have[2..].parse::<usize>().unwrap() + 1 };
    let rest = "abcdefghi"[from..].to_owned();
    let range = format!("{from}-8");
    server.patch(&location, Some(&range), rest).await.expect(202);
    server.put(&closing(&location, &whole), "").await.expect(201);
    assert_eq!(server.get(&format!("/v2/app/blobs/{whole}")).await.expect(200).text(), "abcdefghi");
}

#[tokio::test]
async fn pull_whose_client_disconnects_frees_its_resources() {
    let server = Process::start(&[]);
    let bytes = noise(70, 8 << 20);
    let target = format!("/v2/app/blobs/uploads/?digest={}", digest(&bytes));
    server.request("POST", &target).body(bytes.clone()).answer().await.expect(201);
    let blob = format!("/v2/app/blobs/{}", digest(&bytes));
    server.request("GET", "/v2/").answer().await.expect(200);
    let before = server.descriptors();
    for round in 0..40 {
        let mut stream = raw::connect(server.addr, &server.ca(), &[]).await;
        let user = raw::authorization();
        let head = format!("GET {blob} HTTP/1.1\r\nhost: a\r\nauthorization: {user}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.read_exact(&mut vec![0; 1 + round * 997]).await.unwrap();
        if round % 2 == 0 {
            stream.get_ref().0.set_zero_linger().unwrap();
        }
    }
    server.comes_down_to(before).await;
    let answer = server.request("GET", &blob).answer().await.expect(200);
    assert!(answer.body == bytes);
    // None of this is a server error.
    let log = server.end().await;
    assert!(!log.contains("level=error"), "{log}");
}

/// The surplus is read as the next request of the connection, a malformed one.
#[tokio::test]
async fn bytes_beyond_the_content_length_are_not_part_of_a_blob() {
    let server = TestServer::start().await;
    let claimed = digest("abcd");
    let head = format!("POST /v2/app/blobs/uploads/?digest={claimed}\r\ncontent-length: 4\r\n");
    let stream = server.begin(&head).await;
    let answer = raw::exchange(stream, b"abcdefghi\r\n\r\n").await;
    assert_eq!(raw::status(&answer), Some(201), "{answer}");
    let (_, next) = answer.split_once("\r\n\r\n").unwrap();
    assert!(raw::status(next).is_none_or(|status| status == 400), "{answer}");
    assert_eq!(server.get(&format!("/v2/app/blobs/{claimed}")).await.expect(200).text(), "abcd");
    server.get(&format!("/v2/app/blobs/{}", digest("abcdefghi"))).await.expect(404);
}

/// Two readings of the end of a request let one request hide in another (request smuggling).
#[tokio::test]
async fn content_length_malformed_or_twice_is_refused_and_nothing_is_stored() {
    let server = TestServer::start().await;
    let target = format!("POST /v2/app/blobs/uploads/?digest={}", digest("abcd"));
    for lengths in [
        "content-length: -4\r\n",
        "content-length: +4\r\n",
        "content-length: 0x4\r\n",
        "content-length: 4 4\r\n",
        "content-length: 4, 5\r\n",
        "content-length: \r\n",
        "content-length: 18446744073709551620\r\n",
        "content-length: 99999999999999999999999999\r\n",
        "content-length: 4\r\ncontent-length: 5\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: \x0bchunked\r\n",
        "transfer-encoding : chunked\r\n",
    ] {
        let head = format!("{target}\r\nconnection: close\r\n{lengths}");
        let answer = raw::exchange(server.begin(&head).await, b"abcd").await;
        let status = raw::status(&answer);
        assert!(matches!(status, None | Some(400 | 413 | 501)), "{lengths:?}: {answer}");
        assert_eq!(content(&server), Vec::<String>::new(), "{lengths:?}");
    }
    server.get("/v2/").await.expect(200);
    server.settles().await;
}

#[tokio::test]
async fn chunk_size_malformed_is_refused_and_nothing_is_stored() {
    let server = TestServer::start().await;
    let target = format!("POST /v2/app/blobs/uploads/?digest={}", digest("abcd"));
    for body in ["-4\r\nabcd", "4;\nabcd", "fffffffffffffffff\r\nabcd", "4\r\nabcdefgh\r\n0\r\n"] {
        let head = format!("{target}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n");
        let answer = raw::exchange(server.begin(&head).await, body.as_bytes()).await;
        assert!(matches!(raw::status(&answer), None | Some(400)), "{body:?}: {answer}");
        assert_eq!(content(&server), Vec::<String>::new(), "{body:?}");
    }
    // The server does not read endless chunk extensions.
    let head = format!("{target}\r\ntransfer-encoding: chunked\r\n");
    let mut stream = server.begin(&head).await;
    let endless = async { while stream.write_all(&[b'1', b';'].repeat(8192)).await.is_ok() {} };
    tokio::time::timeout(raw::GUARD, endless).await.expect("the server hangs up");
    server.get("/v2/").await.expect(200);
    server.settles().await;
}

/// HTTP/2 knows where a body ends without its length, so a length can be contradicted.
#[tokio::test]
async fn stream_that_contradicts_its_content_length_makes_no_blob() {
    let server = TestServer::start().await;
    let (addr, ca) = (server.addr(), server.authority());
    server.get("/v2/").await.expect(200);
    let tasks = server.app().tasks();
    for (sent, length) in [("abcd", "3"), ("abcd", "5"), ("", "4"), ("abcd", "0")] {
        let target = format!("/v2/app/blobs/uploads/?digest={}", digest(sent));
        let mut connection =
            h2::Connection::open(addr, &ca, &h2::frame(h2::SETTINGS, 0, 0, &[])).await;
        let block = h2::block("POST", &target, &[("content-length", length)]);
        connection.send(&h2::frame(h2::HEADERS, h2::END_HEADERS, 1, &block)).await;
        connection.send(&h2::frame(h2::DATA, h2::END_STREAM, 1, sent.as_bytes())).await;
        let over = |frame: &h2::Frame| {
            frame.stream == 1 && matches!(frame.kind, h2::HEADERS | h2::RST_STREAM)
                || frame.kind == h2::GOAWAY
        };
        let frames = connection.until(over).await;
        let created = |frame: &h2::Frame| frame.kind == h2::HEADERS && frame.is_status(8);
        assert!(!frames.iter().any(created), "{sent} {length}: {frames:?}");
        assert_eq!(content(&server), Vec::<String>::new(), "{sent} {length}");
        // The reset leaves before the handler ends, which then removes the upload.
        drop(connection);
        tasks_come_down_to(&server, tasks).await;
        assert_eq!(files(&server.tree()), Vec::<String>::new(), "{sent} {length}");
    }
    server.get("/v2/").await.expect(200);
    server.settles().await;
}

#[tokio::test]
async fn slow_upload_is_served_and_delays_no_other_client() {
    let server = TestServer::start().await;
    let trickle = async |nth: usize| {
        let body = format!("{nth:05}");
        let head = format!(
            "POST /v2/app/blobs/uploads/?digest={}\r\ncontent-length: 5\r\nconnection: close\r\n",
            digest(&body)
        );
        let mut stream = server.begin(&head).await;
        for byte in body.as_bytes() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stream.write_all(&[*byte]).await.unwrap();
            stream.flush().await.unwrap();
        }
        let answer = raw::rest(&mut stream).await;
        assert_eq!(raw::status(&answer), Some(201), "{answer}");
    };
    let trickling = join_all((0..128).map(trickle));
    let others = async {
        for nth in 0..50 {
            server.push_blob("other", format!("other {nth}")).await;
        }
    };
    tokio::time::timeout(raw::GUARD, async { tokio::join!(trickling, others) }).await.unwrap();
}

#[tokio::test]
async fn content_range_impossible_adds_nothing() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    server.patch(&location, None, "abcd").await.expect(202);
    let whole = digest("abcdef");
    for range in [
        "4-18446744073709551615",
        "0-18446744073709551615",
        "18446744073709551614-18446744073709551615",
        "18446744073709551615-18446744073709551616",
        "-1-4",
        "3-5",
        "0-5",
        "4-5-6",
        "+4-+5",
        "4-5,6-7",
        "",
    ] {
        for (method, target) in [("PATCH", location.clone()), ("PUT", closing(&location, &whole))] {
            let request = server.request(method, &target).header("content-range", range);
            let answer = request.body("ef").answer().await;
            assert!(matches!(answer.status.as_u16(), 400 | 416), "{range}: {answer:?}");
            let status = server.get(&location).await.expect(204);
            assert_eq!(status.header("range"), "0-3", "{method} {range}");
        }
    }
    server.put(&closing(&location, &whole), "ef").await.expect(201);
}

/// An announced length must not fill the disk.
#[tokio::test]
async fn huge_length_is_refused_or_waits_without_taking_room() {
    use std::os::unix::fs::MetadataExt as _;
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    let path = path(&server, &location).to_owned();
    let data = path.rsplit('/').next().unwrap();
    let data = server.tree().join(format!("repositories/app/_uploads/{data}/data"));
    for length in [i64::MAX.to_string(), (1_u64 << 60).to_string(), (1_u64 << 45).to_string()] {
        let head = format!("PATCH {path}\r\ncontent-length: {length}\r\n");
        server.break_off(&head, b"").await;
        server.get(&location).await.expect(204);
        let room = std::fs::metadata(&data).map_or(0, |metadata| metadata.blocks() * 512);
        assert!(room < 8 << 20, "{length}: {room}");
    }
    server.patch(&location, None, "abcd").await.expect(202);
    server.put(&closing(&location, &digest("abcd")), "").await.expect(201);
}

#[tokio::test]
async fn bytes_that_are_not_http_are_refused_and_the_connection_ends() {
    let server = TestServer::start().await;
    let user = raw::authorization();
    for head in [
        "GET /v2/ HTTP/1.1\r\nx: folded\r\n over lines\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nx : y\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nx: a\0b\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\n\0: b\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nx: a\rb: c\r\n\r\n",
        "GET /v2/ HTTP/2.0\r\n\r\n",
        "GET /v2/ HTTP/1.2\r\n\r\n",
        "GET /v2/ \u{1b}[31m HTTP/1.1\r\n\r\n",
        "GET /v2/\t HTTP/1.1\r\n\r\n",
        "GET\t/v2/ HTTP/1.1\r\n\r\n",
        "G\u{e4}T /v2/ HTTP/1.1\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        // The credentials are right, so that an accepted head gets 200.
        let believed = format!(" HTTP/1.1\r\nauthorization: {user}\r\nhost: a\r\n");
        let head = head.replacen(" HTTP/1.1\r\n", &believed, 1);
        let answer = raw::exchange(server.connect(&[]).await, head.as_bytes()).await;
        assert!(matches!(raw::status(&answer), None | Some(400)), "{head:?}: {answer}");
    }
    server.get("/v2/").await.expect(200);
}

/// A range that is not text must be refused like any other malformed one, not ignored: the server
/// would write the chunk at the wrong offset.
#[tokio::test]
async fn content_range_that_is_not_text_adds_nothing() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    server.patch(&location, None, "abcd").await.expect(202);
    for range in ["\u{664}-\u{665}", "0-1\u{a0}", "900-901\u{e4}"] {
        let answer = server.patch(&location, Some(range), "ef").await;
        assert!(matches!(answer.status.as_u16(), 400 | 416), "{range}: {answer:?}");
        let status = server.get(&location).await.expect(204);
        assert_eq!(status.header("range"), "0-3", "{range}");
    }
}

/// Of two contradictory ranges none must be chosen.
#[tokio::test]
async fn content_range_twice_adds_nothing() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    let request = server.request("PATCH", &location).body("abcd");
    let request = request.header("content-range", "0-3").header("content-range", "900-903");
    let answer = request.answer().await;
    assert!(matches!(answer.status.as_u16(), 400 | 416), "{answer:?}");
    assert_eq!(server.get(&location).await.expect(204).header("range"), "0-0");
}
