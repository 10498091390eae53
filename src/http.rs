//! HTTP: the only room that names axum.
//!
//! A request goes through `observe` (its id, the log line, panics), then `Api::answer`: who is
//! calling, before anything else about the request is judged or its body is read; which endpoint
//! it is for; may they; then one handler, which takes the permit and turns a call into the core
//! into a response. Handlers are in one file per subject. Errors become responses in `error.rs`
//! only.

use std::{
    convert::Infallible,
    fmt,
    io::Write as _,
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
use futures_util::FutureExt as _;
use hyper::service::{Service, service_fn};

use self::{
    call::Call,
    endpoint::Endpoint,
    origin::{Origin, OriginRules},
    proxies::Proxies,
};
use crate::{
    gate::{Gate, Permit},
    health::Health,
    notify::Notifier,
    oci::ErrorCode,
    registry::Registry,
    telemetry::requests::{Handler, Requests},
};

mod blobs;
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
mod lists;
mod manifests;
mod observe;
mod options;
pub mod origin;
mod proxies;
pub mod range;
mod redirect;
mod repositories;
mod search;
mod uploads;

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
/// The registry's HTTP interface.
#[derive(Debug)]
pub struct Api {
    registry: Registry,
    gate: Arc<Gate>,
    health: Arc<Health>,
    /// Who is told of what happens.
    notifier: Notifier,
    limits: Limits,
    origin: OriginRules,
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
            origin: OriginRules::new(options, &prefix, secure)?,
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
        let host = OriginRules::new(options, "", true).err();
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

    /// Hands over to a handler: those that read content, which is what a registry does most, as
    /// they are, the others on the heap, so that not every request is as large as theirs.
    async fn dispatch(
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

    /// Where clients reach us, by what this call came with.
    fn origin(&self, call: &Call) -> Origin {
        self.origin.of(call, &self.proxies)
    }

    /// Refuses what deletes unless the configuration allows it.
    fn deletion_allowed(&self) -> Result<(), Error> {
        if self.limits.delete.enabled {
            return Ok(());
        }
        let why = "deletion is off; storage.delete.enabled: true allows it";
        Err(Error::refused(ErrorCode::Unsupported).because(why))
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

/// What `OPTIONS` of an endpoint is answered with (RFC 9110 §9.3.7).
fn options(allowed: &[Method]) -> Response<Body> {
    let mut response = status(StatusCode::OK);
    response.headers_mut().insert(header::ALLOW, value(&error::list(allowed)));
    response
}

fn redirect(path: &str) -> Response<Body> {
    let mut response = status(StatusCode::MOVED_PERMANENTLY);
    if let Ok(location) = HeaderValue::from_str(path) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// A response with room for the headers that most have.
fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().reserve(HEADERS);
    response
}

/// A response of a status and nothing else.
fn status(status: StatusCode) -> Response<Body> {
    let mut response = response(Body::empty());
    *response.status_mut() = status;
    response
}

/// A JSON response. `HEAD` gets its headers.
fn json(method: &Method, body: String) -> Response<Body> {
    let length = body.len();
    let body = if method == Method::HEAD { Body::empty() } else { Body::from(body) };
    let mut response = response(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    response
}

/// A response to a read has eleven headers and a date; operators add some.
const HEADERS: usize = 16;

/// The header that says which content a response is about.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A header's value from text of ours, which is always one: digests, tags, names and numbers.
fn value(text: &impl fmt::Display) -> HeaderValue {
    // There are several in each response; few are longer than this.
    let mut buffer = [0; 160];
    let mut rest = buffer.as_mut_slice();
    let value = match write!(rest, "{text}") {
        Ok(()) => {
            let free = rest.len();
            HeaderValue::from_bytes(&buffer[..buffer.len() - free])
        }
        Err(_) => HeaderValue::from_str(&text.to_string()),
    };
    value.unwrap_or(HeaderValue::from_static(""))
}
