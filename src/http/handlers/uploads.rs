//! Uploads: end-4, end-5, end-6, end-11, end-13, end-14.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderName, Response, StatusCode, header},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::json;

use super::super::{Api, CONTENT_DIGEST, Call, Error, body, events::Teller, range, status, value};
use crate::{
    gate::{Identity, Permit},
    notify::Action,
    oci::{Algorithm, Digest, ErrorCode, RepositoryName},
    registry::{self, Chunk, Upload, UploadId},
};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

impl Api {
    pub(super) async fn start_upload(
        &self,
        permit: &Permit,
        name: &RepositoryName,
        algorithm: Algorithm,
        call: &Call,
    ) -> Result<Response<Body>, Error> {
        let id = self.registry.uploads().begin(name, algorithm, owner(permit)).await?;
        Ok(self.progress(StatusCode::ACCEPTED, name, (id, 0), call))
    }

    pub(super) async fn mount_blob(
        &self,
        permit: &Permit,
        name: &RepositoryName,
        (digest, from): (&Digest, Option<&RepositoryName>),
        call: &Call,
    ) -> Result<Response<Body>, Error> {
        let mounted = digest.clone();
        let source = from.cloned();
        let change = {
            let (registry, name, digest) = (self.registry.clone(), name.clone(), digest.clone());
            let from = from.cloned();
            async move { registry.blobs().mount(&name, &digest, from.as_ref()).await }
        };
        let teller = self.teller(Action::Mount, permit, name, call);
        let tell = move |teller: Teller, size: &Option<u64>| {
            let size = *size;
            async move { teller.mounted(mounted, size, source).await }.boxed()
        };
        if self.told(teller, change, tell).await?.is_some() {
            return Ok(self.created(name, digest, call));
        }
        self.start_upload(permit, name, digest.algorithm(), call).await
    }

    pub(super) async fn put_blob(
        &self,
        permit: &Permit,
        name: &RepositoryName,
        digest: &Digest,
        (call, body): (&Call, Body),
    ) -> Result<Response<Body>, Error> {
        let chunk = self.chunk(call, body)?;
        let change = {
            let (registry, name, digest) = (self.registry.clone(), name.clone(), digest.clone());
            let owner = owner(permit);
            async move { registry.uploads().put(&name, &digest, owner, chunk).await }
        };
        let teller = self.teller(Action::Push, permit, name, call);
        self.told(teller, change, tell_of(digest)).await?;
        Ok(self.created(name, digest, call))
    }

    pub(super) async fn upload_status(
        &self,
        permit: &Permit,
        name: &RepositoryName,
        id: UploadId,
        call: &Call,
    ) -> Result<Response<Body>, Error> {
        let length = self.registry.uploads().length(&upload(permit, name, id)).await?;
        Ok(self.progress(StatusCode::NO_CONTENT, name, (id, length), call))
    }

    pub(super) async fn append_upload(
        &self,
        permit: &Permit,
        name: &RepositoryName,
        id: UploadId,
        (call, body): (&Call, Body),
    ) -> Result<Response<Body>, Error> {
        let chunk = self.chunk(call, body)?;
        match self.registry.uploads().append(&upload(permit, name, id), chunk).await {
            Ok(length) => Ok(self.progress(StatusCode::ACCEPTED, name, (id, length), call)),
            Err(error) => self.not_taken(error, name, id, call),
        }
    }

    pub(super) async fn finish_upload(
        &self,
        permit: &Permit,
        name: &RepositoryName,
        (id, digest): (UploadId, &Digest),
        (call, body): (&Call, Body),
    ) -> Result<Response<Body>, Error> {
        let chunk = self.chunk(call, body)?;
        let change = {
            let (registry, digest) = (self.registry.clone(), digest.clone());
            let upload = upload(permit, name, id);
            async move { registry.uploads().finish(&upload, &digest, chunk).await }
        };
        let teller = self.teller(Action::Push, permit, name, call);
        match self.told(teller, change, tell_of(digest)).await {
            Ok(_) => Ok(self.created(name, digest, call)),
            Err(error) => self.not_taken(error, name, id, call),
        }
    }

