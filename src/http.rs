//! HTTP: the only room that names axum.
//!
//! A request goes through `observe` (its id, the log line, panics), then `Api::answer`: who is
//! calling, before anything else about the request is judged or its body is read; which endpoint
//! it is for; may they; then one handler, which takes the permit and turns a call into the core
//! into a response. Handlers are in one file per subject. Errors become responses in `error.rs`
//! only.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{
    BoxError,
    body::{Body, Bytes, HttpBody},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
    },
};
use futures_util::FutureExt as _;
use hyper::service::{Service, service_fn};
use serde::Deserialize;

use self::{
    endpoint::Endpoint,
    origin::{Origin, OriginRules, is_authority},
};
use crate::{
    gate::{Gate, Permit},
    health::Health,
    oci::ErrorCode,
    registry::Registry,
    telemetry::requests::{Handler, Requests},
};

mod blobs;
mod body;
mod conditional;
mod debug;
pub mod endpoint;
mod error;
mod lists;
mod manifests;
mod observe;
pub mod origin;
pub mod range;
mod redirect;
mod search;
mod uploads;

pub use debug::{Debug, DebugOptions, PrometheusOptions};
pub use error::Error;
pub use observe::{Observed, RequestId};
pub use origin::Proxy;
pub use redirect::Redirect;

/// Whoever opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Somebody at this address.
    Tcp(SocketAddr),
    /// Somebody on this machine, through a socket that is a file.
    Unix,
}

impl Peer {
    const fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(addr) => Some(addr.ip()),
            Self::Unix => None,
        }
    }
}

impl From<Option<SocketAddr>> for Peer {
    fn from(addr: Option<SocketAddr>) -> Self {
        addr.map_or(Self::Unix, Self::Tcp)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// The registry's HTTP interface.
#[derive(Debug)]
pub struct Api {
    registry: Registry,
    gate: Arc<Gate>,
    health: Arc<Health>,
    limits: Limits,
    origin: OriginRules,
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
        let mut headers = HeaderMap::new();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
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
    /// The interface to `registry`, behind `gate`, for as long as `health` is well. `secure` says whether clients reach us by TLS.
    ///
    /// # Errors
    ///
    /// When an option cannot be used: a header that is none, a host that is none.
    pub fn new(
        registry: Registry,
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
            requests: Arc::default(),
            access_log: !limits.silent,
            patience: options.idletimeout,
            registry,
            gate,
            health,
            limits,
            prefix,
            adjustable,
        })
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
    /// When a header is none; nothing has changed then.
    pub fn adjust(
        &self,
        options: &Options,
        readonly: &ReadOnlyOptions,
    ) -> Result<(), InvalidOptions> {
        self.adjustable.store(Arc::new(Adjustable::new(options, readonly)?));
        Ok(())
    }

    /// The interface as a service for the requests on one connection, which `peer` opened.
    ///
    /// It has no router and no layers: what those would do is said in `answer`, and
    /// they cost as much as a small request's own work.
    pub fn service<B>(
        self: &Arc<Self>,
        peer: Peer,
    ) -> impl Service<Request<B>, Response = Response<Observed>, Error = Infallible, Future: Send>
    + Send
    + use<B>
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let api = Arc::clone(self);
        service_fn(move |request: Request<B>| {
            let api = Arc::clone(&api);
            async move { Ok(observe::observed(api, peer, request).await) }
        })
    }

