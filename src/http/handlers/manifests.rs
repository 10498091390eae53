//! Manifests: end-3, end-7 and end-9.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderName, Method, Response, StatusCode, header},
};
use futures_util::FutureExt as _;
use serde_json::json;

use crate::{
    http::{
        DeleteOptions, Error,
        base_url::BaseUrls,
        body,
        caller::Callers,
        conditional,
        middleware::Authorised,
        refusals::Refusals,
        response::{CONTENT_DIGEST, response, status, value},
    },
    oci::{ErrorCode, Manifest, Reference, RepositoryName, Tag},
    registry::{self, Access, Action, ExistingTags, Manifests, Put, TagExists},
};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// The handlers of manifests and tags.
#[derive(Debug)]
pub(super) struct ManifestHandlers {
    pub(super) manifests: Arc<Manifests>,
    pub(super) callers: Arc<Callers>,
    pub(super) base_urls: Arc<BaseUrls>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) delete: DeleteOptions,
    /// The time within which the whole body of a manifest must arrive.
    pub(super) idle_timeout: Duration,
}

impl ManifestHandlers {
    /// Serves a manifest in its stored media type, whatever `Accept` says: a client that cannot read
    /// the type reports that more clearly than a 404 could.
    pub(super) async fn read(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<Response<Body>, Error> {
        let manifest = self.manifests.get(name, reference).await?;
        let manifest = manifest.ok_or_else(|| unknown(name, reference))?;
        if request.head.method == Method::HEAD
            && matches!(reference, Reference::Digest(_))
            && !self.manifests.touch(name, &manifest.digest).await?
        {
            return Err(unknown(name, reference));
        }
        // A `304` is a pull, too: the client uses the manifest.
        let access = match request.head.method {
            Method::HEAD => Access::Head,
            _ => Access::Get,
        };
        self.manifests.record_pull(name, &manifest.digest, access);
        if let Some(response) = conditional::not_modified(&request.head, &manifest.digest) {
            return Ok(response);
        }
        if self.callers.wants_events(Action::Pull) {
            let caller = self.callers.of(request, Action::Pull);
            let pulled = self.manifests.emit_pulled(&caller, name, reference, &manifest);
            pulled.boxed().await;
        }
        let length = manifest.bytes.len();
        let body = match request.head.method {
            Method::HEAD => Body::empty(),
            _ => Body::from(manifest.bytes),
        };
        let mut response = response(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, value(&manifest.media_type));
        headers.insert(header::CONTENT_LENGTH, length.into());
        headers.insert(header::ETAG, conditional::etag(&manifest.digest));
        headers.insert(CONTENT_DIGEST, value(&manifest.digest));
        Ok(response)
    }

    pub(super) async fn put(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        put: PutAt,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        let too_large = || {
            let detail = json!(format!("a manifest has at most {} bytes", Manifest::MAX_SIZE));
            Error::refused(ErrorCode::SizeInvalid)
                .with_status(StatusCode::PAYLOAD_TOO_LARGE)
                .with_detail(detail)
        };
        if request.head.content_length().is_some_and(|length| length > Manifest::MAX_SIZE as u64) {
            return Err(too_large());
        }
        let content_type = request.head.header(header::CONTENT_TYPE).map(str::to_owned);
        let bytes = body::whole(body, Manifest::MAX_SIZE, self.idle_timeout)
            .await
            .map_err(registry::Error::from)?
            .ok_or_else(too_large)?;
        if let Some(upload) = request.head.upload() {
            upload.hold_back(bytes.len()).await;
        }
        let PutAt { reference, tags } = put;
        let existing_tags = match request.permit.may_move_tags(name) {
            true => ExistingTags::Move,
            false => ExistingTags::Keep,
        };
        let put = Put { reference, tags: tags.clone(), content_type, bytes, existing_tags };
        let caller = self.callers.of(request, Action::Push);
        let accepted = self.manifests.put(&caller, name, put).await;
        let accepted = accepted.map_err(|error| match error {
            registry::Error::TagExists(TagExists { repository, tag }) => {
                let denied = request.permit.denies_move(&repository, &tag);
                self.refusals.denied(denied, &request.head)
            }
            other => other.into(),
        })?;

        let mut response = status(StatusCode::CREATED);
        let path = format!("/v2/{name}/manifests/{}", accepted.digest);
        let location = self.base_urls.of(&request.head).locate(&path);
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, location);
        headers.insert(CONTENT_DIGEST, value(&accepted.digest));
        if let Some(subject) = &accepted.subject {
            headers.insert(OCI_SUBJECT, value(subject));
        }
        for tag in &tags {
            headers.append(OCI_TAG, value(tag));
        }
        Ok(response)
    }

    pub(super) async fn delete(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<Response<Body>, Error> {
        self.delete.check()?;
        let caller = self.callers.of(request, Action::Delete);
        let deleted = match reference {
            Reference::Digest(digest) => self.manifests.delete(&caller, name, digest).await?,
            Reference::Tag(tag) => self.manifests.delete_tag(&caller, name, tag).await?,
        };
        if deleted { Ok(status(StatusCode::ACCEPTED)) } else { Err(unknown(name, reference)) }
    }
}

/// Where a manifest is put: under a tag, or under its digest and any number of tags.
pub(super) struct PutAt {
    pub(super) reference: Reference,
    pub(super) tags: Vec<Tag>,
}

fn unknown(name: &RepositoryName, reference: &Reference) -> Error {
    let detail = json!({ "name": name.as_str(), "reference": reference.to_string() });
    Error::refused(ErrorCode::ManifestUnknown).with_detail(detail)
}
