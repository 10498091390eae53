//! Raw bytes to and from a server, which no well-behaved client would send.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::server::{PASSWORD, USER};

pub(crate) use testkit::wire::{GUARD, Stream, basic, connect, secured};

/// The value of `Authorization` of the user of all test servers.
pub fn authorization() -> String {
    basic(USER, PASSWORD)
}

/// Sends bytes and reads until the server closes; the response may be empty.
pub async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> String {
    // A server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
    rest(&mut stream).await
}

/// The bytes until the server closes.
pub async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(GUARD, reading).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of a response from [`exchange`]; `None` without one.
pub fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// The value of a header in a response from [`exchange`].
pub fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
