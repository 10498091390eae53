//! HTTP: the only room that names axum.
//!
//! A request goes through `observe` (its id, the log line, panics), then `Api::answer`: who is
//! calling, before anything else about the request is judged or its body is read; which endpoint
//! it is for; may they; then one handler, which takes the permit and turns a call into the core
//! into a response. Handlers are in one file per subject. Errors become responses in `error.rs`
//! only.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{
    BoxError,
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header},
};
use hyper::service::{Service, service_fn};

use self::{
    base_url::{BaseUrl, BaseUrlRules},
    call::Call,
    endpoint::Endpoint,
    proxies::Proxies,
};
use crate::{
    gate::Gate,
    health::Health,
    notify::Notifier,
    oci::ErrorCode,
    registry::Registry,
    telemetry::requests::{Handler, Requests},
};

pub mod authority;
mod base_url;
mod body;
mod browsers;
mod byteranges;
mod call;
mod conditional;
mod connection;
mod debug;
pub mod endpoint;
mod error;
mod events;
mod handlers;
mod observe;
mod options;
mod proxies;
pub mod range;
mod redirect;
mod response;

pub use call::Peer;
pub use connection::Connection;
pub use debug::{Debug, DebugOptions, PrometheusOptions};
pub use error::Error;
pub use observe::{Observed, RequestId};
pub use options::{
    CatalogOptions, DeletableBlobs, DeleteOptions, InvalidOptions, Options, ReadOnlyOptions,
    TagsOptions, UploadsOptions,
};
pub use proxies::Proxy;
pub use redirect::Redirect;
use response::{CONTENT_DIGEST, json, options, redirect, response, status, value};

/// The registry's HTTP interface.
#[derive(Debug)]
pub struct Api {
    registry: Registry,
    gate: Arc<Gate>,
    health: Arc<Health>,
    /// Who is told of what happens.
    notifier: Notifier,
    limits: Limits,
    base_url: BaseUrlRules,
    proxies: Proxies,
    /// Without a slash at its end.
    prefix: String,
    adjustable: ArcSwap<Adjustable>,
    requests: Arc<Requests>,
    access_log: bool,
    /// How long a client may send nothing of a body.
    patience: Duration,
}

/// What can be changed while the server runs.
#[derive(Debug)]
struct Adjustable {
    /// Of all responses.
    headers: HeaderMap,
    /// Whether nothing may be written.
    readonly: bool,
}

impl Adjustable {
    fn new(options: &Options, readonly: &ReadOnlyOptions) -> Result<Self, InvalidOptions> {
        let mut headers = browsers::policies();
        for (name, values) in &options.headers {
            let invalid = || InvalidOptions::Header(name.clone());
            let parsed: HeaderName = name.parse().map_err(|_| invalid())?;
            headers.remove(&parsed);
            for value in values {
                headers.append(parsed.clone(), value.parse().map_err(|_| invalid())?);
            }
        }
        Ok(Self { headers, readonly: readonly.enabled })
    }
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
    /// The interface to `registry`, whose events go to `notifier`, behind `gate` and for as long as
    /// `health` is well. `secure` says whether clients reach us by TLS.
    ///
    /// # Errors
    ///
    /// When an option cannot be used: a header that is none, a host that is none.
    pub fn new(
        (registry, notifier): (Registry, Notifier),
        (gate, health): (Arc<Gate>, Arc<Health>),
        options: &Options,
        limits: Limits,
        secure: bool,
    ) -> Result<Self, InvalidOptions> {
        if options.idletimeout.is_zero() {
            return Err(InvalidOptions::IdleTimeout);
        }
        let adjustable = ArcSwap::from_pointee(Adjustable::new(options, &limits.readonly)?);
        let prefix = options.prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        Ok(Self {
            base_url: BaseUrlRules::new(options, &prefix, secure)?,
            proxies: Proxies::new(&options.trustedproxies),
            requests: Arc::default(),
            access_log: !limits.silent,
            patience: options.idletimeout,
            registry,
            notifier,
            gate,
            health,
            limits,
            prefix,
            adjustable,
        })
    }

    /// What of the options cannot be used.
    #[must_use]
    pub fn problems(options: &Options) -> Vec<InvalidOptions> {
        let timeout = options.idletimeout.is_zero().then_some(InvalidOptions::IdleTimeout);
        let headers = Adjustable::new(options, &ReadOnlyOptions::default()).err();
        let host = BaseUrlRules::new(options, "", true).err();
        timeout.into_iter().chain(headers).chain(host).collect()
    }

