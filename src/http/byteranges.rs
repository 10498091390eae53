//! Several parts of a blob in one body: `multipart/byteranges` (RFC 9110 §14.6).
//!
//! The parts have the order of the request, and each has headers of its own. The length of the body
//! is known before the first part is read, and memory holds one piece of one part at a time.

use std::ops::Range;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use uuid::Uuid;

use crate::registry::{self, Blob};

/// Parts of a blob, and the boundary between them.
#[derive(Debug)]
pub(super) struct Byteranges {
    /// Random, so that no client can push a blob that contains it.
    boundary: String,
    size: u64,
    parts: Vec<Range<u64>>,
}

impl Byteranges {
    /// Parts of a blob of `size` bytes. Each part lies within the blob.
    pub(super) fn new(parts: Vec<Range<u64>>, size: u64) -> Self {
        Self { boundary: Uuid::new_v4().simple().to_string(), size, parts }
    }

    /// The media type of the body.
    pub(super) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// The length of the body in bytes.
    pub(super) fn length(&self) -> u64 {
        let part = |at| self.head(at).len() as u64 + self.parts[at].end - self.parts[at].start;
        (0..self.parts.len()).map(part).sum::<u64>() + self.end().len() as u64
    }

    /// The body. It has read the first piece of the first part already, so that a failure to read
    /// that piece still becomes an error response.
    ///
    /// # Errors
    ///
    /// When that piece cannot be read.
    pub(super) async fn body(self, blob: Blob) -> Result<Body, registry::Error> {
        let end = self.end();
        let parts = stream::iter(0..self.parts.len()).flat_map(move |at| {
            let head = stream::iter([Ok(Bytes::from(self.head(at)))]);
            head.chain(blob.part(self.parts[at].clone()))
        });
        let mut pieces = parts.chain(stream::iter([Ok(Bytes::from(end))])).boxed();
        let begun: Vec<Bytes> = pieces.by_ref().take(2).try_collect().await?;
        Ok(Body::from_stream(stream::iter(begun).map(Ok).chain(pieces)))
    }

    /// The delimiter before a part, and the headers of the part.
    fn head(&self, at: usize) -> String {
        let Self { boundary, size, parts } = self;
        let Range { start, end } = parts[at];
        let line_end = if at == 0 { "" } else { "\r\n" };
        format!(
            "{line_end}--{boundary}\r\nContent-Range: bytes {start}-{}/{size}\r\n\
             Content-Type: application/octet-stream\r\n\r\n",
            end - 1
        )
    }

    /// The delimiter after the last part.
    fn end(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }
}
