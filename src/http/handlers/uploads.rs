//! Uploads: end-4, end-5, end-6, end-11, end-13, end-14.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderName, Response, StatusCode, header},
};
use serde_json::json;

use crate::{
    gate::Right,
    http::{
        Error,
        base_url::BaseUrls,
        blob_limit::BlobLimit,
        body,
        caller::{Callers, owner},
        middleware::Authorised,
        range,
        response::{CONTENT_DIGEST, status, value},
    },
    oci::{Algorithm, Digest, ErrorCode, RepositoryName},
    registry::{self, Action, Blobs, Chunk, NewUpload, Upload, UploadId, Uploads},
};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// The handlers of uploads, and of mounts, which become uploads.
#[derive(Debug)]
pub(super) struct UploadHandlers {
    pub(super) uploads: Arc<Uploads>,
    /// For mounts, which link a blob of one repository into another.
    pub(super) blobs: Arc<Blobs>,
    pub(super) callers: Arc<Callers>,
    pub(super) base_urls: Arc<BaseUrls>,
    pub(super) blob_limit: Arc<BlobLimit>,
    /// How long the body of a request may make no progress.
    pub(super) idle_timeout: Duration,
}

impl UploadHandlers {
    pub(super) async fn start(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<Response<Body>, Error> {
        let id = self.uploads.begin(name, algorithm, owner(&request.permit)).await?;
        Ok(self.progress(StatusCode::ACCEPTED, name, Progress { id, length: 0 }, request))
    }

    /// Mounts a blob of `from`, or of any repository, where the caller may pull from there; begins an
    /// upload where it may not, or the blob is not there.
    pub(super) async fn mount(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<Response<Body>, Error> {
        // A refusal would tell docker and containerd to give the push up. Where the caller may not read,
        // the blob is not there, and storage is not asked.
        let may_read = match from {
            Some(from) => request.permit.may(&Right::Pull(from)),
            None => request.permit.may(&Right::PullAll),
        };
        let caller = self.callers.of(request, Action::Mount);
        if may_read && self.blobs.mount(&caller, name, digest, from).await?.is_some() {
            return Ok(self.created(name, digest, request));
        }
        self.start(request, name, digest.algorithm()).await
    }

    pub(super) async fn put(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        digest: &Digest,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        let chunk = self.chunk(request, body)?;
        let caller = self.callers.of(request, Action::Push);
        let new = NewUpload { name, owner: owner(&request.permit) };
        self.uploads.put(&caller, new, digest, chunk).await?;
        Ok(self.created(name, digest, request))
    }

    pub(super) async fn status(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        id: UploadId,
    ) -> Result<Response<Body>, Error> {
        let length = self.uploads.length(&upload(request, name, id)).await?;
        Ok(self.progress(StatusCode::NO_CONTENT, name, Progress { id, length }, request))
    }

    pub(super) async fn append(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        id: UploadId,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        let chunk = self.chunk(request, body)?;
        match self.uploads.append(&upload(request, name, id), chunk).await {
            Ok(length) => {
                Ok(self.progress(StatusCode::ACCEPTED, name, Progress { id, length }, request))
            }
            Err(error) => self.chunk_refused(error, name, id, request),
        }
    }

    pub(super) async fn finish(
        &self,
        request: &Authorised,
        upload: Upload,
        digest: &Digest,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        let chunk = self.chunk(request, body)?;
        let id = upload.id;
        let name = &upload.name;
        let caller = self.callers.of(request, Action::Push);
        match self.uploads.finish(&caller, &upload, digest, chunk).await {
            Ok(_) => Ok(self.created(name, digest, request)),
            Err(error) => self.chunk_refused(error, name, id, request),
        }
    }

    pub(super) async fn cancel(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        id: UploadId,
    ) -> Result<Response<Body>, Error> {
        self.uploads.cancel(&upload(request, name, id)).await?;
        let mut response = status(StatusCode::NO_CONTENT);
        response.headers_mut().insert(UPLOAD_UUID, value(&id));
        Ok(response)
    }

    /// The response to a chunk that an upload refused. A chunk that does not begin where the upload
    /// ends gets the `Location` of the upload, as an accepted chunk does; the `Range` is that of the
    /// error.
    fn chunk_refused(
        &self,
        error: registry::Error,
        name: &RepositoryName,
        id: UploadId,
        request: &Authorised,
    ) -> Result<Response<Body>, Error> {
        if !matches!(error, registry::Error::RangeInvalid { .. }) {
            return Err(error.into());
        }
        let mut response = Error::from(error).into_response(request.head.id);
        let location =
            self.base_urls.of(&request.head).locate(&format!("/v2/{name}/blobs/uploads/{id}"));
        response.headers_mut().insert(header::LOCATION, location);
        response.headers_mut().insert(UPLOAD_UUID, value(&id));
        Ok(response)
    }

    /// The response with the progress of an upload: the bytes that it has (`Range`), and the URL at
    /// which it continues (`Location`).
    fn progress(
        &self,
        code: StatusCode,
        name: &RepositoryName,
        Progress { id, length }: Progress,
        request: &Authorised,
    ) -> Response<Body> {
        let mut response = status(code);
        let location =
            self.base_urls.of(&request.head).locate(&format!("/v2/{name}/blobs/uploads/{id}"));
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, location);
        headers.insert(header::RANGE, value(&range::received(length)));
        headers.insert(UPLOAD_UUID, value(&id));
        response
    }

    /// The response to a blob that was stored: `201` with its `Location`.
    fn created(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        request: &Authorised,
    ) -> Response<Body> {
        let mut response = status(StatusCode::CREATED);
        let location =
            self.base_urls.of(&request.head).locate(&format!("/v2/{name}/blobs/{digest}"));
        response.headers_mut().insert(header::LOCATION, location);
        response.headers_mut().insert(CONTENT_DIGEST, value(digest));
        response
    }

    /// The chunk in the body of a request.
    fn chunk(&self, request: &Authorised, body: Body) -> Result<Chunk, Error> {
        let unusable = |what: &str| {
            let detail = json!(format!("a chunk's range is <first>-<last>, not {what}"));
            Error::refused(ErrorCode::RangeInvalid).with_detail(detail)
        };
        let header = request.head.unique_text(&header::CONTENT_RANGE);
        let range = match header.map_err(|_| unusable("several headers, or bytes beyond ASCII"))? {
            None => None,
            Some(header) => {
                Some(range::of_chunk(header).ok_or_else(|| unusable(&format!("{header:?}")))?)
            }
        };
        let body = body::bytes(body, self.idle_timeout, request.head.upload());
        let length = request.head.content_length();
        Ok(Chunk { body, length, range, largest: self.blob_limit.now() })
    }
}

/// The progress of an upload: the bytes that it has.
#[derive(Clone, Copy)]
struct Progress {
    id: UploadId,
    length: u64,
}

/// The upload that a request names, if its caller owns it.
pub(super) fn upload(request: &Authorised, name: &RepositoryName, id: UploadId) -> Upload {
    Upload { name: name.clone(), id, owner: owner(&request.permit) }
}