    /// What is counted of requests.
    #[must_use]
    pub fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }

    /// Puts other headers in force, and says whether anything may be written from now on.
    ///
    /// # Errors
    ///
    /// When a header is none. The old ones stay then; what may be written is as it was asked for.
    pub fn adjust(
        &self,
        options: &Options,
        readonly: &ReadOnlyOptions,
    ) -> Result<(), InvalidOptions> {
        let (adjustable, result) = match Adjustable::new(options, readonly) {
            Ok(adjustable) => (adjustable, Ok(())),
            Err(error) => {
                let headers = self.adjustable.load().headers.clone();
                (Adjustable { headers, readonly: readonly.enabled }, Err(error))
            }
        };
        self.adjustable.store(Arc::new(adjustable));
        result
    }

    /// Whether nothing may be written for now.
    #[must_use]
    pub fn is_readonly(&self) -> bool {
        self.adjustable.load().readonly
    }

    /// The interface as a service for the requests on one connection.
    ///
    /// It has no router and no layers: what those would do is said in `answer`, and
    /// they cost as much as a small request's own work.
    pub fn service<B>(
        self: &Arc<Self>,
        connection: Connection,
    ) -> impl Service<Request<B>, Response = Response<Observed>, Error = Infallible, Future: Send>
    + Send
    + use<B>
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let (api, connection) = (Arc::clone(self), Arc::new(connection));
        service_fn(move |request: Request<B>| {
            let (api, connection) = (Arc::clone(&api), Arc::clone(&connection));
            async move { Ok(observe::observed(api, connection, request).await) }
        })
    }

    /// Answers a request. What does not lie below `/v2/` is open and says nothing of the registry;
    /// neither does what a browser asks before a page may send a request.
    async fn answer(&self, call: &mut Call, body: Body) -> Result<Response<Body>, Error> {
        if !self.health.is_well() {
            // As in registry:2, whatever is asked for.
            let why = "health check failed: please see /debug/health";
            return Err(Error::refused(ErrorCode::Unavailable).because(why));
        }
        if !call.has_one_host() {
            return Err(Error::Host);
        }
        call.client = self.proxies.client(&call.headers, call.connection.peer);
        if browsers::is_preflight(call) {
            return Ok(status(StatusCode::NO_CONTENT));
        }
        let path = call.path(&self.prefix);
        match path.as_deref() {
            Some("/") => return open(&call.method, "text/plain; charset=utf-8", ""),
            Some("/v1/_ping") => {
                let body = "{\"standalone\":true}\n";
                let mut response = open(&call.method, "application/json", body)?;
                // docker sends its credentials with a search only to a registry that says this.
                let standalone = HeaderName::from_static("x-docker-registry-standalone");
                response.headers_mut().insert(standalone, HeaderValue::from_static("true"));
                return Ok(response);
            }
            Some("/v2") => return Ok(redirect(&format!("{}/v2/", self.prefix))),
            Some(path) if path == "/v1/search" || path.starts_with("/v2/") => {}
            // Of the server as a whole (RFC 9110 §9.3.7).
            None if call.method == Method::OPTIONS && call.uri.path() == "*" => {
                return Ok(options(&METHODS));
            }
            _ => return Err(Error::NotFound),
        }
        if browsers::is_forged(call, &self.adjustable.load().headers) {
            let why = "a page of another site has a browser send this; http.headers lets it with \
                       an Access-Control-Allow-Origin of its own";
            return Err(Error::refused(ErrorCode::Denied).because(why));
        }
        let authorization = call.sole(&header::AUTHORIZATION).map(HeaderValue::as_bytes);
        // Those on this machine whom no proxy tells apart count as one.
        let address = call.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let identity = self
            .gate
            .authenticate(authorization, address, &call.connection.session)
            .await
            .map_err(|refusal| Error::NotLetIn { refusal, challenge: self.gate.challenge() })?;
        call.connection.authenticated();
        call.identity = Some(identity.clone());
        let path = path.as_deref().unwrap_or_default();
        let query = call.uri.query().unwrap_or_default();
        let endpoint = match Endpoint::parse(&call.method, path, query) {
            Err(Error::MethodNotAllowed(allowed)) if call.method == Method::OPTIONS => {
                return Ok(options(allowed));
            }
            parsed => parsed?,
        };
        self.begin(call, endpoint.handler());
        call.repository = endpoint.repository().map_or(0, |name| name.as_str().len());
        let permit = self.gate.authorise(identity, &endpoint.rights())?;
        if self.is_readonly() && !matches!(call.method, Method::GET | Method::HEAD) {
            let why = "the registry is read-only for now; pulls go on";
            return Err(Error::refused(ErrorCode::Unsupported).because(why));
        }
        self.dispatch(&permit, endpoint, (call, body)).await
    }

    /// Counts a call as in flight, once.
    fn begin(&self, call: &mut Call, handler: Handler) {
        call.handler.get_or_insert_with(|| {
            self.requests.begun(handler);
            handler
        });
    }

    /// Where clients reach us, by what this call came with.
    fn base_url(&self, call: &Call) -> BaseUrl {
        self.base_url.of(call, &self.proxies)
    }
}

/// A response that has no secrets and needs no credentials.
fn open(
    method: &Method,
    content_type: &'static str,
    body: &'static str,
) -> Result<Response<Body>, Error> {
    const ALLOWED: &[Method] = &[Method::GET, Method::HEAD];
    let mut response = match *method {
        Method::GET | Method::HEAD => response(Body::from(body)),
        Method::OPTIONS => return Ok(options(ALLOWED)),
        _ => return Err(Error::MethodNotAllowed(ALLOWED)),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// The methods that there are.
const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
