//! HTTP/2 frame by frame (RFC 9113), so that a test can send frames that no library would send.

use std::{net::SocketAddr, path::Path};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};

use super::raw::{self, GUARD, Stream};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it is the head of a response whose status is in HPACK's table under this index: 8 is
    /// 200, 12 is 400, 13 is 404.
    pub fn is_status(&self, index: u8) -> bool {
        self.kind == HEADERS && self.payload.contains(&(0x80 | index))
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub fn setting(id: u16, value: u32) -> Vec<u8> {
    let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &payload)
}

/// The header block of a request with the user's password.
pub fn block(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    block_of(&raw::authorization(), method, path, more)
}

/// As [`block`], with another value of `Authorization`.
pub fn block_of(authorization: &str, method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    literal(method, path, &[&[("authorization", authorization)], more].concat())
}

/// The header block of a request without a password.
pub fn anonymous(method: &str, path: &str) -> Vec<u8> {
    literal(method, path, &[])
}

/// A header block in which nothing is compressed.
fn literal(method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    let own = [(":method", method), (":scheme", "https"), (":path", path)];
    for (name, value) in own.iter().chain(&[(":authority", "localhost")]).chain(headers) {
        block.push(0);
        string(&mut block, name);
        string(&mut block, value);
    }
    block
}

/// A string literal of HPACK, not compressed (RFC 7541 §5.2).
pub fn string(block: &mut Vec<u8>, text: &(impl AsRef<[u8]> + ?Sized)) {
    let text = text.as_ref();
    let mut length = text.len();
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(u8::try_from(length % 128).unwrap() | 128);
            length /= 128;
        }
        block.push(u8::try_from(length).unwrap());
    }
    block.extend_from_slice(text);
}

/// A whole request without a body.
pub fn request(stream: u32, method: &str, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(method, path, &[]))
}

/// The number of the client's nth stream.
pub const fn number(nth: u32) -> u32 {
    2 * nth + 1
}

/// A connection after its preface.
pub struct Connection {
    pub reader: Reader,
    pub writer: WriteHalf<Stream>,
}

pub struct Reader(ReadHalf<Stream>);

impl Connection {
    /// `settings` are frames that follow the preface at once.
    pub async fn open(addr: SocketAddr, ca: &Path, settings: &[u8]) -> Self {
        let mut stream = raw::connect(addr, ca, &[b"h2"]).await;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(settings).await.unwrap();
        let (reader, writer) = split(stream);
        Self { reader: Reader(reader), writer }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
        self.writer.flush().await.unwrap();
    }

    /// Everything until a frame that fulfils the condition, which is the last; without it when the
    /// connection ends first.
    pub async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        self.reader.until(wanted).await
    }
}

impl Reader {
    /// The next frame; `None` when the server has closed.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// As [`Connection::until`].
    pub async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let reading = async {
            let mut frames = Vec::new();
            while let Some(frame) = self.next().await {
                let last = wanted(&frame);
                frames.push(frame);
                if last {
                    break;
                }
            }
            frames
        };
        // The server sends something, or closes.
        tokio::time::timeout(GUARD, reading).await.unwrap()
    }
}
