//! The registry's HTTP interface.
//!
//! A request passes the middleware (`middleware.rs` has the order), which authenticates the caller
//! before it parses the endpoint and before anything reads the body. One handler (`handlers.rs`)
//! then calls the core and makes the response. Errors become responses in `error.rs` only.

use std::{convert::Infallible, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    BoxError, Router,
    body::{Bytes, HttpBody},
    http::{HeaderMap, Request, Response},
};
use hyper::service::Service;

use self::{
    allowed_hosts::AllowedHosts,
    base_url::{BaseUrls, ConfiguredHost},
    blob_limit::BlobLimit,
    call::Call,
    challenge::Challenges,
    handlers::{Answering, Handlers},
    limits::RateLimits,
    middleware::{
        Authorisation, PerConnection, access_log::AccessLog, open_routes, response_headers,
    },
    proxies::Proxies,
    refusals::Refusals,
    token::TokenEndpoint,
};
pub use crate::network::{Clients, ClientsOptions, Proxy, Source};
use crate::{gate::Gate, health::Health, registry::Registry, telemetry::requests::Requests};

mod allowed_hosts;
pub mod authority;
mod authorization;
mod base_url;
pub mod basic;
pub mod bearer;
mod blob_limit;
mod body;
mod byteranges;
mod call;
mod caller;
mod challenge;
mod conditional;
mod connection;
mod debug;
pub mod endpoint;
mod error;
mod handlers;
mod limits;
mod middleware;
mod options;
mod plain_http;
mod proxies;
pub mod range;
mod redirect;
mod refusals;
mod response;
mod seen;
mod token;

pub use allowed_hosts::{AllowedHost, InvalidHost};
pub use call::Peer;
pub use connection::Connection;
pub use debug::{Debug, DebugOptions, PrometheusOptions};
pub use error::{Error, Grant};
pub use limits::{ByteRate, InvalidRate, LimitCounts, Limited, LimitsOptions, Rate};
pub use middleware::{LoggedBody, RequestId};
pub use options::{
    CatalogOptions, DeletableBlobs, DeleteOptions, InvalidOptions, Options, ReadOnlyOptions,
    TagsOptions, UploadsOptions,
};
pub use plain_http::refuse_plain_http;
pub use redirect::{ChallengeResponse, IsOtherSite, Redirect};

/// The registry's HTTP interface: the state of the middleware layers, and the handlers.
#[derive(Debug)]
pub struct Api {
    access_log: AccessLog,
    /// The configured headers of all responses.
    headers: Arc<ArcSwap<HeaderMap>>,
    health: Arc<Health>,
    proxies: Arc<Proxies>,
    clients: Arc<Clients>,
    limits: Arc<RateLimits>,
    open_routes: Router,
    token: Arc<TokenEndpoint>,
    gate: Arc<Gate>,
    refusals: Arc<Refusals>,
    authorisation: Arc<Authorisation>,
    allowed_hosts: Arc<AllowedHosts>,
    blob_limit: Arc<BlobLimit>,
    /// `http.prefix` without a slash at its end; empty for `/`.
    prefix: Arc<str>,
    handlers: Arc<Handlers>,
}

/// The parts of the server that the interface calls.
#[derive(Debug)]
pub struct ApiParts {
    /// The core.
    pub registry: Registry,
    /// Authenticates and authorises callers.
    pub gate: Arc<Gate>,
    /// While one of its checks fails, every request is refused.
    pub health: Arc<Health>,
}

/// What the operator restricts: deletions, writes, the size of pages, and the access log.
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
    pub access_log_disabled: bool,
}

impl Api {
    /// The interface to these parts. `secure` says whether clients connect with TLS.
    ///
    /// # Errors
    ///
    /// When an option is invalid: a malformed header or host, an idle timeout of zero.
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
        let challenges =
            Challenges::new(Arc::clone(&gate), Arc::clone(&base_urls), Arc::clone(&prefix));
        let challenges = Arc::new(challenges);
        let refusals = Arc::new(Refusals::new(Arc::clone(&gate), Arc::clone(&challenges)));
        let blob_limit = Arc::new(BlobLimit::new(options.limits.blob));
        let answering = Answering {
            base_urls,
            prefix: Arc::clone(&prefix),
            refusals: Arc::clone(&refusals),
            blob_limit: Arc::clone(&blob_limit),
        };
        let handlers = Handlers::new(registry, &answering, &limits, options.idletimeout);
        let readonly = limits.readonly.enabled;
        Ok(Self {
            headers: Arc::new(ArcSwap::from_pointee(headers)),
            authorisation: Arc::new(Authorisation::new(
                Arc::clone(&gate),
                Arc::clone(&refusals),
                Arc::clone(&requests),
                readonly,
            )),
            access_log: AccessLog {
                requests,
                is_written: !limits.access_log_disabled,
                prefix: Arc::clone(&prefix),
            },
            health,
            proxies,
            clients: Arc::new(Clients::new(&options.clients)),
            limits: Arc::new(RateLimits::new(&options.limits)),
            allowed_hosts: Arc::new(AllowedHosts::new(options)?),
            blob_limit,
            open_routes: open_routes::router(&prefix),
            token: Arc::new(TokenEndpoint::new(Arc::clone(&gate), Arc::clone(&challenges))),
            gate,
            refusals,
            prefix,
            handlers: Arc::new(handlers),
        })
    }

    /// The errors of all invalid options.
    #[must_use]
    pub fn problems(options: &Options) -> Vec<InvalidOptions> {
        let timeout = options.idletimeout.is_zero().then_some(InvalidOptions::IdleTimeout);
        let headers = response_headers::configured(options).err();
        let host = ConfiguredHost::parse(options, true).err();
        timeout.into_iter().chain(headers).chain(host).collect()
    }

    /// The metrics of requests.
    #[must_use]
    pub fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.access_log.requests)
    }

    /// Replaces the configured headers of all responses from now on.
    ///
    /// # Errors
    ///
    /// When a header is malformed. The previous headers stay in force then.
    pub fn set_headers(&self, options: &Options) -> Result<(), InvalidOptions> {
        self.headers.store(Arc::new(response_headers::configured(options)?));
        Ok(())
    }

    /// Limits the size of blobs in requests from now on, or no longer.
    pub fn set_blob_limit(&self, options: &Options) {
        self.blob_limit.set(options.limits.blob);
    }

    /// The addresses that may use the registry, for the server of this interface.
    #[must_use]
    pub fn clients(&self) -> Arc<Clients> {
        Arc::clone(&self.clients)
    }

    /// Judges the addresses of clients by these options from now on.
    pub fn set_clients(&self, options: &ClientsOptions) {
        self.clients.set(options);
    }

    /// Limits the rates of callers by these options from now on.
    pub fn set_limits(&self, options: &LimitsOptions) {
        self.limits.set(options);
    }

    /// Returns a function with the counts of limited requests and bytes at each call, for metrics.
    pub fn count_limited(&self) -> impl Fn() -> LimitCounts + Clone + Send + Sync + use<> {
        let limits = Arc::clone(&self.limits);
        move || limits.counts()
    }

    /// Refuses writes from now on, or allows them again.
    pub fn set_readonly(&self, options: &ReadOnlyOptions) {
        self.authorisation.set_readonly(options.enabled);
    }

    /// Whether the interface refuses writes.
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

/// The path below which the registry is served, without a slash at its end.
fn prefix(options: &Options) -> Arc<str> {
    match options.prefix.trim_matches('/') {
        "" => "".into(),
        prefix => format!("/{prefix}").into(),
    }
}
