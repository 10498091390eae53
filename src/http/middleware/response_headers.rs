//! Sets the headers of every response: its length, the version of the API, and `http.headers`.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use arc_swap::ArcSwap;
use axum::{
    body::{Body, HttpBody as _},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header},
};
use pin_project_lite::pin_project;
use tower::{Layer, Service, layer::layer_fn};

use crate::http::{Call, InvalidOptions, Options};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Headers of all responses, unless `http.headers` replaces them: no response is a page, has scripts,
/// or belongs into a page of another site. They are constant: sending them costs less than detecting
/// which clients are browsers, and a cache need not distinguish browsers from other clients.
///
/// A page whose origin `Access-Control-Allow-Origin` allows can still read responses: its requests
/// are in CORS mode, and the browser checks `Cross-Origin-Resource-Policy` for requests in mode
/// "no-cors" only (Fetch, "HTTP fetch").
fn policies() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let nothing = HeaderValue::from_static("sandbox; default-src 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers
}

/// The headers of all responses by these options.
///
/// # Errors
///
/// When a name or a value in `http.headers` is malformed.
pub(in crate::http) fn configured(options: &Options) -> Result<HeaderMap, InvalidOptions> {
    let mut headers = policies();
    for (name, values) in &options.headers {
        let invalid = || InvalidOptions::Header(name.clone());
        let parsed: HeaderName = name.parse().map_err(|_| invalid())?;
        headers.remove(&parsed);
        for value in values {
            headers.append(parsed.clone(), value.parse().map_err(|_| invalid())?);
        }
    }
    Ok(headers)
}

/// Adds `headers`, as they are when the inner service has made the response.
pub(super) fn layer<S>(
    headers: &Arc<ArcSwap<HeaderMap>>,
) -> impl Layer<S, Service = ResponseHeaders<S>> + use<S> {
    let headers = Arc::new(Configured(Arc::clone(headers)));
    layer_fn(move |inner| ResponseHeaders { inner, headers: Arc::clone(&headers) })
}

/// The headers as the requests on one connection share them: the reference count is in memory that no
/// other thread writes to.
#[derive(Debug)]
struct Configured(Arc<ArcSwap<HeaderMap>>);

#[derive(Clone, Debug)]
pub(super) struct ResponseHeaders<S> {
    inner: S,
    headers: Arc<Configured>,
}

impl<S> Service<Call> for ResponseHeaders<S>
where
    S: Service<Call, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let is_head = call.head.method == Method::HEAD;
        let headers = Arc::clone(&self.headers);
        ResponseFuture { inner: self.inner.call(call), is_head, headers }
    }
}

pin_project! {
    pub(super) struct ResponseFuture<F> {
        #[pin]
        inner: F,
        is_head: bool,
        headers: Arc<Configured>,
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for ResponseFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        finish(*this.is_head, &mut response);
        let headers = response.headers_mut();
        headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        for (name, value) in &**this.headers.0.load() {
            headers.append(name, value.clone());
        }
        Poll::Ready(Ok(response))
    }
}

/// Sets `Content-Length` where the length of the body is known, and removes the body of a response to
/// `HEAD` (RFC 9110 §8.6 and §9.3.2).
pub(in crate::http) fn finish(is_head: bool, response: &mut Response<Body>) {
    let bodiless = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let (Some(length), false) = (response.body().size_hint().exact(), bodiless) {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    if is_head {
        *response.body_mut() = Body::empty();
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::http::middleware::testing::call;

    async fn answered(method: &str, status: StatusCode) -> Response<Body> {
        let mut options = Options::default();
        options.headers.insert("X-Content-Type-Options".to_owned(), vec!["a".to_owned()]);
        options.headers.insert("X-Two".to_owned(), vec!["b".to_owned(), "c".to_owned()]);
        let headers = Arc::new(ArcSwap::from_pointee(configured(&options).unwrap()));
        let inner = service_fn(move |_: Call| async move {
            let mut response = Response::new(Body::from("body"));
            *response.status_mut() = status;
            Ok(response)
        });
        layer(&headers).layer(inner).oneshot(call(method, "/", &[])).await.unwrap()
    }

    #[tokio::test]
    async fn every_response_has_the_configured_headers_and_its_length() {
        let response = answered("GET", StatusCode::OK).await;
        let headers = response.headers();
        assert_eq!(headers["docker-distribution-api-version"], "registry/2.0");
        assert_eq!(headers["x-content-type-options"], "a", "http.headers replaces ours");
        assert_eq!(headers["content-security-policy"], "sandbox; default-src 'none'");
        assert_eq!(headers.get_all("x-two").iter().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(headers["content-length"], "4");
    }

    #[tokio::test]
    async fn head_has_the_length_without_the_body_and_304_has_neither() {
        let response = answered("HEAD", StatusCode::OK).await;
        assert_eq!(response.headers()["content-length"], "4");
        assert_eq!(response.body().size_hint().exact(), Some(0));
        let response = answered("GET", StatusCode::NOT_MODIFIED).await;
        assert!(!response.headers().contains_key("content-length"));
    }

    #[test]
    fn error_names_a_malformed_header() {
        let mut options = Options::default();
        options.headers.insert("no header".to_owned(), vec![]);
        assert!(
            matches!(configured(&options), Err(InvalidOptions::Header(name)) if name == "no header")
        );
    }
}
