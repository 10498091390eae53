//! HTTP: the only module that names axum.
//!
//! A request goes through the middleware (`middleware.rs` has the order), which finds out who is
//! calling before it judges anything else about the request and before its body is read; then to one
//! handler (`handlers.rs`), which turns it into calls of the core and a response. Errors become
//! responses in `error.rs` only.

use std::{convert::Infallible, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    BoxError, Router,
    body::{Bytes, HttpBody},
    http::{HeaderMap, Request, Response},
};
use hyper::service::Service;

use self::{
    base_url::BaseUrls,
    call::Call,
    handlers::{Addressing, Handlers},
    middleware::{
        Authorisation, PerConnection, access_log::AccessLog, open_routes, response_headers,
    },
    proxies::Proxies,
};
use crate::{gate::Gate, health::Health, registry::Registry, telemetry::requests::Requests};

pub mod authority;
mod base_url;
pub mod basic;
mod body;
mod byteranges;
mod call;
mod caller;
mod conditional;
mod connection;
mod debug;
pub mod endpoint;
mod error;
mod handlers;
mod middleware;
mod options;
mod proxies;
pub mod range;
mod redirect;
mod response;

pub use call::Peer;
pub use connection::Connection;
pub use debug::{Debug, DebugOptions, PrometheusOptions};
pub use error::Error;
pub use middleware::{LoggedBody, RequestId};
pub use options::{
    CatalogOptions, DeletableBlobs, DeleteOptions, InvalidOptions, Options, ReadOnlyOptions,
    TagsOptions, UploadsOptions,
};
pub use proxies::Proxy;
pub use redirect::Redirect;

/// The registry's HTTP interface: what each layer of the middleware, and what the handlers need.
#[derive(Debug)]
pub struct Api {
    access_log: AccessLog,
    /// Of all responses.
    headers: Arc<ArcSwap<HeaderMap>>,
    health: Arc<Health>,
    proxies: Arc<Proxies>,
    open_routes: Router,
    gate: Arc<Gate>,
    authorisation: Arc<Authorisation>,
    /// Without a slash at its end.
    prefix: Arc<str>,
    handlers: Arc<Handlers>,
}

/// The parts of the server that the interface stands before.
#[derive(Debug)]
pub struct ApiParts {
    /// The core.
    pub registry: Registry,
    /// Who is calling, and what they may do.
    pub gate: Arc<Gate>,
    /// While it is not well, every request is refused.
    pub health: Arc<Health>,
}

/// What an operator allows of the interface.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// `storage.delete`
    pub delete: DeleteOptions,
    /// `storage.maintenance.readonly`
    pub readonly: ReadOnlyOptions,
    /// `catalog`
    pub catalog: CatalogOptions,
    /// `tags`
    pub tags: TagsOptions,
    /// `log.accesslog.disabled`
    pub silent: bool,
}

impl Api {
    /// The interface to these parts. `secure` says whether clients reach it by TLS.
    ///
    /// # Errors
    ///
    /// When an option cannot be used: a malformed header or host, an idle timeout of zero.
    pub fn new(
        parts: ApiParts,
        options: &Options,
        limits: Limits,
        secure: bool,
    ) -> Result<Self, InvalidOptions> {
        if options.idletimeout.is_zero() {
            return Err(InvalidOptions::IdleTimeout);
        }
        let ApiParts { registry, gate, health } = parts;
        let headers = response_headers::configured(options)?;
        let prefix = prefix(options);
        let proxies = Arc::new(Proxies::new(&options.trustedproxies));
        let base_urls = Arc::new(BaseUrls::new(options, secure, &prefix, &proxies)?);
        let requests = Arc::<Requests>::default();
        let addressing = Addressing { base_urls, prefix: Arc::clone(&prefix) };
        let handlers = Handlers::new(registry, &addressing, &limits, options.idletimeout);
        let readonly = limits.readonly.enabled;
        Ok(Self {
            headers: Arc::new(ArcSwap::from_pointee(headers)),
            authorisation: Arc::new(Authorisation::new(
                Arc::clone(&gate),
                Arc::clone(&requests),
                readonly,
            )),
            access_log: AccessLog {
                requests,
                is_written: !limits.silent,
                prefix: Arc::clone(&prefix),
            },
            health,
            proxies,
            open_routes: open_routes::router(&prefix),
            gate,
            prefix,
            handlers: Arc::new(handlers),
        })
    }

    /// The options that cannot be used.
    #[must_use]
    pub fn problems(options: &Options) -> Vec<InvalidOptions> {
        let timeout = options.idletimeout.is_zero().then_some(InvalidOptions::IdleTimeout);
        let headers = response_headers::configured(options).err();
        let host = base_url::fixed(options, true).err();
        timeout.into_iter().chain(headers).chain(host).collect()
    }

    /// The counts of requests.
    #[must_use]
    pub fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.access_log.requests)
    }

    /// Sends other headers with all responses from now on.
    ///
    /// # Errors
    ///
    /// When a header is malformed. The old headers stay in force then.
    pub fn set_headers(&self, options: &Options) -> Result<(), InvalidOptions> {
        self.headers.store(Arc::new(response_headers::configured(options)?));
        Ok(())
    }

    /// Refuses writes from now on, or allows them again.
    pub fn set_readonly(&self, options: &ReadOnlyOptions) {
        self.authorisation.set_readonly(options.enabled);
    }

    /// Whether only reading is allowed for now.
    #[must_use]
    pub fn is_readonly(&self) -> bool {
        self.authorisation.is_readonly()
    }

    /// The interface as a service for the requests on one connection.
    pub fn service<B>(
        &self,
        connection: Connection,
    ) -> impl Service<Request<B>, Response = Response<LoggedBody>, Error = Infallible, Future: Send>
    + Send
    + use<B>
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        PerConnection::new(middleware::stack(self, connection))
    }
}

/// The path below which everything is served, without a slash at its end.
fn prefix(options: &Options) -> Arc<str> {
    match options.prefix.trim_matches('/') {
        "" => "".into(),
        prefix => format!("/{prefix}").into(),
    }
}
