//! Turns a panic of an inner service into an error: one request fails, and the connection goes on.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{
    FutureExt as _,
    future::{CatchUnwind, Either, Ready, ready as resolved},
};
use pin_project_lite::pin_project;
use tower::{Layer, Service, layer::layer_fn};

use crate::http::{Call, Error};

/// Catches panics of the call and of its future.
pub(super) fn layer<S>() -> impl Layer<S, Service = CatchPanic<S>> {
    layer_fn(|inner| CatchPanic { inner })
}

#[derive(Clone, Debug)]
pub(super) struct CatchPanic<S> {
    inner: S,
}

impl<S: Service<Call, Error = Error>> Service<Call> for CatchPanic<S> {
    type Response = S::Response;
    type Error = Error;
    type Future = Either<ResponseFuture<S::Future>, Ready<Result<S::Response, Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        // Layers keep no state of a request, so a panic leaves none of them half changed.
        match catch_unwind(AssertUnwindSafe(|| self.inner.call(call))) {
            Ok(inner) => {
                Either::Left(ResponseFuture { inner: AssertUnwindSafe(inner).catch_unwind() })
            }
            Err(_) => Either::Right(resolved(Err(Error::Panicked))),
        }
    }
}

pin_project! {
    pub(super) struct ResponseFuture<F> {
        #[pin]
        inner: CatchUnwind<AssertUnwindSafe<F>>,
    }
}

impl<F: Future<Output = Result<T, Error>>, T> Future for ResponseFuture<F> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.project().inner.poll(cx));
        Poll::Ready(result.unwrap_or(Err(Error::Panicked)))
    }
}

#[cfg(test)]
mod tests {
    use std::future;

    use futures_util::future::BoxFuture;
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::http::middleware::testing::call;

    #[tokio::test]
    async fn panic_of_the_call_and_one_of_its_future_are_errors() {
        let inner = service_fn(|call: Call| -> BoxFuture<'static, Result<u8, Error>> {
            match call.head.uri.path() {
                "/at-once" => panic!("at once"),
                "/later" => async { panic!("later") }.boxed(),
                _ => future::ready(Ok(1)).boxed(),
            }
        });
        let mut service = layer().layer(inner);
        for path in ["/at-once", "/later"] {
            let answer = service.ready().await.unwrap().call(call("GET", path, &[])).await;
            assert!(matches!(answer, Err(Error::Panicked)), "{path}: {answer:?}");
        }
        let answer = service.ready().await.unwrap().call(call("GET", "/", &[])).await;
        assert!(matches!(answer, Ok(1)), "the service goes on: {answer:?}");
    }
}
