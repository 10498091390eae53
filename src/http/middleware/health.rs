//! Refuses every request with 503 while a health check fails, as registry:2 does.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{Either, Ready, ready};
use tower::{Layer, Service, layer::layer_fn};

use crate::{
    health::Health,
    http::{Call, Error},
    oci::ErrorCode,
};

/// Passes calls on while every check of `health` succeeds.
pub(super) fn layer<S>(health: &Arc<Health>) -> impl Layer<S, Service = CheckHealth<S>> + use<S> {
    let health = Arc::clone(health);
    layer_fn(move |inner| CheckHealth { inner, health: Arc::clone(&health) })
}

#[derive(Clone, Debug)]
pub(super) struct CheckHealth<S> {
    inner: S,
    health: Arc<Health>,
}

impl<S: Service<Call, Error = Error>> Service<Call> for CheckHealth<S> {
    type Response = S::Response;
    type Error = Error;
    type Future = Either<S::Future, Ready<Result<S::Response, Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        if self.health.is_healthy() {
            return Either::Left(self.inner.call(call));
        }
        let why = "health check failed: please see /debug/health";
        Either::Right(ready(Err(Error::refused(ErrorCode::Unavailable).because(why))))
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::{
        health::Check,
        http::middleware::testing::{call, echo},
    };

    #[tokio::test]
    async fn nothing_passes_while_a_check_fails() {
        let health = Arc::new(Health::default());
        let mut service = layer(&health).layer(service_fn(echo));
        assert!(service.ready().await.unwrap().call(call("GET", "/v2/", &[])).await.is_ok());
        let failing = Check::new("disk".to_owned(), async || Err("full".into()));
        failing.run(&health).await;
        for path in ["/", "/v2/", "/other"] {
            let answer = service.ready().await.unwrap().call(call("GET", path, &[])).await;
            let response =
                answer.map(|_| ()).unwrap_err().into_response(crate::http::RequestId::new());
            assert_eq!(response.status(), 503, "{path}");
        }
    }
}
