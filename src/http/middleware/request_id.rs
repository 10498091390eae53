//! Gives each request an id, and its response the header with that id (`X-Request-Id`).

use std::{
    fmt,
    pin::Pin,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::http::{HeaderName, Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service, layer::layer_fn};
use uuid::Uuid;

use crate::http::response::value;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request in its response and in the logs. A user quotes it to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// Random, chosen when the process starts.
    process: u32,
    /// The number of the request in this process.
    number: u64,
}

impl RequestId {
    /// A new id. It is unique in this process and, most likely, among all processes. It does not
    /// depend on anything that a client sends. No check relies on it being hard to guess, and a random
    /// number of the system would cost more than the rest of a small request.
    #[must_use]
    pub fn new() -> Self {
        static PROCESS: OnceLock<u32> = OnceLock::new();
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Self {
            process: *PROCESS.get_or_init(|| Uuid::new_v4().as_fields().0),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:x}", self.process, self.number)
    }
}

/// A request with its id.
#[derive(Debug)]
pub(super) struct Identified<B> {
    pub(super) id: RequestId,
    pub(super) request: Request<B>,
}

/// The outermost layer.
pub(super) fn layer<S>() -> impl Layer<S, Service = SetRequestId<S>> {
    layer_fn(|inner| SetRequestId { inner })
}

#[derive(Clone, Debug)]
pub(super) struct SetRequestId<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for SetRequestId<S>
where
    S: Service<Identified<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let id = RequestId::new();
        ResponseFuture { inner: self.inner.call(Identified { id, request }), id }
    }
}

pin_project! {
    pub(super) struct ResponseFuture<F> {
        #[pin]
        inner: F,
        id: RequestId,
    }
}

impl<F: Future<Output = Result<Response<R>, E>>, R, E> Future for ResponseFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        set(*this.id, &mut response);
        Poll::Ready(Ok(response))
    }
}

/// Sets `X-Request-Id` in a response.
pub(in crate::http) fn set<R>(id: RequestId, response: &mut Response<R>) {
    let mut id = value(&id);
    // HPACK does not index a sensitive value (RFC 7541 §7.1.3): an id never repeats, so an entry in
    // the dynamic table would be wasted.
    id.set_sensitive(true);
    response.headers_mut().insert(REQUEST_ID, id);
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::{ServiceExt as _, service_fn};

    use super::*;

    #[tokio::test]
    async fn response_has_the_id_that_the_inner_service_got() {
        let inner = service_fn(async |identified: Identified<()>| {
            Ok::<_, Infallible>(Response::new(identified.id))
        });
        let mut service = layer().layer(inner);
        let mut ids = Vec::new();
        for _ in 0..2 {
            let response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
            let id = response.body().to_string();
            assert_eq!(response.headers()["x-request-id"], id);
            assert!(response.headers()["x-request-id"].is_sensitive());
            ids.push(id);
        }
        assert_ne!(ids[0], ids[1]);
    }
}
