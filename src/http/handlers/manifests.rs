//! Manifests: end-3, end-7 and end-9.

use axum::{
    body::Body,
    http::{HeaderName, Method, Response, StatusCode, header},
};
use futures_util::FutureExt as _;
use serde_json::json;

use super::super::{
    Api, CONTENT_DIGEST, Call, Error, body, conditional,
    events::{Pushed, Teller},
    response, status, value,
};
use crate::{
    gate::Permit,
    notify::Action,
    oci::{ErrorCode, Manifest, Reference, RepositoryName, Tag},
    registry::{self, Accepted, Put},
};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

impl Api {
    /// Serves a manifest as what it is, whatever `Accept` says: clients that cannot read it say so
    /// better than a 404 could.
    pub(super) async fn read_manifest(
        &self,
        permit: &Permit,
        name: &RepositoryName,
        reference: &Reference,
        call: &Call,
    ) -> Result<Response<Body>, Error> {
        let manifest = self.registry.manifests().get(name, reference).await?;
        let manifest = manifest.ok_or_else(|| unknown(name, reference))?;
        if call.method == Method::HEAD
            && matches!(reference, Reference::Digest(_))
            && !self.registry.manifests().touch(name, &manifest.digest).await?
        {
            return Err(unknown(name, reference));
        }
        if call.method == Method::GET {
            // Whether it has to be sent or not, somebody wants it.
            self.registry.manifests().record_pull(name, &manifest.digest);
        }
        if let Some(response) = conditional::not_modified(call, &manifest.digest) {
            return Ok(response);
        }
        if let Some(teller) = self.teller(Action::Pull, permit, name, call) {
            teller.pulled(manifest.clone(), reference.clone()).boxed().await;
        }
        let length = manifest.bytes.len();
        let body = match call.method {
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

    pub(super) async fn put_manifest(
        &self,
        permit: &Permit,
        name: &RepositoryName,
        (reference, tags): (Reference, Vec<Tag>),
        (call, body): (&Call, Body),
    ) -> Result<Response<Body>, Error> {
        let too_large = || {
            let detail = json!(format!("a manifest has at most {} bytes", Manifest::MAX_SIZE));
            Error::refused(ErrorCode::SizeInvalid)
                .with_status(StatusCode::PAYLOAD_TOO_LARGE)
                .with_detail(detail)
        };
        if call.content_length().is_some_and(|length| length > Manifest::MAX_SIZE as u64) {
            return Err(too_large());
        }
        let content_type = call.header(header::CONTENT_TYPE).map(str::to_owned);
        let bytes = body::whole(body, Manifest::MAX_SIZE, self.patience)
            .await
            .map_err(registry::Error::from)?
            .ok_or_else(too_large)?;
        let pushed = Pushed::new(&reference, &tags, &bytes);
        let put = Put { reference, tags: tags.clone(), content_type, bytes };
        let change = {
            let (registry, name) = (self.registry.clone(), name.clone());
            async move { registry.manifests().put(&name, put).await }
        };
        let teller = self.teller(Action::Push, permit, name, call);
        let tell = |teller: Teller, accepted: &Accepted| {
            teller.pushed(accepted.digest.clone(), pushed).boxed()
        };
        let accepted = self.told(teller, change, tell).await?;

        let mut response = status(StatusCode::CREATED);
        let path = format!("/v2/{name}/manifests/{}", accepted.digest);
        let location = self.base_url(call).locate(&path);
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

    pub(super) async fn delete_manifest(
        &self,
        permit: &Permit,
        name: &RepositoryName,
        reference: &Reference,
        call: &Call,
    ) -> Result<Response<Body>, Error> {
        self.deletion_allowed()?;
        let teller = self.teller(Action::Delete, permit, name, call);
        let deleted = match (reference, teller) {
            (Reference::Digest(digest), None) => {
                self.registry.manifests().delete(name, digest, None).await?
            }
            (Reference::Digest(digest), Some(teller)) => {
                self.delete_manifest_and_tell(teller, name, digest).await?
            }
            (Reference::Tag(tag), teller) => {
                let (registry, name, tag) = (self.registry.clone(), name.clone(), tag.clone());
                let gone = tag.clone();
                let change = async move { registry.manifests().delete_tag(&name, &tag).await };
                let tell = move |teller: Teller, deleted: &bool| {
                    let gone = deleted.then_some(gone);
                    async move { teller.untagged(gone.as_slice()).await }.boxed()
                };
                self.told(teller, change, tell).await?
            }
        };
        if deleted { Ok(status(StatusCode::ACCEPTED)) } else { Err(unknown(name, reference)) }
    }
}

fn unknown(name: &RepositoryName, reference: &Reference) -> Error {
    let detail = json!({ "name": name.as_str(), "reference": reference.to_string() });
    Error::refused(ErrorCode::ManifestUnknown).with_detail(detail)
}