    pub(super) async fn cancel_upload(
        &self,
        permit: &Permit,
        name: &RepositoryName,
        id: UploadId,
    ) -> Result<Response<Body>, Error> {
        self.registry.uploads().cancel(&upload(permit, name, id)).await?;
        let mut response = status(StatusCode::NO_CONTENT);
        response.headers_mut().insert(UPLOAD_UUID, value(&id));
        Ok(response)
    }

    /// The answer to a chunk that an upload did not take. To one that begins elsewhere than where
    /// the upload ends, it says where the upload goes on, as the answer to a chunk that was taken
    /// does; the `Range` is that of the error.
    fn not_taken(
        &self,
        error: registry::Error,
        name: &RepositoryName,
        id: UploadId,
        call: &Call,
    ) -> Result<Response<Body>, Error> {
        if !matches!(error, registry::Error::RangeInvalid { .. }) {
            return Err(error.into());
        }
        let mut response = Error::from(error).into_response(call.id);
        let location = self.base_url(call).locate(&format!("/v2/{name}/blobs/uploads/{id}"));
        response.headers_mut().insert(header::LOCATION, location);
        response.headers_mut().insert(UPLOAD_UUID, value(&id));
        Ok(response)
    }

    /// Tells how far an upload is and where it goes on.
    fn progress(
        &self,
        code: StatusCode,
        name: &RepositoryName,
        (id, length): (UploadId, u64),
        call: &Call,
    ) -> Response<Body> {
        let mut response = status(code);
        let location = self.base_url(call).locate(&format!("/v2/{name}/blobs/uploads/{id}"));
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, location);
        headers.insert(header::RANGE, value(&range::received(length)));
        headers.insert(UPLOAD_UUID, value(&id));
        response
    }

    /// Tells where a blob is from now on.
    fn created(&self, name: &RepositoryName, digest: &Digest, call: &Call) -> Response<Body> {
        let mut response = status(StatusCode::CREATED);
        let location = self.base_url(call).locate(&format!("/v2/{name}/blobs/{digest}"));
        response.headers_mut().insert(header::LOCATION, location);
        response.headers_mut().insert(CONTENT_DIGEST, value(digest));
        response
    }

    /// The chunk that a call brings.
    fn chunk(&self, call: &Call, body: Body) -> Result<Chunk, Error> {
        let unusable = |what: &str| {
            let detail = json!(format!("a chunk's range is <first>-<last>, not {what}"));
            Error::refused(ErrorCode::RangeInvalid).with_detail(detail)
        };
        let header = call.only(&header::CONTENT_RANGE);
        let range = match header.map_err(|_| unusable("several, nor what is no text"))? {
            None => None,
            Some(header) => {
                Some(range::of_chunk(header).ok_or_else(|| unusable(&format!("{header:?}")))?)
            }
        };
        let body = body::bytes(body, self.patience);
        Ok(Chunk { body, length: call.content_length(), range })
    }
}

/// Tells of a blob that has come, by its length.
fn tell_of(digest: &Digest) -> impl FnOnce(Teller, &u64) -> BoxFuture<'static, ()> + use<> {
    let digest = digest.clone();
    |teller, size| teller.blob(digest, *size).boxed()
}

/// Whose the uploads of a caller are.
fn owner(permit: &Permit) -> Option<Arc<str>> {
    match permit.identity() {
        Identity::Anonymous => None,
        Identity::User(name) => Some(Arc::clone(name)),
    }
}

/// The upload that a caller means.
fn upload(permit: &Permit, name: &RepositoryName, id: UploadId) -> Upload {
    Upload { name: name.clone(), id, owner: owner(permit) }
}
