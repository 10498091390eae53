//! The handlers, in one file per subject, and the choice among them.
//!
//! [`service`] is the only way in, and it takes a [`Permitted`]: the endpoint, the body, and the
//! permit that the authorise middleware got for exactly these.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Response, header},
};
use futures_util::FutureExt as _;
use tower::{Service, service_fn};

use self::manifests::PutAt;
use super::{
    CatalogOptions, DeleteOptions, Error, TagsOptions,
    base_url::BaseUrls,
    endpoint::Endpoint,
    middleware::Permitted,
    response::{json, value},
};
use crate::{oci::ErrorCode, registry::Registry};

mod blobs;
mod catalog;
mod manifests;
mod referrers;
mod repositories;
mod search;
mod tags;
mod uploads;

/// What the handlers need.
#[derive(Debug)]
pub(super) struct Handlers {
    pub(super) registry: Registry,
    pub(super) base_urls: Arc<BaseUrls>,
    pub(super) delete: DeleteOptions,
    pub(super) catalog: CatalogOptions,
    pub(super) tags: TagsOptions,
    /// Without a slash at its end.
    pub(super) prefix: Arc<str>,
    /// How long a client may send nothing of a body that it announced.
    pub(super) idle_timeout: Duration,
}

/// The service behind all middleware.
pub(super) fn service(
    handlers: &Arc<Handlers>,
) -> impl Service<
    Permitted,
    Response = Response<Body>,
    Error = Error,
    Future: Future<Output = Result<Response<Body>, Error>> + Send,
> + Clone
+ Send
+ use<> {
    let handlers = Arc::clone(handlers);
    service_fn(move |permitted| {
        let handlers = Arc::clone(&handlers);
        async move { handlers.handle(permitted).await }
    })
}

impl Handlers {
    /// Calls the handler of an endpoint. The two that read content, which are most of what a registry
    /// does, run in this future; the others are boxed, so that their size is not every request's.
    async fn handle(&self, permitted: Permitted) -> Result<Response<Body>, Error> {
        let Permitted { request, endpoint, body, .. } = permitted;
        let request = &request;
        match endpoint {
            Endpoint::Base => Ok(json(&request.head.method, "{}".to_owned())),
            Endpoint::ReadManifest { name, reference } => {
                self.read_manifest(request, &name, &reference).await
            }
            Endpoint::PutManifest { name, reference, tags } => {
                self.put_manifest(request, &name, PutAt { reference, tags }, body).boxed().await
            }
            Endpoint::DeleteManifest { name, reference } => {
                self.delete_manifest(request, &name, &reference).boxed().await
            }
            Endpoint::DeleteRepository { name } => {
                self.delete_repository(request, &name).boxed().await
            }
            Endpoint::ReadBlob { name, digest } => self.read_blob(request, &name, &digest).await,
            Endpoint::DeleteBlob { name, digest } => {
                self.delete_blob(request, &name, &digest).boxed().await
            }
            Endpoint::StartUpload { name, algorithm } => {
                self.start_upload(request, &name, algorithm).boxed().await
            }
            Endpoint::PutBlob { name, digest } => {
                self.put_blob(request, &name, &digest, body).boxed().await
            }
            Endpoint::MountBlob { name, digest, from } => {
                self.mount_blob(request, &name, &digest, from.as_ref()).boxed().await
            }
            Endpoint::UploadStatus { name, id } => {
                self.upload_status(request, &name, id).boxed().await
            }
            Endpoint::AppendUpload { name, id } => {
                self.append_upload(request, &name, id, body).boxed().await
            }
            Endpoint::FinishUpload { name, id, digest } => {
                let upload = uploads::upload(request, &name, id);
                self.finish_upload(request, upload, &digest, body).boxed().await
            }
            Endpoint::CancelUpload { name, id } => {
                self.cancel_upload(request, &name, id).boxed().await
            }
            Endpoint::Tags { name, page } => self.tags(request, &name, page).boxed().await,
            Endpoint::Catalog { page } => self.catalog(request, page).boxed().await,
            Endpoint::Referrers { name, query } => {
                self.referrers(request, &name, query).boxed().await
            }
            Endpoint::Search { term, size, page } => {
                self.search(request, &term, size, page).boxed().await
            }
        }
    }

    /// Refuses a deletion unless the configuration allows it.
    fn deletion_allowed(&self) -> Result<(), Error> {
        if self.delete.enabled {
            return Ok(());
        }
        let why = "deletion is off; storage.delete.enabled: true allows it";
        Err(Error::refused(ErrorCode::Unsupported).because(why))
    }

    /// Adds the address of the next page (RFC 8288), relative to this one.
    fn link_next(&self, response: &mut Response<Body>, path: &str) {
        let link = format!("<{}{path}>; rel=\"next\"", self.prefix);
        response.headers_mut().insert(header::LINK, value(&link));
    }
}
