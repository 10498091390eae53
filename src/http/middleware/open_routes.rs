//! Routes outside of the gate, which disclose nothing of the registry: an axum [`Router`] answers every
//! path but `/v1/search`, the paths below `/v2/` and `/auth/token`, at which clients log in
//! (`http/token.rs`).

use std::{
    future,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Extension, Router,
    body::Body,
    http::{HeaderName, HeaderValue, Method, Request, Response, Uri, header},
    routing::any,
};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either},
};
use tower::{Layer, Service, layer::layer_fn};

use crate::http::{
    Call, Error, RequestId,
    call::Head,
    endpoint::is_search,
    response::{options, redirect, response},
    token::{self, TokenEndpoint},
};

/// All methods of the registry's endpoints (RFC 9110 §9.3.7).
const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// docker sends its credentials with a search only to a registry that sends this header.
const STANDALONE: HeaderName = HeaderName::from_static("x-docker-registry-standalone");

/// The response to a person who opens the registry in a browser, and to health checks of load balancers.
/// It discloses no version.
const WELCOME: &str = "This is a container registry (Portcullis), without pages for a browser: `docker \
                       login` with this host opens it to docker, and its API is at /v2/.\n";

/// The open routes of a registry below `prefix`. Their paths omit the prefix.
pub(in crate::http) fn router(prefix: &str) -> Router {
    let base = format!("{prefix}/v2/");
    Router::new()
        .route("/", any(root))
        .route("/v1/_ping", any(ping))
        .route("/v2", any(move || future::ready(redirect(&base))))
        .fallback(async |Extension(id): Extension<RequestId>| Error::NotFound.into_response(id))
}

async fn root(method: Method, Extension(id): Extension<RequestId>) -> Response<Body> {
    open(&method, "text/plain; charset=utf-8", WELCOME)
        .unwrap_or_else(|error| error.into_response(id))
}

async fn ping(method: Method, Extension(id): Extension<RequestId>) -> Response<Body> {
    match open(&method, "application/json", "{\"standalone\":true}\n") {
        Ok(mut response) => {
            response.headers_mut().insert(STANDALONE, HeaderValue::from_static("true"));
            response
        }
        Err(error) => error.into_response(id),
    }
}

/// The response of an open route: `body` to `GET` and `HEAD`.
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

/// Whether a call needs no credentials, or checks them itself.
pub(super) fn is_open(head: &Head, prefix: &str) -> bool {
    !head.path(prefix).is_some_and(|path| is_search(path) || path.starts_with("/v2/"))
}

/// Passes on the calls that need credentials; `router` and `token` answer the others.
pub(super) fn layer<S>(
    router: &Router,
    token: &Arc<TokenEndpoint>,
    prefix: &Arc<str>,
) -> impl Layer<S, Service = OpenRoutes<S>> + use<S> {
    let router = router.clone();
    let token = Arc::clone(token);
    let prefix = Arc::clone(prefix);
    layer_fn(move |inner| OpenRoutes {
        inner,
        router: router.clone(),
        token: Arc::clone(&token),
        prefix: Arc::clone(&prefix),
    })
}

#[derive(Clone, Debug)]
pub(super) struct OpenRoutes<S> {
    inner: S,
    router: Router,
    token: Arc<TokenEndpoint>,
    prefix: Arc<str>,
}

