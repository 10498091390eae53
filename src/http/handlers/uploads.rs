//! Uploads: end-4, end-5, end-6, end-11, end-13, end-14.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderName, Response, StatusCode, header},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::json;

use super::Handlers;
use crate::{
    gate::Identity,
    http::{
        Error, body,
        events::EventEmitter,
        middleware::Authorised,
        range,
        response::{CONTENT_DIGEST, status, value},
    },
    notify::Action,
    oci::{Algorithm, Digest, ErrorCode, RepositoryName},
    registry::{self, Chunk, Upload, UploadId},
};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

impl Handlers {
    pub(super) async fn start_upload(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<Response<Body>, Error> {
        let id = self.registry.uploads().begin(name, algorithm, owner(request)).await?;
        Ok(self.progress(StatusCode::ACCEPTED, name, Progress { id, length: 0 }, request))
    }

    pub(super) async fn mount_blob(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<Response<Body>, Error> {
        let mounted = digest.clone();
        let source = from.cloned();
        let change = {
            let (registry, name, digest) = (self.registry.clone(), name.clone(), digest.clone());
            let from = from.cloned();
            async move { registry.blobs().mount(&name, &digest, from.as_ref()).await }
        };
        let emitter = self.events.emitter(Action::Mount, request, name);
        let emit = move |emitter: EventEmitter, size: &Option<u64>| {
            let size = *size;
            async move { emitter.mounted(mounted, size, source).await }.boxed()
        };
        if self.events.with_event(emitter, change, emit).await?.is_some() {
            return Ok(self.created(name, digest, request));
        }
        self.start_upload(request, name, digest.algorithm()).await
    }

    pub(super) async fn put_blob(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        digest: &Digest,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        let chunk = self.chunk(request, body)?;
        let change = {
            let (registry, name, digest) = (self.registry.clone(), name.clone(), digest.clone());
            let owner = owner(request);
            async move { registry.uploads().put(&name, &digest, owner, chunk).await }
        };
        let emitter = self.events.emitter(Action::Push, request, name);
        self.events.with_event(emitter, change, blob_event(digest)).await?;
        Ok(self.created(name, digest, request))
    }

    pub(super) async fn upload_status(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        id: UploadId,
    ) -> Result<Response<Body>, Error> {
        let length = self.registry.uploads().length(&upload(request, name, id)).await?;
        Ok(self.progress(StatusCode::NO_CONTENT, name, Progress { id, length }, request))
    }

    pub(super) async fn append_upload(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        id: UploadId,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        let chunk = self.chunk(request, body)?;
        match self.registry.uploads().append(&upload(request, name, id), chunk).await {
            Ok(length) => {
                Ok(self.progress(StatusCode::ACCEPTED, name, Progress { id, length }, request))
            }
            Err(error) => self.chunk_refused(error, name, id, request),
        }
    }

    pub(super) async fn finish_upload(
        &self,
        request: &Authorised,
        upload: Upload,
        digest: &Digest,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        let chunk = self.chunk(request, body)?;
        let id = upload.id;
        let name = &upload.name.clone();
        let change = {
            let (registry, digest) = (self.registry.clone(), digest.clone());
            async move { registry.uploads().finish(&upload, &digest, chunk).await }
        };
        let emitter = self.events.emitter(Action::Push, request, name);
        match self.events.with_event(emitter, change, blob_event(digest)).await {
            Ok(_) => Ok(self.created(name, digest, request)),
            Err(error) => self.chunk_refused(error, name, id, request),
        }
    }

    pub(super) async fn cancel_upload(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        id: UploadId,
    ) -> Result<Response<Body>, Error> {
        self.registry.uploads().cancel(&upload(request, name, id)).await?;
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

    /// The response that says how far an upload is (`Range`) and where it goes on (`Location`).
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
        let header = request.head.only(&header::CONTENT_RANGE);
        let range = match header.map_err(|_| unusable("several, nor what is no text"))? {
            None => None,
            Some(header) => {
                Some(range::of_chunk(header).ok_or_else(|| unusable(&format!("{header:?}")))?)
            }
        };
        let body = body::bytes(body, self.idle_timeout);
        Ok(Chunk { body, length: request.head.content_length(), range })
    }
}

/// How far an upload is.
#[derive(Clone, Copy)]
struct Progress {
    id: UploadId,
    length: u64,
}

/// The event of a blob that was pushed, with its length.
fn blob_event(
    digest: &Digest,
) -> impl FnOnce(EventEmitter, &u64) -> BoxFuture<'static, ()> + use<> {
    let digest = digest.clone();
    |emitter, size| emitter.blob(digest, *size).boxed()
}

/// The owner of the uploads that this caller begins; `None` where the gate is open.
fn owner(request: &Authorised) -> Option<Arc<str>> {
    match request.permit.identity() {
        Identity::Anonymous => None,
        Identity::User(name) => Some(Arc::clone(name)),
    }
}

/// The upload that a request names, if its caller owns it.
pub(super) fn upload(request: &Authorised, name: &RepositoryName, id: UploadId) -> Upload {
    Upload { name: name.clone(), id, owner: owner(request) }
}
