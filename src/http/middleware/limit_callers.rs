//! Counts requests for the account of their caller (`http.limits`): one over the rate waits, or is refused
//! with 429 where it would wait for too long. Holds back the bytes of responses. Behind authentication, since
//! a caller with a name has one account by whatever connections it comes; `limit_addresses.rs` counts those
//! that authentication does not let pass.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{body::Body, http::Response};
use futures_util::{FutureExt as _, future::BoxFuture};
use pin_project_lite::pin_project;
use tower::{Layer, Service, layer::layer_fn};

use super::authenticate::Authenticated;
use crate::http::{
    Error,
    limits::{Account, Admission, Paced, RateLimits},
};

/// Passes on the calls that `limits` let pass, at their time.
pub(super) fn layer<S>(
    limits: &Arc<RateLimits>,
) -> impl Layer<S, Service = LimitCallers<S>> + use<S> {
    let limits = Arc::clone(limits);
    layer_fn(move |inner| LimitCallers { inner, limits: Arc::clone(&limits) })
}

#[derive(Clone, Debug)]
pub(super) struct LimitCallers<S> {
    inner: S,
    limits: Arc<RateLimits>,
}

impl<S> Service<Authenticated> for LimitCallers<S>
where
    S: Service<Authenticated, Response = Response<Body>, Error = Error> + Clone,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, authenticated: Authenticated) -> Self::Future {
        let caller = &authenticated.caller;
        let Some(account) = self.limits.account(&caller.identity, caller.address) else {
            let inner = self.inner.call(authenticated);
            return ResponseFuture::Passed { inner, account: None };
        };
        authenticated.call.head.set_account(account.clone());
        match account.request(&caller.identity) {
            Admission::Now => {
                let inner = self.inner.call(authenticated);
                ResponseFuture::Passed { inner, account: Some(account) }
            }
            Admission::After(hold) => {
                // The future takes the service that is ready and leaves a clone for the next call.
                let next = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, next);
                let next = Some(Held { inner, authenticated, account });
                ResponseFuture::Waiting { hold: hold.wait().boxed(), next }
            }
            Admission::Refused(limited) => ResponseFuture::Refused { error: Some(limited.into()) },
        }
    }
}

/// A call that waits.
pub(super) struct Held<S> {
    inner: S,
    authenticated: Authenticated,
    account: Account,
}

pin_project! {
    /// The future of a call. Only a call that waits is boxed.
    #[project = Stage]
    pub(super) enum ResponseFuture<S: Service<Authenticated>> {
        Passed { #[pin] inner: S::Future, account: Option<Account> },
        Waiting { hold: BoxFuture<'static, ()>, next: Option<Held<S>> },
        Refused { error: Option<Error> },
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: Service<Authenticated, Response = Response<Body>, Error = Error>,
{
    type Output = Result<Response<Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let passed = match self.as_mut().project() {
                Stage::Passed { inner, account } => {
                    let response = ready!(inner.poll(cx))?;
                    return Poll::Ready(Ok(match account.take() {
                        Some(account) => response.map(|body| Paced::body(body, account)),
                        None => response,
                    }));
                }
                // A future that was ready is not polled again.
                Stage::Refused { error } => {
                    return error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
                Stage::Waiting { hold, next } => {
                    ready!(hold.as_mut().poll(cx));
                    let Some(Held { mut inner, authenticated, account }) = next.take() else {
                        return Poll::Pending;
                    };
                    Self::Passed { inner: inner.call(authenticated), account: Some(account) }
                }
            };
            self.set(passed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::to_bytes;
    use serde_json::json;
    use tokio::time::Instant;
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::{
        gate::{Gate, Policy},
        http::middleware::{authenticate, testing},
    };

    /// An open gate in front of the layer, so that all calls are of one address.
    async fn ask(limits: &Arc<RateLimits>) -> Result<Response<Body>, Error> {
        let gate = Arc::new(Gate::open(Policy::everything()));
        let inner = service_fn(async |authenticated: Authenticated| {
            assert!(authenticated.call.head.account().is_some());
            Ok(Response::new(Body::from(vec![7; 100_000])))
        });
        let service = layer(limits).layer(inner);
        let service = authenticate::layer(&gate, &testing::refusals(&gate)).layer(service);
        service.oneshot(testing::call("GET", "/v2/", &[])).await
    }

    #[tokio::test(start_paused = true)]
    async fn call_over_the_rate_waits_and_then_is_refused() {
        let options = json!({
            "requests": "1/s", "burst": 1, "delay": { "secs": 1, "nanos": 0 }, "download": "1MB/s",
        });
        let limits = Arc::new(RateLimits::new(&serde_json::from_value(options).unwrap()));
        let began = Instant::now();
        ask(&limits).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
        let (waited, refused) = tokio::join!(ask(&limits), ask(&limits));
        let Err(Error::Limited(limited)) = refused else { panic!("{refused:?}") };
        assert_eq!(limited.retry_after, Duration::from_secs(2));
        assert!(began.elapsed() >= Duration::from_secs(1));
        let responses = [waited.unwrap(), ask(&limits).await.unwrap()];
        let began = Instant::now();
        for response in responses {
            assert_eq!(to_bytes(response.into_body(), 100_000).await.unwrap().len(), 100_000);
        }
        assert!(began.elapsed() >= Duration::from_millis(99), "the bytes are held back");
    }
}
