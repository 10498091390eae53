//! Turns every error of the inner services into its response (`error.rs`).

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{body::Body, http::Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service, layer::layer_fn};

use crate::http::{Call, Error, RequestId};

/// No error passes this layer.
pub(super) fn layer<S>() -> impl Layer<S, Service = ErrorResponses<S>> {
    layer_fn(|inner| ErrorResponses { inner })
}

#[derive(Clone, Debug)]
pub(super) struct ErrorResponses<S> {
    inner: S,
}

impl<S> Service<Call> for ErrorResponses<S>
where
    S: Service<Call, Response = Response<Body>, Error = Error>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // `call` returns an error of readiness again, and its future makes the response.
        self.inner.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let id = call.head.id;
        ResponseFuture { inner: self.inner.call(call), id }
    }
}

pin_project! {
    pub(super) struct ResponseFuture<F> {
        #[pin]
        inner: F,
        id: RequestId,
    }
}

impl<F: Future<Output = Result<Response<Body>, Error>>> Future for ResponseFuture<F> {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        Poll::Ready(Ok(result.unwrap_or_else(|error| error.into_response(*this.id))))
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::http::middleware::testing::call;

    #[tokio::test]
    async fn error_becomes_its_response_and_a_response_stays() {
        let inner = service_fn(async |call: Call| match call.head.uri.path() {
            "/fails" => Err(Error::NotFound),
            "/panics" => Err(Error::Panicked),
            _ => Ok(Response::new(Body::empty())),
        });
        for (path, status) in [("/", 200), ("/fails", 404), ("/panics", 500)] {
            let service = layer().layer(inner);
            let call = call("GET", path, &[]);
            let id = call.head.id.to_string();
            let response = service.oneshot(call).await.unwrap();
            assert_eq!(response.status(), status, "{path}");
            if status == 500 {
                let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
                assert!(String::from_utf8_lossy(&body).contains(&id), "{body:?}");
            }
        }
    }
}
