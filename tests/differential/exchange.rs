//! One request and its response, to the byte: a client library would change paths and headers.

use std::{net::SocketAddr, path::Path};

use testkit::wire::{GUARD, connect};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::step::{Body, Step};

/// A response as received.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Sends a step to `target` of a server, on a connection of its own.
pub(crate) async fn exchange(address: SocketAddr, ca: &Path, step: &Step, target: &str) -> Answer {
    let request = request(address, step, target);
    let (mut from, mut to) = tokio::io::split(connect(address, ca, &[]).await);
    let sending = async {
        // A server may respond, and close, before it has read everything.
        let _ = to.write_all(&request).await;
        let _ = to.flush().await;
    };
    let mut bytes = Vec::new();
    // Bytes that arrived before the connection broke count.
    let receiving = async { drop(from.read_to_end(&mut bytes).await) };
    timeout(GUARD, async { tokio::join!(sending, receiving) }).await.unwrap();
    answer(step, &bytes)
}

fn request(address: SocketAddr, step: &Step, target: &str) -> Vec<u8> {
    let mut head = format!("{} {target} HTTP/1.1\r\n", step.method);
    head += &format!("Host: {address}\r\nConnection: close\r\n");
    for (name, value) in &step.headers {
        head += &format!("{name}: {value}\r\n");
    }
    match &step.body {
        Body::None => (head + "\r\n").into_bytes(),
        Body::Whole(bytes) => {
            head += &format!("Content-Length: {}\r\n\r\n", bytes.len());
            [head.as_bytes(), bytes].concat()
        }
        Body::Chunked(bytes) => {
            head += "Transfer-Encoding: chunked\r\n\r\n";
            let length = format!("{:x}\r\n", bytes.len());
            [head.as_bytes(), length.as_bytes(), bytes, b"\r\n0\r\n\r\n"].concat()
        }
    }
}

fn answer(step: &Step, bytes: &[u8]) -> Answer {
    let parsed = parse(bytes);
    let shown = String::from_utf8_lossy(bytes);
    parsed.unwrap_or_else(|| panic!("{}: no answer of HTTP/1.1: {shown:?}", step.name))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let body = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect::<Option<_>>()?;
    let mut answer = Answer { status, headers, body: Vec::new() };
    answer.body = match answer.header("transfer-encoding") {
        Some(_) => unchunked(body)?,
        None => body.to_vec(),
    };
    Some(answer)
}

/// The content of a chunked body (RFC 9112 §7.1); `None` when it is incomplete.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        rest = &rest[end + 2..];
        if length == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}
