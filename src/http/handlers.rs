//! The handlers, in one file per subject, and the choice among them.

use axum::{
    body::Body,
    http::{Response, header},
};
use futures_util::FutureExt as _;

use super::{Api, Call, Error, endpoint::Endpoint, json, value};
use crate::{gate::Permit, oci::ErrorCode};

mod blobs;
mod catalog;
mod manifests;
mod referrers;
mod repositories;
mod search;
mod tags;
mod uploads;

impl Api {
    /// Hands over to a handler: those that read content, which is what a registry does most, as
    /// they are, the others on the heap, so that not every request is as large as theirs.
    pub(super) async fn dispatch(
        &self,
        permit: &Permit,
        endpoint: Endpoint,
        (call, body): (&Call, Body),
    ) -> Result<Response<Body>, Error> {
        match endpoint {
            Endpoint::Base => Ok(json(&call.method, "{}".to_owned())),
            Endpoint::ReadManifest { name, reference } => {
                self.read_manifest(permit, &name, &reference, call).await
            }
            Endpoint::PutManifest { name, reference, tags } => {
                self.put_manifest(permit, &name, (reference, tags), (call, body)).boxed().await
            }
            Endpoint::DeleteManifest { name, reference } => {
                self.delete_manifest(permit, &name, &reference, call).boxed().await
            }
            Endpoint::DeleteRepository { name } => {
                self.delete_repository(permit, &name, call).boxed().await
            }
            Endpoint::ReadBlob { name, digest } => {
                self.read_blob(permit, &name, &digest, call).await
            }
            Endpoint::DeleteBlob { name, digest } => {
                self.delete_blob(permit, &name, &digest, call).boxed().await
            }
            Endpoint::StartUpload { name, algorithm } => {
                self.start_upload(permit, &name, algorithm, call).boxed().await
            }
            Endpoint::PutBlob { name, digest } => {
                self.put_blob(permit, &name, &digest, (call, body)).boxed().await
            }
            Endpoint::MountBlob { name, digest, from } => {
                self.mount_blob(permit, &name, (&digest, from.as_ref()), call).boxed().await
            }
            Endpoint::UploadStatus { name, id } => {
                self.upload_status(permit, &name, id, call).boxed().await
            }
            Endpoint::AppendUpload { name, id } => {
                self.append_upload(permit, &name, id, (call, body)).boxed().await
            }
            Endpoint::FinishUpload { name, id, digest } => {
                self.finish_upload(permit, &name, (id, &digest), (call, body)).boxed().await
            }
            Endpoint::CancelUpload { name, id } => {
                self.cancel_upload(permit, &name, id).boxed().await
            }
            Endpoint::Tags { name, page } => self.tags(permit, &name, page, call).boxed().await,
            Endpoint::Catalog { page } => self.catalog(permit, page, call).boxed().await,
            Endpoint::Referrers { name, query } => {
                self.referrers(permit, &name, query, call).boxed().await
            }
            Endpoint::Search { term, size, page } => {
                self.search(permit, &term, (size, page), call).boxed().await
            }
        }
    }

    /// Refuses what deletes unless the configuration allows it.
    fn deletion_allowed(&self) -> Result<(), Error> {
        if self.limits.delete.enabled {
            return Ok(());
        }
        let why = "deletion is off; storage.delete.enabled: true allows it";
        Err(Error::refused(ErrorCode::Unsupported).because(why))
    }

    /// Says where the next page is (RFC 8288), relative to this one.
    fn link_next(&self, response: &mut Response<Body>, path: &str) {
        let link = format!("<{}{path}>; rel=\"next\"", self.prefix);
        response.headers_mut().insert(header::LINK, value(&link));
    }
}
