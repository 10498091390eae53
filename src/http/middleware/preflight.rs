//! Answers CORS preflights, by which a browser asks whether a page may send a request (Fetch,
//! "CORS-preflight request"). A preflight has no credentials by specification; `http.headers` has the
//! headers of the response.

use std::task::{Context, Poll};

use axum::{
    body::Body,
    http::{Method, Response, StatusCode, header},
};
use futures_util::future::{Either, Ready, ready};
use tower::{Layer, Service, layer::layer_fn};

use crate::http::{Call, Error, call::Head, response::status};

/// Passes on the calls that are not preflights.
pub(super) fn layer<S>() -> impl Layer<S, Service = AnswerPreflight<S>> {
    layer_fn(|inner| AnswerPreflight { inner })
}

#[derive(Clone, Debug)]
pub(super) struct AnswerPreflight<S> {
    inner: S,
}

impl<S> Service<Call> for AnswerPreflight<S>
where
    S: Service<Call, Response = Response<Body>, Error = Error>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        if is_preflight(&call.head) {
            Either::Right(ready(Ok(status(StatusCode::NO_CONTENT))))
        } else {
            Either::Left(self.inner.call(call))
        }
    }
}

fn is_preflight(head: &Head) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(header::ORIGIN)
        && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::http::middleware::testing::{call, respond};

    #[tokio::test]
    async fn only_options_with_both_headers_is_a_preflight() {
        let origin = ("origin", "https://a.example");
        let wanted = ("access-control-request-method", "GET");
        for (method, headers, status) in [
            ("OPTIONS", &[origin, wanted][..], 204),
            ("OPTIONS", &[origin], 200),
            ("OPTIONS", &[wanted], 200),
            ("GET", &[origin, wanted], 200),
        ] {
            let service = layer().layer(service_fn(respond));
            let response = service.oneshot(call(method, "/v2/", headers)).await.unwrap();
            assert_eq!(response.status(), status, "{method} {headers:?}");
        }
    }
}
