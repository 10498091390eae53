//! Blobs: end-2 and end-10.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderValue, Method, Response, StatusCode, header},
};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use crate::http::{
    Error,
    byteranges::Byteranges,
    caller::Callers,
    conditional,
    middleware::Authorised,
    options::{DeletableBlobs, DeleteOptions},
    range::{self, Requested},
    response::{CONTENT_DIGEST, response, status, value},
};
use crate::{
    oci::{Digest, ErrorCode, RepositoryName},
    registry::{self, Action, Blobs, ByteStream, DeleteMode},
};

/// Content never changes under its digest. Only the client's own cache may store the response to a
/// request with credentials (RFC 9111 §3.5).
const FOREVER: HeaderValue = HeaderValue::from_static("max-age=31536000, immutable");

/// The handlers of blobs.
#[derive(Debug)]
pub(super) struct BlobHandlers {
    pub(super) blobs: Arc<Blobs>,
    pub(super) callers: Arc<Callers>,
    pub(super) delete: DeleteOptions,
}

impl BlobHandlers {
    pub(super) async fn read(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Response<Body>, Error> {
        let unknown = || Error::refused(ErrorCode::BlobUnknown).with_detail(json!(digest));
        if request.head.method == Method::HEAD || conditional::is_conditional(&request.head) {
            let size = self.blobs.size(name, digest).await?.ok_or_else(unknown)?;
            if let Some(response) = conditional::precondition_failed(&request.head, digest) {
                return Ok(response);
            }
            if let Some(mut response) = conditional::not_modified(&request.head, digest) {
                response.headers_mut().insert(header::CACHE_CONTROL, FOREVER);
                self.emit_pull(request, name, digest, size).await;
                return Ok(response);
            }
            if request.head.method == Method::HEAD {
                self.emit_pull(request, name, digest, size).await;
                return Ok(content(StatusCode::OK, digest, size, Body::empty()));
            }
        }
        let blob = self.blobs.open(name, digest).await?.ok_or_else(unknown)?;
        let size = blob.size();
        self.emit_pull(request, name, digest, size).await;
        let requested = match request.head.header(header::RANGE) {
            Some(header) if conditional::range_applies(&request.head, digest) => {
                range::requested(header, size)
            }
            _ => Requested::All,
        };
        match requested {
            Requested::All => {
                let body = begun(blob.stream(0..size)).await?;
                Ok(content(StatusCode::OK, digest, size, body))
            }
            Requested::Part(part) => {
                let described = format!("bytes {}-{}/{size}", part.start, part.end - 1);
                let length = part.end - part.start;
                let body = begun(blob.stream(part)).await?;
                let mut response = content(StatusCode::PARTIAL_CONTENT, digest, length, body);
                response.headers_mut().insert(header::CONTENT_RANGE, value(&described));
                Ok(response)
            }
            Requested::Parts(parts) => {
                let parts = Byteranges::new(parts, size);
                let content_type = value(&parts.content_type());
                let length = parts.length();
                let body = parts.body(blob).await?;
                let mut response = content(StatusCode::PARTIAL_CONTENT, digest, length, body);
                response.headers_mut().insert(header::CONTENT_TYPE, content_type);
                Ok(response)
            }
            Requested::Unsatisfiable => {
                let mut response = status(StatusCode::RANGE_NOT_SATISFIABLE);
                let described = format!("bytes */{size}");
                response.headers_mut().insert(header::CONTENT_RANGE, value(&described));
                Ok(response)
            }
        }
    }

    /// Emits a pull event. As in registry:2, a part, a `304` and the response to `HEAD` are pulls, too.
    async fn emit_pull(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) {
        if self.callers.wants_events(Action::Pull) {
            let caller = self.callers.of(request, Action::Pull);
            self.blobs.emit_pulled(&caller, name, digest, size).boxed().await;
        }
    }

    pub(super) async fn delete(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Response<Body>, Error> {
        self.delete.check()?;
        let mode = match self.delete.blobs {
            DeletableBlobs::Unneeded => DeleteMode::IfUnreferenced,
            DeletableBlobs::Force => DeleteMode::Force,
        };
        let caller = self.callers.of(request, Action::Delete);
        if !self.blobs.delete(&caller, name, digest, mode).await? {
            return Err(Error::refused(ErrorCode::BlobUnknown).with_detail(json!(digest)));
        }
        let mut response = status(StatusCode::ACCEPTED);
        response.headers_mut().insert(CONTENT_DIGEST, value(digest));
        Ok(response)
    }
}

/// A body that has read its first piece already, so that a failure to read that piece still becomes
/// an error response.
async fn begun(mut pieces: ByteStream) -> Result<Body, Error> {
    let first = pieces.try_next().await.map_err(registry::Error::from)?;
    Ok(Body::from_stream(stream::iter(first.map(Ok)).chain(pieces)))
}

fn content(status: StatusCode, digest: &Digest, length: u64, body: Body) -> Response<Body> {
    let mut response = response(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, octets);
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::ETAG, conditional::etag(digest));
    headers.insert(header::CACHE_CONTROL, FOREVER);
    headers.insert(CONTENT_DIGEST, value(digest));
    response
}
