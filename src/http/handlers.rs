//! The handlers, and the dispatch of an endpoint to its handler.
//!
//! [`service`] is the only way to a handler, and it takes a [`Permitted`]: the endpoint, the body, and
//! the permit that the authorise middleware got for exactly these. Each file below has the handlers
//! of one subject, which hold only the part of the registry that they call.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, http::Response};
use futures_util::FutureExt as _;
use tower::{Service, service_fn};

use self::{
    blobs::BlobHandlers,
    catalog::CatalogHandler,
    manifests::{ManifestHandlers, PutAt},
    referrers::ReferrersHandler,
    repositories::RepositoryHandlers,
    search::SearchHandler,
    tags::TagsHandler,
    uploads::UploadHandlers,
};
use super::{
    Error, Limits, base_url::BaseUrls, blob_limit::BlobLimit, caller::Callers, endpoint::Endpoint,
    middleware::Permitted, refusals::Refusals, response::json,
};
use crate::registry::Registry;

mod blobs;
mod catalog;
mod manifests;
mod referrers;
mod repositories;
mod search;
mod tags;
mod uploads;

/// All handlers, by subject.
#[derive(Debug)]
pub(super) struct Handlers {
    blobs: BlobHandlers,
    catalog: CatalogHandler,
    manifests: ManifestHandlers,
    referrers: ReferrersHandler,
    repositories: RepositoryHandlers,
    search: SearchHandler,
    tags: TagsHandler,
    uploads: UploadHandlers,
}

/// What handlers make responses with, beside the operator's [`Limits`].
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) base_urls: Arc<BaseUrls>,
    /// The path below which the registry is served, without a slash at its end.
    pub(super) prefix: Arc<str>,
    pub(super) refusals: Arc<Refusals>,
    /// The largest blob that may be pushed.
    pub(super) blob_limit: Arc<BlobLimit>,
}

impl Handlers {
    /// The handlers of a registry. A request body that makes no progress for `idle_timeout` is an
    /// error.
    pub(super) fn new(
        registry: Registry,
        answering: &Answering,
        limits: &Limits,
        idle_timeout: Duration,
    ) -> Self {
        let Answering { base_urls, prefix, refusals, blob_limit } = answering;
        let callers = Arc::new(Callers::new(registry.events().clone(), Arc::clone(base_urls)));
        Self {
            blobs: BlobHandlers {
                blobs: Arc::clone(registry.blobs()),
                callers: Arc::clone(&callers),
                delete: limits.delete.clone(),
            },
            catalog: CatalogHandler {
                lists: Arc::clone(registry.lists()),
                options: limits.catalog.clone(),
                prefix: Arc::clone(prefix),
            },
            manifests: ManifestHandlers {
                manifests: Arc::clone(registry.manifests()),
                callers: Arc::clone(&callers),
                base_urls: Arc::clone(base_urls),
                refusals: Arc::clone(refusals),
                delete: limits.delete.clone(),
                idle_timeout,
            },
            referrers: ReferrersHandler {
                lists: Arc::clone(registry.lists()),
                prefix: Arc::clone(prefix),
            },
            search: SearchHandler { lists: Arc::clone(registry.lists()) },
            tags: TagsHandler {
                lists: Arc::clone(registry.lists()),
                options: limits.tags.clone(),
                prefix: Arc::clone(prefix),
            },
            uploads: UploadHandlers {
                uploads: Arc::clone(registry.uploads()),
                blobs: Arc::clone(registry.blobs()),
                callers: Arc::clone(&callers),
                base_urls: Arc::clone(base_urls),
                blob_limit: Arc::clone(blob_limit),
                idle_timeout,
            },
            repositories: RepositoryHandlers { registry, callers, delete: limits.delete.clone() },
        }
    }

    /// Calls the handler of an endpoint. The two that read content, which most requests call, run in
    /// this future; the others are boxed, so that they do not enlarge the future of every request.
    async fn handle(&self, permitted: Permitted) -> Result<Response<Body>, Error> {
        let Permitted { request, endpoint, body, .. } = permitted;
        let request = &request;
        match endpoint {
            Endpoint::Base => Ok(json(&request.head.method, "{}".to_owned())),
            Endpoint::ReadManifest { name, reference } => {
                self.manifests.read(request, &name, &reference).await
            }
            Endpoint::PutManifest { name, reference, tags } => {
                let at = PutAt { reference, tags };
                self.manifests.put(request, &name, at, body).boxed().await
            }
            Endpoint::DeleteManifest { name, reference } => {
                self.manifests.delete(request, &name, &reference).boxed().await
            }
            Endpoint::DeleteRepository { name } => {
                self.repositories.delete(request, &name).boxed().await
            }
            Endpoint::ReadBlob { name, digest } => self.blobs.read(request, &name, &digest).await,
            Endpoint::DeleteBlob { name, digest } => {
                self.blobs.delete(request, &name, &digest).boxed().await
            }
            Endpoint::StartUpload { name, algorithm } => {
                self.uploads.start(request, &name, algorithm).boxed().await
            }
            Endpoint::PutBlob { name, digest } => {
                self.uploads.put(request, &name, &digest, body).boxed().await
            }
            Endpoint::MountBlob { name, digest, from } => {
                self.uploads.mount(request, &name, &digest, from.as_ref()).boxed().await
            }
            Endpoint::UploadStatus { name, id } => {
                self.uploads.status(request, &name, id).boxed().await
            }
            Endpoint::AppendUpload { name, id } => {
                self.uploads.append(request, &name, id, body).boxed().await
            }
            Endpoint::FinishUpload { name, id, digest } => {
                let upload = uploads::upload(request, &name, id);
                self.uploads.finish(request, upload, &digest, body).boxed().await
            }
            Endpoint::CancelUpload { name, id } => {
                self.uploads.cancel(request, &name, id).boxed().await
            }
            Endpoint::Tags { name, page } => self.tags.list(request, &name, page).boxed().await,
            Endpoint::Catalog { page } => self.catalog.list(request, page).boxed().await,
            Endpoint::Referrers { name, query } => {
                self.referrers.list(request, &name, query).boxed().await
            }
            Endpoint::Search { term, size, page } => {
                self.search.search(request, &term, size, page).boxed().await
            }
        }
    }
}

/// The innermost service, behind all middleware.
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
