//! The plain listener beside the secure one (`http.redirectaddr`): it sends clients to HTTPS.
//!
//! It looks at nothing of a request but where it goes. A password that comes this way is not
//! judged: whoever is between the client and us has it already, and an answer to it would be theirs
//! too.

use std::{future::ready, net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Method, Request, Response, StatusCode, header},
};
use hyper_util::service::TowerToHyperService;

use super::{
    Connection, Error, InvalidOptions, Options, RequestId,
    authority::{is_authority, split_port},
    base_url,
    call::Head,
    middleware::{access_log, request_id, response_headers},
    response::status,
};
use crate::telemetry::access;

/// The port that `https://` means (RFC 9110 §4.2.2).
const HTTPS: u16 = 443;

/// What the plain listener answers.
#[derive(Debug)]
pub struct Redirect {
    /// `http.host`, where it is set.
    fixed: Option<String>,
    /// Where TLS is spoken.
    port: u16,
    access_log: bool,
}

impl Redirect {
    /// Sends clients to `http.host`, or to the host that they have asked and the port of `secure`,
    /// where TLS is spoken; where that is no address, a proxy is before it, and 443 is likely.
    /// `silent` is `log.accesslog.disabled`.
    ///
    /// # Errors
    ///
    /// When `http.host` is no host.
    pub fn new(
        options: &Options,
        secure: Option<SocketAddr>,
        silent: bool,
    ) -> Result<Self, InvalidOptions> {
        let port = secure.map_or(HTTPS, |addr| addr.port());
        let fixed = base_url::fixed(options, true)?;
        let fixed = fixed.map(|(_, authority)| authority.to_owned());
        Ok(Self { fixed, port, access_log: !silent })
    }

    /// The service of one connection, a router: its fallback redirects every request, each of which is
    /// the last one.
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
        // A client that stays would go on speaking here.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response_headers::end(head.method == Method::HEAD, &mut response);
        request_id::set(id, &mut response);
        if self.access_log {
            let status = response.status().as_u16();
            access::log(&access_log::exchange(&head, status, started.elapsed()));
        }
        response
    }

    /// 301 for every method, as from nginx. None of `http.headers` is added: what most of them mean
    /// to a browser is void without TLS (RFC 6797 §7.2).
    fn answer(&self, head: &Head) -> Result<Response<Body>, Error> {
        let asked = match head.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => head.only(&header::HOST).map_err(|_| Error::Host)?,
        };
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        if !head.has_one_host() {
            return Err(Error::Host);
        }
        // `*` and what CONNECT asks for are no paths.
        if !path.starts_with('/') {
            return Err(Error::NotFound);
        }
        let location = match (&self.fixed, asked.filter(|asked| is_authority(asked))) {
            (Some(fixed), _) => format!("https://{fixed}{path}"),
            (None, Some(asked)) => {
                let (host, _) = split_port(asked);
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
