//! The debug listener (`http.debug`): metrics and health, without a password and without TLS. It is meant for an
//! address that only the operator's own programs reach.

use std::{convert::Infallible, fmt, sync::Arc};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderValue, Method, Request, Response, StatusCode, header},
};
use hyper::service::{Service, service_fn};
use serde::Deserialize;

use super::response::{json, response, status};
use crate::health::Health;

/// registry:2's path.
const HEALTH: &str = "/debug/health";

/// `http.debug`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DebugOptions {
    /// Where to listen: `host:port`. Empty: nowhere.
    pub addr: String,
    /// What Prometheus reads.
    pub prometheus: PrometheusOptions,
}

/// `http.debug.prometheus`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct PrometheusOptions {
    /// Whether metrics are served.
    pub enabled: bool,
    /// Under which path.
    pub path: String,
}

impl Default for PrometheusOptions {
    fn default() -> Self {
        Self { enabled: false, path: "/metrics".to_owned() }
    }
}

/// What the debug listener answers.
pub struct Debug {
    path: Option<String>,
    content_type: HeaderValue,
    health: Arc<Health>,
    text: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Debug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Debug").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Debug {
    /// Serves metrics, where the options say so: `text` gives them, on a thread that may block; and
    /// what is wrong with `health`.
    pub fn new(
        options: &PrometheusOptions,
        health: Arc<Health>,
        content_type: &'static str,
        text: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        Self {
            path: options.enabled.then(|| options.path.clone()),
            content_type: HeaderValue::from_static(content_type),
            health,
            text: Arc::new(text),
        }
    }

    /// The service for the requests on one connection.
    pub fn service<B: HttpBody + Send + 'static>(
        self: &Arc<Self>,
    ) -> impl Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Send
    + use<B> {
        let debug = Arc::clone(self);
        service_fn(move |request: Request<B>| {
            let (debug, (request, _)) = (Arc::clone(&debug), request.into_parts());
            async move { Ok(debug.answer(&request.method, request.uri.path()).await) }
        })
    }

    async fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let is_metrics = self.path.as_deref() == Some(path);
        match path {
            _ if !is_read && (is_metrics || path == HEALTH) => {
                status(StatusCode::METHOD_NOT_ALLOWED)
            }
            _ if is_metrics => self.metrics(method).await,
            HEALTH => self.health(method),
            _ => status(StatusCode::NOT_FOUND),
        }
    }

    /// What is counted. To put it together takes files of `/proc`: one entry per connection.
    async fn metrics(&self, method: &Method) -> Response<Body> {
        let text = match *method {
            Method::GET => {
                let text = Arc::clone(&self.text);
                tokio::task::spawn_blocking(move || text()).await
            }
            _ => Ok(String::new()),
        };
        match text {
            Ok(text) => {
                let mut answer = response(Body::from(text));
                answer.headers_mut().insert(header::CONTENT_TYPE, self.content_type.clone());
                answer
            }
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be put together");
                status(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// What registry:2 answers: the checks that fail, each with what it says.
    fn health(&self, method: &Method) -> Response<Body> {
        let failures = self.health.failures();
        let mut answer = json(method, serde_json::json!(failures).to_string());
        if !failures.is_empty() {
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        answer
    }
}