impl<S> Service<Call> for OpenRoutes<S>
where
    S: Service<Call, Response = Response<Body>, Error = Error>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response<Body>, Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // A router is always ready.
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let path = call.head.path(&self.prefix);
        if !is_open(&call.head, &self.prefix) {
            return Either::Left(self.inner.call(call));
        }
        if path == Some(token::PATH) && self.token.is_there() {
            let token = Arc::clone(&self.token);
            return Either::Right(async move { token.respond(call).await }.boxed());
        }
        Either::Right(match path.and_then(|path| Uri::try_from(path).ok()) {
            Some(path) => {
                let mut request = Request::new(call.body);
                *request.method_mut() = call.head.method.clone();
                *request.uri_mut() = path;
                request.extensions_mut().insert(call.head.id);
                self.router
                    .call(request)
                    .map(|answer| answer.map_err(|never| match never {}))
                    .boxed()
            }
            // `*` is the server as a whole (RFC 9110 §9.3.7).
            None if call.head.method == Method::OPTIONS && call.head.uri.path() == "*" => {
                future::ready(Ok(options(&METHODS))).boxed()
            }
            None => future::ready(Err(Error::NotFound)).boxed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use tower::ServiceExt as _;

    use super::*;
    use crate::{
        gate::{Gate, Policy},
        http::middleware::testing::{call, challenges},
    };

    async fn answered(method: &str, path: &str, prefix: &str) -> Option<Response<Body>> {
        let inner = tower::service_fn(async |_: Call| Err(Error::Panicked));
        let gate = Arc::new(Gate::open(Policy::everything()));
        let token = Arc::new(TokenEndpoint::new(Arc::clone(&gate), challenges(&gate)));
        let service = layer(&router(prefix), &token, &prefix.into()).layer(inner);
        match service.oneshot(call(method, path, &[])).await {
            Ok(response) => Some(response),
            Err(Error::Panicked) => None,
            Err(error) => Some(error.into_response(RequestId::new())),
        }
    }

    #[tokio::test]
    async fn paths_below_v2_and_the_search_pass_on() {
        for (path, prefix) in [
            ("/v2/", ""),
            ("/v2/a/tags/list", ""),
            ("/v1/search?q=a", ""),
            ("/x/v2/", "/x"),
            ("/v1/search/?q=a", ""),
            ("/x/v1/search", "/x"),
            ("/x/v1/search/", "/x"),
        ] {
            assert!(answered("GET", path, prefix).await.is_none(), "{path}");
        }
    }

    #[tokio::test]
    async fn all_else_is_answered_without_credentials() {
        for (method, path, prefix, status) in [
            ("GET", "/", "", 200),
            ("HEAD", "/", "", 200),
            ("OPTIONS", "/", "", 200),
            ("POST", "/", "", 405),
            ("GET", "/v1/_ping", "", 200),
            ("DELETE", "/v1/_ping", "", 405),
            ("GET", "/v2", "", 301),
            ("POST", "/v2", "", 301),
            ("GET", "/v1/searching", "", 404),
            ("GET", "/v1/search//", "", 404),
            ("GET", "/v1/_ping/", "", 404),
            ("GET", "/other", "", 404),
            ("GET", "/auth/token", "", 404),
            ("OPTIONS", "*", "", 200),
            ("GET", "/x/", "/x", 200),
            ("GET", "/x/{a}", "/x/{a}", 404),
            ("GET", "/x/%7Ba%7D/v1/_ping", "/x/%7Ba%7D", 200),
            ("GET", "/x", "/x", 404),
            ("GET", "/xy/", "/x", 404),
            ("GET", "/v2/", "/x", 404),
        ] {
            let Some(response) = answered(method, path, prefix).await else {
                panic!("{method} {path} needs credentials")
            };
            assert_eq!(response.status(), status, "{method} {path}");
            let headers = response.headers();
            match status {
                301 => assert_eq!(headers["location"], "/v2/"),
                405 => assert_eq!(headers["allow"], "GET, HEAD", "{method} {path}"),
                _ => {}
            }
        }
    }

    #[tokio::test]
    async fn ping_says_that_the_registry_stands_alone() {
        let response = answered("GET", "/v1/_ping", "").await.unwrap();
        assert_eq!(response.headers()["x-docker-registry-standalone"], "true");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        let body = to_bytes(response.into_body(), 100).await.unwrap();
        assert_eq!(body, "{\"standalone\":true}\n");
        let response = answered("OPTIONS", "*", "").await.unwrap();
        assert_eq!(response.headers()["allow"], "GET, HEAD, POST, PUT, PATCH, DELETE");
    }
}
