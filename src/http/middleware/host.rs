//! Refuses a request that does not name exactly one host (RFC 9112 §3.2) with 400.

use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use tower::{Layer, Service, layer::layer_fn};

use crate::http::{Call, Error};

/// Passes on the calls that have one well-formed `Host`, or do not need one.
pub(super) fn layer<S>() -> impl Layer<S, Service = RequireHost<S>> {
    layer_fn(|inner| RequireHost { inner })
}

#[derive(Clone, Debug)]
pub(super) struct RequireHost<S> {
    inner: S,
}

impl<S: Service<Call, Error = Error>> Service<Call> for RequireHost<S> {
    type Response = S::Response;
    type Error = Error;
    type Future = Either<S::Future, Ready<Result<S::Response, Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        if call.head.has_one_host() {
            Either::Left(self.inner.call(call))
        } else {
            Either::Right(ready(Err(Error::Host)))
        }
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::http::middleware::testing::{call, echo};

    #[tokio::test]
    async fn request_passes_with_one_host_only() {
        for (hosts, passes) in [
            (&[("host", "a.example:5000")][..], true),
            (&[("host", "")], true),
            (&[], false),
            (&[("host", "a"), ("host", "a")], false),
            (&[("host", "a/b")], false),
        ] {
            let service = layer().layer(service_fn(echo));
            let mut call = call("GET", "/", &[]);
            let head = std::sync::Arc::get_mut(&mut call.head).unwrap();
            head.headers.clear();
            for (name, value) in hosts {
                head.headers.append(*name, value.parse().unwrap());
            }
            let answer = service.oneshot(call).await;
            assert_eq!(answer.is_ok(), passes, "{hosts:?}");
            assert!(passes || matches!(answer, Err(Error::Host)));
        }
    }
}