    /// Answers a request. What does not lie below `/v2/` is open and says nothing of the registry.
    async fn answer(&self, call: &mut Call, body: Body) -> Result<Response<Body>, Error> {
        if !self.health.is_well() {
            // As in registry:2, whatever is asked for.
            let why = "health check failed: please see /debug/health";
            return Err(Error::refused(ErrorCode::Unavailable).because(why));
        }
        if !call.has_one_host() {
            return Err(Error::Host);
        }
        let path = call.path(&self.prefix);
        match path.as_deref() {
            Some("/") => return Ok(open(&call.method, "text/plain; charset=utf-8", "")),
            Some("/v1/_ping") => {
                let body = "{\"standalone\":true}\n";
                let mut response = open(&call.method, "application/json", body);
                // docker sends its credentials with a search only to a registry that says this.
                let standalone = HeaderName::from_static("x-docker-registry-standalone");
                response.headers_mut().insert(standalone, HeaderValue::from_static("true"));
                return Ok(response);
            }
            Some("/v2") => return Ok(redirect(&format!("{}/v2/", self.prefix))),
            Some(path) if path == "/v1/search" || path.starts_with("/v2/") => {}
            _ => return Err(Error::NotFound),
        }
        let authorization = call.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        call.client = self.origin.client(call);
        // Those on this machine whom no proxy tells apart count as one.
        let address = call.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let identity = self
            .gate
            .authenticate(authorization, address)
            .await
            .map_err(|refusal| Error::NotLetIn { refusal, challenge: self.gate.challenge() })?;
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
        if self.adjustable.load().readonly && !matches!(call.method, Method::GET | Method::HEAD) {
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
                self.delete_manifest(permit, &name, &reference).boxed().await
            }
            Endpoint::ReadBlob { name, digest } => {
                self.read_blob(permit, &name, &digest, call).await
            }
            Endpoint::DeleteBlob { name, digest } => {
                self.delete_blob(permit, &name, &digest).boxed().await
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
        self.origin.of(call)
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

/// The head of a request on its way to a handler.
#[derive(Debug)]
struct Call {
    method: Method,
    uri: axum::http::Uri,
    headers: HeaderMap,
    version: Version,
    peer: Peer,
    /// Where the call comes from, once that is known.
    client: Option<IpAddr>,
    /// Who is calling, once that is known; for the log.
    identity: Option<crate::gate::Identity>,
    /// What is asked for, once that is known: from then on it counts as in flight.
    handler: Option<Handler>,
    /// How long the name of the repository is that is asked for; 0 without one.
    repository: usize,
}

impl Call {
    /// Takes a request apart; the body goes its own way.
    fn new(peer: Peer, request: Request<Body>) -> (Self, Body) {
        let (parts, body) = request.into_parts();
        let (method, uri, headers) = (parts.method, parts.uri, parts.headers);
        let version = parts.version;
        let (client, identity, handler, repository) = (None, None, None, 0);
        (Self { method, uri, headers, version, peer, client, identity, handler, repository }, body)
    }

    /// Whether the request says once, and clearly, whom it is for (RFC 9112 §3.2): whoever stands
    /// before us might have believed another of several. HTTP/1.0 need not say it, and HTTP/2 has
    /// another place for it.
    fn has_one_host(&self) -> bool {
        match self.only(&header::HOST) {
            Ok(Some(host)) => host.is_empty() || is_authority(host),
            Ok(None) => self.version != Version::HTTP_11,
            Err(NotOne) => false,
        }
    }

    /// The path below the prefix; `None` for one that is not below it.
    fn path(&self, prefix: &str) -> Option<String> {
        let path = self.uri.path().strip_prefix(prefix)?;
        (path.is_empty() || path.starts_with('/')).then(|| path.to_owned())
    }

    /// The name of the repository that is asked for, where the path has it as it is.
    fn repository(&self, prefix: &str) -> Option<&str> {
        let name = self.uri.path().strip_prefix(prefix)?.strip_prefix("/v2/")?;
        (self.repository > 0).then(|| name.get(..self.repository)).flatten()
    }

    /// A header that must be text, and there once, where it is there at all.
    fn only(&self, name: &HeaderName) -> Result<Option<&str>, NotOne> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        match (value.to_str(), values.next()) {
            (Ok(text), None) => Ok(Some(text)),
            _ => Err(NotOne),
        }
    }

    /// A header as text; one that is not text is as good as absent.
    fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The length that the body is declared to have.
    fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.parse().ok()
    }
}

/// A header is there several times, or is no text.
#[derive(Clone, Copy, Debug)]
struct NotOne;

/// A response that has no secrets and needs no credentials.
fn open(method: &Method, content_type: &'static str, body: &'static str) -> Response<Body> {
    let mut response = match *method {
        Method::GET | Method::HEAD => response(Body::from(body)),
        _ => status(StatusCode::METHOD_NOT_ALLOWED),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

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

/// A response to a read has nine headers.
const HEADERS: usize = 12;

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

/// Why the interface cannot be as the options say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOptions {
    /// A name or a value that cannot stand in a header.
    #[error("http.headers: `{0}` or one of its values cannot be sent as a header")]
    Header(String),
    /// Not a host.
    #[error("http.host: `{0}` is not a host name with an optional scheme and port")]
    Host(String),
    /// No time at all.
    #[error("http.idletimeout: no client can answer within no time; leave it out for a minute")]
    IdleTimeout,
}

/// What the `http` section says about requests and responses, together with the options of the
/// lists and of deletion. Keys as in registry:2's `config.yml`, but for `trustedproxies`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The address clients reach us by, with or without a scheme; used in `Location`.
    pub host: Option<String>,
    /// The path below which everything is served, such as `/registry/`.
    pub prefix: String,
    /// registry:2 signs upload sessions with this. Ours live in storage and need no signature, so
    /// the secret is not even kept.
    pub secret: Option<serde::de::IgnoredAny>,
    /// Answers with relative `Location` headers.
    pub relativeurls: bool,
    /// Headers that are added to each response.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Peers whose `X-Forwarded-Proto`, `X-Forwarded-Host` and `X-Forwarded-For` are believed.
    pub trustedproxies: Vec<Proxy>,
    /// How long the client may send nothing of a body it announced.
    pub idletimeout: Duration,
    /// The debug listener.
    pub debug: DebugOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: None,
            prefix: "/".to_owned(),
            secret: None,
            relativeurls: false,
            headers: BTreeMap::new(),
            trustedproxies: Proxy::on_this_machine(),
            idletimeout: Duration::from_secs(60),
            debug: DebugOptions::default(),
        }
    }
}

/// `storage.delete`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct DeleteOptions {
    /// Whether `DELETE` of manifests, tags and blobs is allowed; otherwise 405 UNSUPPORTED.
    pub enabled: bool,
}

impl Default for DeleteOptions {
    /// As in registry:2: off, unless the configuration says so. (Without any configuration file
    /// deletion is on; `config` sees to that.)
    fn default() -> Self {
        Self { enabled: false }
    }
}

/// `storage.maintenance.readonly`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReadOnlyOptions {
    /// Answers what writes with 405 UNSUPPORTED.
    pub enabled: bool,
}

/// `uploads`, which registry:2 does not have.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct UploadsOptions {
    /// How many uploads a user may have open at a time; what was begun an hour ago does not count.
    pub maxopen: usize,
}

impl Default for UploadsOptions {
    fn default() -> Self {
        Self { maxopen: 1000 }
    }
}

/// `catalog`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct CatalogOptions {
    /// The largest `n` that `GET /v2/_catalog` takes.
    pub maxentries: usize,
}

impl Default for CatalogOptions {
    fn default() -> Self {
        Self { maxentries: 1000 }
    }
}

/// `tags`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct TagsOptions {
    /// The largest page that `GET /v2/<name>/tags/list?n=` gives.
    pub maxtags: usize,
}

impl Default for TagsOptions {
    fn default() -> Self {
        Self { maxtags: 1000 }
    }
}
