//! Counts the requests of callers that prove no name, for the account of their address (`http.limits`): those
//! of open routes before they are answered, and those that authentication refuses afterwards. All other
//! requests count in `limit_callers.rs`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{body::Body, http::Response};
use futures_util::{FutureExt as _, future::BoxFuture};
use pin_project_lite::pin_project;
use tower::{Layer, Service, layer::layer_fn};

use super::open_routes::is_open;
use crate::{
    gate::Identity,
    http::{
        Call, Error,
        call::Head,
        limits::{Admission, RateLimits},
    },
};

/// Passes on calls, at their time. Paths below `prefix` are those of the registry.
pub(super) fn layer<S>(
    limits: &Arc<RateLimits>,
    prefix: &Arc<str>,
) -> impl Layer<S, Service = LimitAddresses<S>> + use<S> {
    let limits = Arc::clone(limits);
    let prefix = Arc::clone(prefix);
    layer_fn(move |inner| LimitAddresses {
        inner,
        limits: Arc::clone(&limits),
        prefix: Arc::clone(&prefix),
    })
}

#[derive(Clone, Debug)]
pub(super) struct LimitAddresses<S> {
    inner: S,
    limits: Arc<RateLimits>,
    prefix: Arc<str>,
}

/// Counts a request for the address of its client.
fn count(limits: &Arc<RateLimits>, head: &Head) -> Admission {
    let nobody = Identity::Anonymous;
    let account = limits.account(&nobody, head.client());
    account.map_or(Admission::Now, |account| account.request(&nobody))
}

impl<S> Service<Call> for LimitAddresses<S>
where
    S: Service<Call, Response = Response<Body>, Error = Error> + Clone,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        if !self.limits.is_on() {
            return ResponseFuture::Passed { inner: self.inner.call(call), judged: None };
        }
        if !is_open(&call.head, &self.prefix) {
            let judged = Some((Arc::clone(&self.limits), Arc::clone(&call.head)));
            return ResponseFuture::Passed { inner: self.inner.call(call), judged };
        }
        match count(&self.limits, &call.head) {
            Admission::Now => ResponseFuture::Passed { inner: self.inner.call(call), judged: None },
            Admission::After(hold) => {
                // The future takes the service that is ready and leaves a clone for the next call.
                let next = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, next);
                ResponseFuture::Waiting { hold: hold.wait().boxed(), next: Some((inner, call)) }
            }
            Admission::Refused(limited) => {
                ResponseFuture::Answered { hold: None, error: Some(limited.into()) }
            }
        }
    }
}

pin_project! {
    /// The future of a call. Only a call that waits is boxed.
    #[project = Stage]
    pub(super) enum ResponseFuture<S: Service<Call>> {
        // `judged`: for a call that authentication may still refuse.
        Passed { #[pin] inner: S::Future, judged: Option<(Arc<RateLimits>, Arc<Head>)> },
        Waiting { hold: BoxFuture<'static, ()>, next: Option<(S, Call)> },
        // An error that leaves at the end of `hold`.
        Answered { hold: Option<BoxFuture<'static, ()>>, error: Option<Error> },
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: Service<Call, Response = Response<Body>, Error = Error>,
{
    type Output = Result<Response<Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project() {
                Stage::Passed { inner, judged } => {
                    let answer = ready!(inner.poll(cx));
                    // A caller that has passed authentication has an account of its own.
                    let refused = judged.take().filter(|(_, head)| head.account().is_none());
                    let (Err(error), Some((limits, head))) = (&answer, refused) else {
                        return Poll::Ready(answer);
                    };
                    if !error.is_challenge() {
                        return Poll::Ready(answer);
                    }
                    match count(&limits, &head) {
                        Admission::Now => return Poll::Ready(answer),
                        Admission::After(hold) => {
                            Self::Answered { hold: Some(hold.wait().boxed()), error: answer.err() }
                        }
                        Admission::Refused(limited) => {
                            return Poll::Ready(Err(limited.into()));
                        }
                    }
                }
                Stage::Waiting { hold, next } => {
                    ready!(hold.as_mut().poll(cx));
                    let Some((mut inner, call)) = next.take() else { return Poll::Pending };
                    Self::Passed { inner: inner.call(call), judged: None }
                }
                Stage::Answered { hold, error } => {
                    if let Some(hold) = hold {
                        ready!(hold.as_mut().poll(cx));
                    }
                    // A future that was ready is not polled again.
                    return error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
            };
            self.set(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::{
        gate::Refusal,
        http::middleware::testing::{call, respond},
    };

    fn limits() -> Arc<RateLimits> {
        let options = json!({ "requests": "1/m", "burst": 2, "delay": { "secs": 0, "nanos": 0 } });
        Arc::new(RateLimits::new(&serde_json::from_value(options).unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn open_routes_count_before_they_are_answered() {
        let limits = limits();
        let ask = async |path| {
            let service = layer(&limits, &"".into()).layer(service_fn(respond));
            service.oneshot(call("GET", path, &[])).await
        };
        for path in ["/", "/auth/token"] {
            ask(path).await.unwrap();
        }
        for path in ["/v2", "/auth/token", "/nothing"] {
            assert!(matches!(ask(path).await, Err(Error::Limited(_))), "{path}");
        }
        // It has passed authentication.
        ask("/v2/").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_authentication_refuses_count_afterwards() {
        let limits = limits();
        let ask = async || {
            let inner = service_fn(async |_| {
                let refusal = Refusal::Unauthenticated;
                Err(Error::Unauthenticated { refusal, challenge: None })
            });
            layer(&limits, &"".into()).layer(inner).oneshot(call("GET", "/v2/", &[])).await
        };
        for _ in 0..2 {
            assert!(matches!(ask().await, Err(Error::Unauthenticated { .. })));
        }
        assert!(matches!(ask().await, Err(Error::Limited(_))));
    }
}
