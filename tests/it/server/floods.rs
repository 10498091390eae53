//! Floods of heads, frames, streams and connections. Other clients are served meanwhile, and memory
//! is bounded.

use std::fmt::Write as _;

use portcullis::gate::htpasswd::BcryptHash;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    Answered as _, TestServer, digest,
    h2::{self, Connection, Frame},
    noise,
    process::{Before, Process, ROOM},
    raw,
    server::{PASSWORD, USER, client_builder},
};

/// The idle timeout, as short as a test needs.
const IMPATIENT: [(&str, &str); 1] = [("REGISTRY_HTTP_IDLETIMEOUT", "1s")];

/// The outcome of a flood.
#[derive(Debug)]
struct Outcome {
    /// The server ended the connection.
    closed: bool,
    /// The reason in its GOAWAY.
    reason: Option<u32>,
    /// The number of responses with 200.
    served: usize,
}

/// Sends the `pieces` over one HTTP/2 connection and reads the responses; then checks with a PING
/// whether the server still serves it. Another client is served all the while.
async fn flood(
    server: &Process,
    settings: &[u8],
    pieces: impl Iterator<Item = Vec<u8>>,
) -> Outcome {
    let Connection { mut reader, mut writer } =
        Connection::open(server.addr, &server.ca(), settings).await;
    let sending = async {
        for piece in pieces {
            if writer.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = writer.write_all(&h2::frame(h2::PING, 0, 0, b"the end.")).await;
        let _ = writer.flush().await;
    };
    let reading = async {
        let mut outcome = Outcome { closed: true, reason: None, served: 0 };
        while let Some(frame) = reader.next().await {
            match frame.kind {
                h2::GOAWAY => {
                    let code = &frame.payload[4..8];
                    outcome.reason = Some(u32::from_be_bytes(code.try_into().unwrap()));
                }
                h2::PING if frame.flags == h2::ACK && frame.payload == b"the end." => {
                    outcome.closed = false;
                    break;
                }
                h2::HEADERS if frame.is_status(8) => outcome.served += 1,
                _ => {}
            }
        }
        outcome
    };
    // Once the server has closed, the rest is not sent.
    let flooding = async {
        let mut sending = std::pin::pin!(sending);
        let mut reading = std::pin::pin!(reading);
        tokio::select! {
            outcome = &mut reading => return outcome,
            () = &mut sending => {}
        }
        reading.await
    };
    let others = async {
        loop {
            server.request("GET", "/v2/").answer().await.expect(200);
            tokio::task::yield_now().await;
        }
    };
    let served = async {
        server.request("GET", "/v2/").answer().await.expect(200);
        tokio::select! {
            outcome = flooding => outcome,
            () = others => unreachable!("it goes on for ever"),
        }
    };
    tokio::time::timeout(raw::GUARD, served).await.unwrap()
}

fn empty_settings() -> Vec<u8> {
    h2::frame(h2::SETTINGS, 0, 0, &[])
}

#[tokio::test]
async fn streams_that_are_reset_as_soon_as_opened_end_the_connection() {
    let before = Before::start().await;
    let pieces = (0..50_000).map(h2::number).map(|stream| {
        let reset = h2::frame(h2::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        [h2::request(stream, "GET", "/v2/_catalog"), reset].concat()
    });
    let outcome = flood(&before.server, &empty_settings(), pieces).await;
    assert!(outcome.closed, "{:?}", outcome.reason);
    before.is_back().await;
}

/// Each holds a file until its client goes.
#[tokio::test]
async fn uploads_that_are_reset_leave_no_file_open() {
    let before = Before::start().await;
    let (addr, ca) = (before.server.addr, before.server.ca());
    let mut connection = Connection::open(addr, &ca, &empty_settings()).await;
    let target = format!("/v2/app/blobs/uploads/?digest={}", digest("never"));
    let block = h2::block("POST", &target, &[]);
    for round in 0..10 {
        let streams: Vec<u32> = (round * 21..round * 21 + 20).map(h2::number).collect();
        for stream in &streams {
            let head = h2::frame(h2::HEADERS, h2::END_HEADERS, *stream, &block);
            connection.send(&[head, h2::frame(h2::DATA, 0, *stream, b"neve")].concat()).await;
        }
        // A request after them gets its response, so all of them are being handled.
        let behind = h2::number(round * 21 + 20);
        connection.send(&h2::request(behind, "GET", "/v2/")).await;
        connection.until(|frame| frame.stream == behind).await;
        for stream in &streams {
            connection.send(&h2::frame(h2::RST_STREAM, 0, *stream, &8_u32.to_be_bytes())).await;
        }
    }
    // The connection lives on.
    let next = h2::number(1000);
    connection.send(&h2::request(next, "GET", "/v2/")).await;
    let frames = connection.until(|frame| frame.stream == next).await;
    assert!(frames.last().is_some_and(|frame| frame.is_status(8)), "{frames:?}");
    before.server.comes_down_to(before.descriptors + 1).await;
    drop(connection);
    before.is_back().await;
}

/// The log must show that they happened.
#[tokio::test]
async fn request_whose_client_disconnects_before_the_response_is_logged() {
    let server = Process::start(&[]);
    let mut connection = Connection::open(server.addr, &server.ca(), &empty_settings()).await;
    // From then on no request waits for bcrypt, and requests begin in their order.
    let known = h2::number(0);
    connection.send(&h2::request(known, "GET", "/v2/")).await;
    connection.until(|frame| frame.stream == known).await;
    let target = format!("/v2/app/blobs/uploads/?digest={}", digest("never"));
    let (stream, behind) = (h2::number(1), h2::number(2));
    let head = h2::frame(h2::HEADERS, h2::END_HEADERS, stream, &h2::block("POST", &target, &[]));
    connection.send(&[head, h2::frame(h2::DATA, 0, stream, b"neve")].concat()).await;
    connection.send(&h2::request(behind, "GET", "/v2/")).await;
    connection.until(|frame| frame.stream == behind).await;
    connection.send(&h2::frame(h2::RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await;
    let (_, requests) = server.end_with_access().await;
    let line =
        requests.lines().find(|line| line.contains("POST")).unwrap_or_else(|| panic!("{requests}"));
    assert!(line.contains(" HTTP/2.0\" 499 0 ") && line.contains(" repository=app "), "{line}");
}

#[tokio::test]
async fn endless_head_ends_the_connection() {
    let before = Before::start().await;
    for continuation in [vec![0; 16_384], h2::block("GET", "/v2/", &[]), Vec::new()] {
        let block = h2::block("GET", "/v2/", &[]);
        let head = h2::frame(h2::HEADERS, h2::END_STREAM, 1, &block);
        let endless = std::iter::repeat_n(h2::frame(h2::CONTINUATION, 0, 1, &continuation), 20_000);
        let pieces = std::iter::once(head).chain(endless);
        let outcome = flood(&before.server, &empty_settings(), pieces).await;
        assert!(outcome.closed, "{outcome:?}");
    }
    before.is_back().await;
}

/// A few bytes that stand for many: one large header in the table, referenced again and again.
#[tokio::test]
async fn head_that_decompresses_to_megabytes_is_refused() {
    let before = Before::start().await;
    let pieces = (0..40).map(h2::number).flat_map(|stream| {
        let mut block = h2::block("GET", "/v2/", &[]);
        block.push(0x40);
        h2::string(&mut block, "x-large");
        h2::string(&mut block, &"x".repeat(4000));
        block.extend(std::iter::repeat_n(0xbe, 10_000));
        let end = h2::END_HEADERS | h2::END_STREAM;
        std::iter::once(h2::frame(h2::HEADERS, end, stream, &block))
    });
    let outcome = flood(&before.server, &empty_settings(), pieces).await;
    // It may close, reset the streams or answer each with 431, but not keep 40 MB a head.
    assert_eq!(outcome.served, 0, "{outcome:?}");
    before.is_back().await;
}

#[tokio::test]
async fn head_of_megabytes_is_refused_in_http_2() {
    let server = TestServer::start().await;
    let long = "x".repeat(60_000);
    for more in [vec![("x-long", long.as_str())], vec![("x-short", "x"); 3_000]] {
        let (addr, ca) = (server.addr(), server.authority());
        let mut connection = Connection::open(addr, &ca, &empty_settings()).await;
        let block = h2::block("GET", "/v2/", &more);
        let mut pieces = block.chunks(16_384).peekable();
        let mut bytes = Vec::new();
        let mut kind = h2::HEADERS;
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { h2::END_HEADERS } else { 0 };
            let end = if kind == h2::HEADERS { h2::END_STREAM } else { 0 };
            bytes.extend(h2::frame(kind, last | end, 1, piece));
            kind = h2::CONTINUATION;
        }
        // It may close before all has been sent.
        let _ = connection.writer.write_all(&bytes).await;
        let _ = connection.writer.flush().await;
        let over = |frame: &Frame| matches!(frame.kind, h2::HEADERS | h2::RST_STREAM | h2::GOAWAY);
        let frames = connection.until(over).await;
        assert!(!frames.iter().any(|frame| frame.is_status(8)), "it was served: {frames:?}");
    }
    server.get("/v2/").await.expect(200);
}

#[tokio::test]
async fn frames_that_ask_for_nothing_end_the_connection_when_they_do_not_end() {
    let before = Before::start().await;
    let idle = |kind, flags, stream, payload: &[u8]| h2::frame(kind, flags, stream, payload);
    let upload = h2::block("PATCH", "/v2/a/blobs/uploads/x", &[("authorization", "none")]);
    for (first, again) in [
        (empty_settings(), idle(h2::SETTINGS, 0, 0, &[])),
        (empty_settings(), h2::setting(4, 65_535)),
        (empty_settings(), idle(h2::PING, 0, 0, b"whatever")),
        // PRIORITY, and an unknown type.
        (empty_settings(), idle(2, 0, 1, &[0, 0, 0, 3, 16])),
        (empty_settings(), idle(0xfa, 0, 0, &[0; 64])),
        // Empty DATA frames on an open stream.
        (idle(h2::HEADERS, h2::END_HEADERS, 1, &upload), idle(h2::DATA, 0, 1, &[])),
        (empty_settings(), idle(h2::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
    ] {
        let pieces = std::iter::once(first).chain(std::iter::repeat_n(again.repeat(100), 500));
        let outcome = flood(&before.server, &empty_settings(), pieces).await;
        assert!(outcome.closed, "{again:?}: {outcome:?}");
    }
    before.is_back().await;
}

/// A client that reads a blob in small pieces raises its windows for each of them.
#[tokio::test]
async fn window_updates_for_received_bytes_do_not_end_the_connection() {
    let before = Before::start().await;
    let bytes = noise(82, 6 << 20);
    let target = format!("/v2/app/blobs/uploads/?digest={}", digest(&bytes));
    before.server.request("POST", &target).body(bytes.clone()).answer().await.expect(201);
    let blob = format!("/v2/app/blobs/{}", digest(&bytes));
    let (addr, ca) = (before.server.addr, before.server.ca());
    let mut connection = Connection::open(addr, &ca, &empty_settings()).await;
    connection.send(&h2::request(1, "GET", &blob)).await;
    let (mut taken, mut raised) = (0, 0);
    while taken < bytes.len() {
        let frames = connection.until(|frame| frame.kind == h2::DATA).await;
        let length = frames.last().expect("the connection goes on").payload.len();
        taken += length;
        let piece = |stream| h2::frame(h2::WINDOW_UPDATE, 0, stream, &512_u32.to_be_bytes());
        let both = [piece(0), piece(1)].concat().repeat(length / 512);
        raised += 2 * (length / 512);
        connection.send(&both).await;
        let rest = u32::try_from(length % 512).unwrap();
        if rest > 0 {
            let piece = |stream| h2::frame(h2::WINDOW_UPDATE, 0, stream, &rest.to_be_bytes());
            connection.send(&[piece(0), piece(1)].concat()).await;
        }
    }
    assert!(raised > 20_000, "{raised}");
    connection.send(&h2::request(3, "GET", "/v2/")).await;
    let frames = connection.until(|frame| frame.stream == 3).await;
    assert!(frames.last().is_some_and(|frame| frame.is_status(8)), "{frames:?}");
}

/// The client sends requests and does not read.
#[tokio::test]
async fn unread_responses_are_bounded() {
    let before = Before::start().await;
    let Connection { reader, mut writer } =
        Connection::open(before.server.addr, &before.server.ca(), &empty_settings()).await;
    let pings = h2::frame(h2::PING, 0, 0, b"whatever").repeat(1000);
    let asking = async {
        let mut sent = 0;
        while sent < 64 << 20 && writer.write_all(&pings).await.is_ok() {
            sent += pings.len();
        }
    };
    let others = async {
        for _ in 0..300 {
            before.server.request("GET", "/v2/").answer().await.expect(200);
        }
    };
    // The server stops reading, or closes, or reads everything.
    tokio::select! {
        () = asking => {}
        () = others => {}
    }
    drop((reader, writer));
    before.is_back().await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_the_others_continue() {
    let server = TestServer::start().await;
    server.get("/v2/").await.expect(200);
    let (addr, ca) = (server.addr(), server.authority());
    let mut connection = Connection::open(addr, &ca, &empty_settings()).await;
    let settings = connection.until(|frame| frame.kind == h2::SETTINGS).await;
    let settings = &settings.last().unwrap().payload;
    let most = settings.chunks(6).find(|setting| setting[..2] == [0, 3]).expect("there is a limit");
    let most = u32::from_be_bytes(most[2..].try_into().unwrap());
    assert!(most <= 1000, "{most}");
    let target = format!("/v2/app/blobs/uploads/?digest={}", digest("abcd"));
    let block = h2::block("POST", &target, &[]);
    for stream in (0..most + 50).map(h2::number) {
        connection.send(&h2::frame(h2::HEADERS, h2::END_HEADERS, stream, &block)).await;
    }
    let beyond = h2::number(most);
    let refused = connection.until(|frame| frame.kind == h2::RST_STREAM).await;
    let refused = refused.last().unwrap();
    assert!(refused.kind == h2::RST_STREAM && refused.stream >= beyond, "{refused:?}");
    assert_eq!(refused.payload, 7_u32.to_be_bytes(), "refused, not broken");
    connection.send(&h2::frame(h2::DATA, h2::END_STREAM, 1, b"abcd")).await;
    let answer = connection.until(|frame| frame.stream == 1 && frame.kind == h2::HEADERS).await;
    assert!(answer.last().is_some_and(|frame| frame.stream == 1));
    server.get(&format!("/v2/app/blobs/{}", digest("abcd"))).await.expect(200);
    // The open streams have begun to write.
    drop(connection);
    server.settles().await;
}

/// Windows of zero and of one byte for large blobs.
#[tokio::test]
async fn unread_pulls_use_little_memory() {
    let before = Before::start().await;
    let bytes = noise(80, 4 << 20);
    let target = format!("/v2/app/blobs/uploads/?digest={}", digest(&bytes));
    before.server.request("POST", &target).body(bytes.clone()).answer().await.expect(201);
    let blob = format!("/v2/app/blobs/{}", digest(&bytes));
    let mut held = Vec::new();
    for window in [0, 1, 1] {
        let (addr, ca) = (before.server.addr, before.server.ca());
        let mut connection = Connection::open(addr, &ca, &h2::setting(4, window)).await;
        let requests: Vec<u8> =
            (0..100).map(h2::number).flat_map(|stream| h2::request(stream, "GET", &blob)).collect();
        connection.send(&requests).await;
        let mut heads = 0;
        while heads < 100 {
            let frames = connection.until(|frame| frame.kind == h2::HEADERS).await;
            assert!(frames.last().is_some_and(|frame| frame.is_status(8)), "{frames:?}");
            heads += 1;
        }
        held.push(connection);
    }
    let answer = before.server.request("GET", &blob).answer().await.expect(200);
    assert!(answer.body == bytes, "others pull");
    let holding = before.server.resident().saturating_sub(before.memory);
    drop(held);
    before.server.comes_down_to(before.descriptors).await;
    assert!(holding < 2 * ROOM, "{holding} MiB for 300 pulls");
}

/// Each has a head of 15 KB in twenty bytes, and all wait for one bcrypt.
#[tokio::test]
async fn ten_thousand_requests_that_wait_for_one_password_check_use_little_memory() {
    let quiet = [("REGISTRY_LOG_ACCESSLOG_DISABLED", "true")];
    // A second of work each: later requests would wait for all of them.
    let server = Process::prepared(&quiet, |users| {
        let hash = BcryptHash::new(PASSWORD, 14).unwrap();
        std::fs::write(users, format!("{USER}:{}\n", hash.as_str())).unwrap();
    });
    let ca = server.ca();
    let mut connections = Vec::new();
    for _ in 0..50 {
        let said = [empty_settings(), h2::frame(h2::SETTINGS, h2::ACK, 0, &[])].concat();
        connections.push(Connection::open(server.addr, &ca, &said).await);
    }
    let first = connections.first_mut().unwrap();
    for guess in 0..10 {
        let block = h2::block_of(&raw::basic(USER, &format!("guess {guess}")), "GET", "/v2/", &[]);
        let head =
            h2::frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, h2::number(guess), &block);
        first.send(&head).await;
    }
    let before = server.peak();
    let wrong = &raw::basic(USER, "wrong");
    let asking = connections.iter_mut().enumerate().map(|(nth, connection)| async move {
        let begun = if nth == 0 { 10 } else { 0 };
        let (mut heads, mut large) = (Vec::new(), h2::block_of(wrong, "GET", "/v2/", &[]));
        large.push(0x40);
        h2::string(&mut large, "x-large");
        h2::string(&mut large, &"x".repeat(3_700));
        let mut again = h2::block_of(wrong, "GET", "/v2/", &[]);
        again.extend([0xbe; 4]);
        for nth in begun..200 {
            let block = if nth == begun { &large } else { &again };
            let end = h2::END_HEADERS | h2::END_STREAM;
            heads.extend(h2::frame(h2::HEADERS, end, h2::number(nth), block));
        }
        connection.send(&heads).await;
        let mut answered = 0;
        while answered < 200 {
            let frames = connection.until(|frame| frame.kind == h2::HEADERS).await;
            let head = frames.last().filter(|frame| frame.kind == h2::HEADERS);
            let head = head.expect("the connection is not closed");
            // The status comes first, and this is 200.
            assert_ne!(head.payload[0], 0x88);
            answered += 1;
        }
    });
    futures_util::future::join_all(asking).await;
    let grown = server.peak().saturating_sub(before);
    assert!(grown <= 16, "{grown} MiB for those who wait");
    server.request("GET", "/v2/").answer().await.expect(200);
}

#[tokio::test]
async fn window_overflow_ends_its_stream_or_its_connection() {
    let server = TestServer::start().await;
    for stream in [0, 1] {
        let (addr, ca) = (server.addr(), server.authority());
        let mut connection = Connection::open(addr, &ca, &empty_settings()).await;
        let block = h2::block("POST", "/v2/app/blobs/uploads/?digest=x", &[]);
        let most = h2::frame(h2::WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
        let bytes = [h2::frame(h2::HEADERS, h2::END_HEADERS, 1, &block), most.clone(), most];
        let _ = connection.writer.write_all(&bytes.concat()).await;
        let _ = connection.writer.flush().await;
        let over = |frame: &Frame| matches!(frame.kind, h2::RST_STREAM | h2::GOAWAY);
        let frames = connection.until(over).await;
        assert!(frames.last().is_none_or(over), "{frames:?}");
    }
    server.get("/v2/").await.expect(200);
}

#[tokio::test]
async fn head_that_is_too_long_or_has_too_many_headers_is_refused() {
    let server = TestServer::start().await;
    let mut many = String::new();
    for nth in 0..500 {
        write!(many, "x-{nth}: y\r\n").unwrap();
    }
    for (head, allowed) in [
        (format!("GET /v2/?{}\r\n", "x".repeat(100_000)), [414, 431]),
        (format!("GET /v2/\r\nx-long: {}\r\n", "x".repeat(100_000)), [431, 400]),
        (format!("GET /v2/\r\n{}", "x: y\r\n".repeat(20_000)), [431, 400]),
        (format!("GET /v2/\r\n{many}"), [431, 400]),
        (format!("{} /v2/\r\n", "X".repeat(100_000)), [431, 400]),
    ] {
        let answer = raw::exchange(server.begin(&head).await, b"").await;
        let status = raw::status(&answer);
        let start = &head[..head.len().min(30)];
        assert!(status.is_none_or(|status| allowed.contains(&status)), "{start}: {answer}");
    }
    server.get("/v2/").await.expect(200);
}

/// podman sends larger heads over HTTP/1.1 than any client over HTTP/2.
#[tokio::test]
async fn head_beyond_the_limit_gets_431_and_a_shorter_one_is_served() {
    let server = TestServer::start().await;
    let user = raw::authorization();
    for (length, over_http1, over_http2) in [
        (15_000, "200", "200"),
        (17_000, "200", "431"),
        (30_000, "200", "431"),
        (40_000, "431", "431"),
    ] {
        let long = "x".repeat(length);
        let head = format!(
            "GET /v2/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
             authorization: {user}\r\nx-long: {long}\r\n\r\n"
        );
        let answer = raw::exchange(server.connect(&[]).await, head.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {over_http1} ")), "{length}: {answer}");

        let client = client_builder().http2_prior_knowledge().build().unwrap();
        let request = client.get(format!("{}/v2/", server.base)).header("x-long", long);
        let answer = request.basic_auth(USER, Some(PASSWORD)).answer().await;
        assert_eq!(answer.status.as_str(), over_http2, "{length}");
    }
}

#[tokio::test]
async fn limit_of_a_head_does_not_depend_on_the_pieces_in_which_it_comes() {
    let server = TestServer::start().await;
    let user = raw::authorization();
    let head = |padding: usize| {
        let padding = "x".repeat(padding);
        format!(
            "GET /v2/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
             authorization: {user}\r\nx-long: {padding}\r\n\r\n"
        )
    };
    let rest = head(0).len();
    for (length, status) in [(32 * 1024, "200"), (32 * 1024 + 1, "431")] {
        let head = head(length - rest);
        for piece in [1000, 8192, 10_000, 16_384, head.len()] {
            let mut stream = server.connect(&[]).await;
            for piece in head.as_bytes().chunks(piece) {
                stream.write_all(piece).await.unwrap();
                stream.flush().await.unwrap();
            }
            let answer = raw::exchange(stream, b"").await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{length} {piece}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn endless_http_1_head_is_not_buffered() {
    let before = Before::start().await;
    let mut stream = raw::connect(before.server.addr, &before.server.ca(), &[]).await;
    let _ = stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: a\r\nx: ").await;
    let piece = vec![b'x'; 65_536];
    let mut sent = 0;
    while sent < 512 << 20 && stream.write_all(&piece).await.is_ok() {
        sent += piece.len();
    }
    assert!(sent < 512 << 20, "it is read without end");
    let _ = stream.read_to_end(&mut Vec::new()).await;
    before.is_back().await;
}

#[tokio::test]
async fn silent_connections_do_not_keep_other_clients_out() {
    let before = Before::start().await;
    let mut silent = Vec::new();
    for nth in 0..300 {
        let mut stream = tokio::net::TcpStream::connect(before.server.addr).await.unwrap();
        match nth % 3 {
            0 => {}
            // The beginning of a handshake, and a record of more than there may be.
            1 => stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1]).await.unwrap(),
            _ => stream.write_all(&[22, 3, 1, 255, 255, 1, 0, 255]).await.unwrap(),
        }
        silent.push(stream);
    }
    for _ in 0..20 {
        before.server.request("GET", "/v2/").answer().await.expect(200);
    }
    drop(silent);
    before.is_back().await;
}

/// HTTP/2 connections without a request must be closed, as those of HTTP/1.1 are: they need no
/// password, and without descriptors no other client can connect.
#[tokio::test]
async fn connections_of_http_2_that_ask_nothing_are_given_up() {
    let before = Before::with(&IMPATIENT).await;
    let head = h2::request(1, "GET", "/v2/");
    let unended = h2::frame(h2::HEADERS, h2::END_STREAM, 1, &h2::block("GET", "/v2/", &[]));
    let mut silent = Vec::new();
    for said in [&[][..], &head[..20], &unended] {
        let (addr, ca) = (before.server.addr, before.server.ca());
        let mut connection = Connection::open(addr, &ca, &empty_settings()).await;
        connection.send(said).await;
        silent.push(connection);
    }
    // The test reads each until the server closes it.
    futures_util::future::join_all(silent.iter_mut().map(|it| it.until(|_| false))).await;
    before.is_back().await;
}

/// A pull whose client reads nothing must be ended: it holds a file and a connection.
#[tokio::test]
async fn stalled_pulls_are_ended() {
    // The push may take longer than the timeout of the pulls.
    let patient = Process::start(&[]);
    let bytes = noise(81, 32 << 20);
    let target = format!("/v2/app/blobs/uploads/?digest={}", digest(&bytes));
    patient.request("POST", &target).body(bytes.clone()).answer().await.expect(201);
    let before = Before::of(Process::on(patient.kill(), &IMPATIENT)).await;
    let blob = format!("/v2/app/blobs/{}", digest(&bytes));
    let (addr, ca) = (before.server.addr, before.server.ca());
    let mut second = Connection::open(addr, &ca, &h2::setting(4, 0)).await;
    second.send(&h2::request(1, "GET", &blob)).await;
    let mut first = raw::connect(addr, &ca, &[]).await;
    let user = raw::authorization();
    let head = format!("GET {blob} HTTP/1.1\r\nhost: a\r\nauthorization: {user}\r\n\r\n");
    first.write_all(head.as_bytes()).await.unwrap();
    first.read_exact(&mut [0; 12]).await.unwrap();
    // Only frames without content are left to read.
    second.until(|_| false).await;
    before.server.comes_down_to(before.descriptors).await;
}

/// A request whose headers go into HPACK's table (RFC 7541 §2.3), and the same again: each of its
/// headers is a byte then.
fn remembered(agent: &[u8]) -> [Vec<u8>; 2] {
    // GET, https and these names are in the static table.
    let mut first = vec![0x82, 0x87];
    for (name, value) in [(0x41, &b"localhost"[..]), (0x44, b"/v2/"), (0x7a, agent)] {
        first.push(name);
        h2::string(&mut first, value);
    }
    [first, vec![0x82, 0x87, 0xc0, 0xbf, 0xbe]]
}

/// A header value of four kilobytes that is sent once must not be logged for each request, at four
/// bytes a byte: a client without a password could fill a disk in this way.
#[tokio::test]
async fn indexed_header_is_not_logged_in_full_for_each_request() {
    const REQUESTS: u32 = 400;
    for formatter in ["combined", "json"] {
        let server = Process::start(&[("REGISTRY_LOG_ACCESSLOG_FORMATTER", formatter)]);
        let [first, again] = remembered(&[0xff; 3800]);
        let window = h2::frame(h2::WINDOW_UPDATE, 0, 0, &0x3fff_ffff_u32.to_be_bytes());
        let settings = [empty_settings(), window].concat();
        let mut connection = Connection::open(server.addr, &server.ca(), &settings).await;
        let mut sent = settings.len();
        let end = h2::END_HEADERS | h2::END_STREAM;
        for stream in (0..REQUESTS).map(h2::number) {
            let block = if stream == 1 { &first } else { &again };
            let request = h2::frame(h2::HEADERS, end, stream, block);
            sent += request.len();
            connection.send(&request).await;
            if stream % 16 == 15 || stream == h2::number(REQUESTS - 1) {
                let over = |it: &Frame| it.stream == stream && it.flags & h2::END_STREAM != 0;
                connection.until(over).await;
            }
        }
        // A user's line has a little more of it in the log.
        let known = server.request("GET", "/v2/").header("user-agent", "\u{e4}".repeat(1900));
        known.header("referer", "x".repeat(3000)).answer().await.expect(200);
        let (_, log) = server.end_with_access().await;
        let refused = log.lines().filter(|line| line.contains("...[3800]") && line.contains("401"));
        assert_eq!(refused.clone().count(), REQUESTS as usize, "{log}");
        let longest = refused.clone().map(str::len).max().unwrap();
        assert!(longest < 400, "{longest}");
        let bytes: usize = refused.map(|line| line.len() + 1).sum();
        assert!(bytes < 40 * sent, "{bytes} bytes for {sent}");
        let known = log.lines().find(|line| line.contains("alice")).unwrap();
        assert!(known.contains("...[3000]") && known.len() < 1024, "{known}");
    }
}
