//! The redirect from plain HTTP to HTTPS (`http.redirectaddr`).
//!
//! It answers what an authority asks for before it issues a certificate (http-01, RFC 8555 §8.3), and redirects
//! all else. It reads only the target of a request. It does not verify a password that arrives without TLS: an
//! eavesdropper has read the password, and would learn from the response whether it is right.

use std::{fmt, future::ready, net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Method, Request, Response, StatusCode, header},
};
use hyper_util::service::TowerToHyperService;

use super::{
    Connection, Error, InvalidOptions, Options, RequestId,
    authority::{is_authority, split_port},
    base_url::ConfiguredHost,
    call::Head,
    middleware::{access_log, request_id, response_headers},
    response::status,
};
use crate::telemetry::access;

/// The port that `https://` means (RFC 9110 §4.2.2).
const HTTPS: u16 = 443;

/// Whether a host is another site's, on the port of the registry.
pub type IsOtherSite = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The response to a path that an authority asks for before it issues a certificate; `None` for other paths.
pub type ChallengeResponse = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The service of the redirect listener.
pub struct Redirect {
    /// `http.host` without its scheme, where it is set.
    configured: Option<String>,
    /// The port of the TLS listener.
    port: u16,
    is_other_site: IsOtherSite,
    challenge: ChallengeResponse,
    access_log: bool,
}

impl fmt::Debug for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redirect").field("configured", &self.configured).finish_non_exhaustive()
    }
}

impl Redirect {
    /// Redirects clients to `http.host`. Where that is not set, and for the hosts of other sites, redirects them to the host that they
    /// have requested, at the port of `secure`, the address of the TLS listener. A TLS listener on a
    /// Unix socket has no port: a proxy is before it, most likely at 443. `access_log_disabled` is
    /// `log.accesslog.disabled`.
    ///
    /// # Errors
    ///
    /// When `http.host` is malformed.
    pub fn new(
        options: &Options,
        secure: Option<SocketAddr>,
        is_other_site: IsOtherSite,
        challenge: ChallengeResponse,
        access_log_disabled: bool,
    ) -> Result<Self, InvalidOptions> {
        let port = secure.map_or(HTTPS, |addr| addr.port());
        let host = ConfiguredHost::parse(options, true)?;
        let configured = host.map(|host| host.authority.to_owned());
        Ok(Self { configured, port, is_other_site, challenge, access_log: !access_log_disabled })
    }

    /// The router of one connection. Its fallback redirects every request and closes the connection.
    pub fn service(self: &Arc<Self>, connection: Connection) -> TowerToHyperService<Router> {
        let redirect = Arc::clone(self);
        let connection = Arc::new(connection);
        let router = Router::new().fallback(move |request: Request<Body>| {
            ready(redirect.respond(Arc::clone(&connection), request))
        });
        TowerToHyperService::new(router)
    }

    fn respond(&self, connection: Arc<Connection>, request: Request<Body>) -> Response<Body> {
        let id = RequestId::new();
        let started = Instant::now();
        let head = Head::new(id, connection, request.into_parts().0);
        let mut response = self.answer(&head).unwrap_or_else(|error| error.into_response(id));
        // On this connection the client would send further requests without TLS.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response_headers::finish(head.method == Method::HEAD, &mut response);
        request_id::set(id, &mut response);
        if self.access_log {
            let status = response.status().as_u16();
            access::log(&access_log::exchange(&head, status, started.elapsed()));
        }
        response
    }

    /// 301 for every method, as from nginx. The response has none of `http.headers`: a browser ignores
    /// most of them without TLS (RFC 6797 §7.2).
    fn answer(&self, head: &Head) -> Result<Response<Body>, Error> {
        let requested = match head.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => head.unique_text(&header::HOST).map_err(|_| Error::Host)?,
        };
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        if !head.has_one_host() {
            return Err(Error::Host);
        }
        // `*` and the target of `CONNECT` are not paths.
        if !path.starts_with('/') {
            return Err(Error::NotFound);
        }
        if let Some(answer) = (self.challenge)(head.uri.path()) {
            let mut response = Response::new(Body::from(answer));
            let binary = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(header::CONTENT_TYPE, binary);
            return Ok(response);
        }
        let requested = requested.filter(|authority| is_authority(authority));
        let is_other =
            requested.is_some_and(|requested| (self.is_other_site)(split_port(requested).0));
        let configured = self.configured.as_ref().filter(|_| !is_other);
        let location = match (configured, requested) {
            (Some(configured), _) => format!("https://{configured}{path}"),
            (None, Some(requested)) => {
                let (host, _) = split_port(requested);
                let port =
                    if self.port == HTTPS { String::new() } else { format!(":{}", self.port) };
                format!("https://{host}{port}{path}")
            }
            (None, None) => return Err(Error::Host),
        };
        let location = HeaderValue::try_from(location).map_err(|_| Error::NotFound)?;
        let mut response = status(StatusCode::MOVED_PERMANENTLY);
        response.headers_mut().insert(header::LOCATION, location);
        Ok(response)
    }
}
