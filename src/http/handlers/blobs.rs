//! Blobs: end-2 and end-10.

use axum::{
    body::Body,
    http::{HeaderValue, Method, Response, StatusCode, header},
};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::super::{
    Api, CONTENT_DIGEST, Call, Error,
    byteranges::Byteranges,
    conditional,
    events::Teller,
    options::DeletableBlobs,
    range::{self, Wanted},
    response, status, value,
};
use crate::{
    gate::Permit,
    notify::Action,
    oci::{Digest, ErrorCode, RepositoryName},
    registry::{self, ByteStream, DeleteMode},
};

/// Content never changes under its digest. Responses to requests with credentials are for the
/// client's own cache (RFC 9111 §3.5).
const FOREVER: HeaderValue = HeaderValue::from_static("max-age=31536000, immutable");

impl Api {
    pub(super) async fn read_blob(
        &self,
        permit: &Permit,
        name: &RepositoryName,
        digest: &Digest,
        call: &Call,
    ) -> Result<Response<Body>, Error> {
        let unknown = || Error::refused(ErrorCode::BlobUnknown).with_detail(json!(digest));
        if call.method == Method::HEAD || conditional::is_conditional(call) {
            let size = self.registry.blobs().size(name, digest).await?.ok_or_else(unknown)?;
            if let Some(response) = conditional::failed(call, digest) {
                return Ok(response);
            }
            if let Some(mut response) = conditional::not_modified(call, digest) {
                response.headers_mut().insert(header::CACHE_CONTROL, FOREVER);
                self.tell_of_pull(permit, (name, digest), size, call).await;
                return Ok(response);
            }
            if call.method == Method::HEAD {
                self.tell_of_pull(permit, (name, digest), size, call).await;
                return Ok(content(StatusCode::OK, digest, size, Body::empty()));
            }
        }
        let blob = self.registry.blobs().open(name, digest).await?.ok_or_else(unknown)?;
        let size = blob.size();
        self.tell_of_pull(permit, (name, digest), size, call).await;
        let wanted = match call.header(header::RANGE) {
            Some(header) if conditional::range_applies(call, digest) => range::wanted(header, size),
            _ => Wanted::All,
        };
        match wanted {
            Wanted::All => {
                let body = begun(blob.stream(0..size)).await?;
                Ok(content(StatusCode::OK, digest, size, body))
            }
            Wanted::Part(part) => {
                let described = format!("bytes {}-{}/{size}", part.start, part.end - 1);
                let length = part.end - part.start;
                let body = begun(blob.stream(part)).await?;
                let mut response = content(StatusCode::PARTIAL_CONTENT, digest, length, body);
                response.headers_mut().insert(header::CONTENT_RANGE, value(&described));
                Ok(response)
            }
            Wanted::Parts(parts) => {
                let parts = Byteranges::new(parts, size);
                let (kind, length) = (parts.content_type(), parts.length());
                let body = parts.body(blob).await?;
                let mut response = content(StatusCode::PARTIAL_CONTENT, digest, length, body);
                response.headers_mut().insert(header::CONTENT_TYPE, value(&kind));
                Ok(response)
            }
            Wanted::Unsatisfiable => {
                let mut response = status(StatusCode::RANGE_NOT_SATISFIABLE);
                let described = format!("bytes */{size}");
                response.headers_mut().insert(header::CONTENT_RANGE, value(&described));
                Ok(response)
            }
        }
    }

    /// registry:2 calls it a pull whatever came of it: a part, nothing new, or only the head.
    async fn tell_of_pull(
        &self,
        permit: &Permit,
        (name, digest): (&RepositoryName, &Digest),
        size: u64,
        call: &Call,
    ) {
        if let Some(teller) = self.teller(Action::Pull, permit, name, call) {
            teller.blob(digest.clone(), size).boxed().await;
        }
    }

    pub(super) async fn delete_blob(
        &self,
        permit: &Permit,
        name: &RepositoryName,
        digest: &Digest,
        call: &Call,
    ) -> Result<Response<Body>, Error> {
        self.deletion_allowed()?;
        let if_needed = match self.limits.delete.blobs {
            DeletableBlobs::Unneeded => DeleteMode::IfUnreferenced,
            DeletableBlobs::Force => DeleteMode::Force,
        };
        let gone = digest.clone();
        let change = {
            let (registry, name, digest) = (self.registry.clone(), name.clone(), digest.clone());
            async move { registry.blobs().delete(&name, &digest, if_needed).await }
        };
        let teller = self.teller(Action::Delete, permit, name, call);
        let tell = move |teller: Teller, deleted: &bool| {
            let gone = deleted.then_some(gone);
            async move { teller.gone(gone).await }.boxed()
        };
        if !self.told(teller, change, tell).await? {
            return Err(Error::refused(ErrorCode::BlobUnknown).with_detail(json!(digest)));
        }
        let mut response = status(StatusCode::ACCEPTED);
        response.headers_mut().insert(CONTENT_DIGEST, value(digest));
        Ok(response)
    }
}

/// A body whose first piece has been read: when even that fails, the client can still be told.
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
