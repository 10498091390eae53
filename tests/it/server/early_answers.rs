//! Responses that leave before the bodies of their requests have arrived.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    TestServer,
    h2::{self, Connection},
    process::{Before, Process},
    raw::{self, GUARD},
};

const UPLOADS: &str = "/v2/app/blobs/uploads/";

/// More than the socket buffers of both sides hold.
const MUCH: usize = 8_000_000;

/// The head of a request without credentials.
fn head(headers: &str) -> String {
    format!("POST {UPLOADS} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n\r\n")
}

/// Sends all of it: TLS may buffer written bytes.
async fn send(stream: &mut raw::Stream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

/// Reads one response, and gives its head.
async fn response(stream: &mut raw::Stream) -> String {
    let reading = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.unwrap().parse().unwrap();
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        head
    };
    tokio::time::timeout(GUARD, reading).await.unwrap()
}

#[tokio::test]
async fn early_response_leaves_at_once_and_the_connection_stays_if_the_body_arrives() {
    let server = TestServer::start().await;
    let mut stream = server.connect(&[]).await;
    for _ in 0..3 {
        send(&mut stream, head(&format!("content-length: {MUCH}")).as_bytes()).await;
        let refused = response(&mut stream).await;
        assert!(refused.starts_with("http/1.1 401 "), "{refused}");
        assert!(!refused.contains("connection: close"), "{refused}");
        send(&mut stream, &vec![b'x'; MUCH]).await;
    }
    send(&mut stream, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(response(&mut stream).await.starts_with("http/1.1 200 "));
}

#[tokio::test]
async fn early_response_ends_keep_alive_if_the_body_is_not_read() {
    let server = TestServer::start().await;
    for headers in [
        "content-length: 100000000",
        "transfer-encoding: chunked",
        // It waits for 100 Continue, and does not get it.
        "content-length: 10\r\nexpect: 100-continue",
    ] {
        let mut stream = server.connect(&[]).await;
        send(&mut stream, head(headers).as_bytes()).await;
        let refused = response(&mut stream).await;
        assert!(refused.starts_with("http/1.1 401 "), "{headers}: {refused}");
        assert!(refused.contains("connection: close"), "{headers}: {refused}");
    }
}

/// As most clients do: they read the response after they have sent the last byte.
#[tokio::test]
async fn early_response_waits_for_a_client_that_sends_everything_first() {
    let server = TestServer::start().await;
    let chunk = [format!("{MUCH:x}\r\n").into_bytes(), vec![b'x'; MUCH]].concat();
    for (headers, body) in [
        (format!("content-length: {MUCH}"), vec![b'x'; MUCH]),
        (format!("content-length: {MUCH}\r\nconnection: close"), vec![b'x'; MUCH]),
        ("content-length: 100000000".to_owned(), vec![b'x'; MUCH]),
        ("transfer-encoding: chunked".to_owned(), [&chunk[..], b"\r\n0\r\n\r\n"].concat()),
        // It sends the body without 100 Continue.
        (format!("content-length: {MUCH}\r\nexpect: 100-continue"), vec![b'x'; MUCH]),
    ] {
        let mut stream = server.connect(&[]).await;
        send(&mut stream, head(&headers).as_bytes()).await;
        send(&mut stream, &body).await;
        let refused = response(&mut stream).await;
        assert!(refused.starts_with("http/1.1 401 "), "{headers}: {refused}");
    }
}

/// Settings of a client that acknowledges the server's, whose windows apply from then on.
fn settings() -> Vec<u8> {
    let mine = h2::frame(h2::SETTINGS, 0, 0, &[]);
    [mine, h2::frame(h2::SETTINGS, h2::ACK, 0, &[])].concat()
}

/// A client of HTTP/2 whose stream is reset discards the response.
#[tokio::test]
async fn reset_never_overtakes_an_answer() {
    let server = TestServer::start().await;
    let ca = server.authority();
    let mut connection = Connection::open(server.addr(), &ca, &settings()).await;
    let unknown = format!("{UPLOADS}6ba7b810-9dad-41d1-80b4-00c04fd430c8");
    let mut said = Vec::new();
    for (stream, block) in
        [(1, h2::anonymous("POST", UPLOADS)), (3, h2::block("PATCH", &unknown, &[]))]
    {
        connection.send(&h2::frame(h2::HEADERS, h2::END_HEADERS, stream, &block)).await;
        let ends = |frame: &h2::Frame| {
            frame.stream == stream
                && (frame.kind == h2::RST_STREAM || frame.flags & h2::END_STREAM != 0)
        };
        said.extend(connection.until(ends).await);
        // As much as the first window of the stream allows, and half of the connection's window.
        for _ in 0..250 {
            connection.send(&h2::frame(h2::DATA, 0, stream, &[b'x'; 16_384])).await;
        }
        connection.send(&h2::frame(h2::DATA, h2::END_STREAM, stream, b"x")).await;
        connection.send(&h2::frame(h2::PING, 0, 0, b"the end.")).await;
        let asked = |frame: &h2::Frame| frame.kind == h2::PING && frame.flags == h2::ACK;
        said.extend(connection.until(asked).await);
    }
    // The server opens the window of the connection at the start, and again for the bytes it has
    // read.
    let opens = |frame: &h2::Frame| frame.kind == h2::WINDOW_UPDATE && frame.stream == 0;
    while said.iter().filter(|frame| opens(frame)).count() < 2 {
        let more = connection.until(opens).await;
        assert!(more.last().is_some_and(opens), "the server does not read the bodies: {said:?}");
        said.extend(more);
    }
    assert!(said.iter().all(|frame| frame.kind != h2::RST_STREAM), "{said:?}");
}

/// While passwords are checked the server does not read the bodies of their requests.
#[tokio::test]
async fn bodies_that_come_with_wrong_passwords_take_no_memory() {
    let before = Before::start().await;
    let Process { addr, .. } = before.server;
    let ca = before.server.ca();
    let mut sending = Vec::new();
    for number in 0..40 {
        let mut connection = Connection::open(addr, &ca, &settings()).await;
        sending.push(tokio::spawn(async move {
            let wrong = raw::basic("ann", &format!("wrong {number}"));
            for stream in [1, 3] {
                let block = h2::block_of(&wrong, "POST", UPLOADS, &[]);
                connection.send(&h2::frame(h2::HEADERS, h2::END_HEADERS, stream, &block)).await;
            }
            // As much as the server's windows allow.
            for _ in 0..200 {
                for stream in [1, 3] {
                    let data = h2::frame(h2::DATA, 0, stream, &[b'x'; 16_384]);
                    if connection.writer.write_all(&data).await.is_err() {
                        return;
                    }
                }
            }
            let _ = tokio::time::timeout(GUARD, connection.until(|_| false)).await;
        }));
    }
    // Most of them are stopped half-way.
    let _ = tokio::time::timeout(Duration::from_secs(3), join_all(&mut sending)).await;
    let grown = before.server.peak().saturating_sub(before.memory);
    sending.into_iter().for_each(|sent| sent.abort());
    assert!(grown < 64, "{grown} MiB more");
}
