//! Refuses every request with 503 while a health check fails, as registry:2 does.

use std::sync::Arc;

use tower::Layer;

use super::check::{self, Check, Checked};
use crate::{
    health::Health,
    http::{Error, call::Head},
    oci::ErrorCode,
};

/// Passes calls on while every check of `health` succeeds.
pub(super) fn layer<S>(
    health: &Arc<Health>,
) -> impl Layer<S, Service = Checked<S, impl Check + use<S>>> + use<S> {
    let health = Arc::clone(health);
    check::layer(move |_: &Head| match health.is_healthy() {
        true => Ok(()),
        false => {
            let why = "health check failed: please see /debug/health";
            Err(Error::refused(ErrorCode::Unavailable).because(why))
        }
    })
}

#[cfg(test)]
mod tests {
    use tower::{Service as _, ServiceExt as _, service_fn};

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
