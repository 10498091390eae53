//! The debug listener (`http.debug`): metrics and health checks, without a password and without TLS.
//! It is meant for an address that only the operator's own programs reach.

use std::{
    fmt,
    future::{Ready, ready},
    sync::Arc,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderValue, Method, Response, StatusCode, header},
    routing::get,
};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;

use super::response::{json, response, status};
use crate::health::Health;

/// registry:2's path.
const HEALTH: &str = "/debug/health";

/// `http.debug`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DebugOptions {
    /// The address of the debug listener: `host:port`. Empty: no debug listener.
    pub addr: String,
    /// The metrics that Prometheus scrapes.
    pub prometheus: PrometheusOptions,
}

/// `http.debug.prometheus`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct PrometheusOptions {
    /// Whether metrics are served.
    pub enabled: bool,
    /// The path of the metrics.
    pub path: String,
}

impl Default for PrometheusOptions {
    fn default() -> Self {
        Self { enabled: false, path: "/metrics".to_owned() }
    }
}

/// The service of the debug listener.
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
    /// Serves the failing checks of `health` and, if the options enable them, the metrics that `text`
    /// collects on a thread that may block, as `content_type`.
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

    /// The router of all connections: `GET` and `HEAD` of the two paths. Metrics that are configured
    /// at the path of the health checks replace these.
    pub fn into_service(self) -> TowerToHyperService<Router> {
        // The configured path is literal: it has no parameters in axum's syntax.
        let mut router = Router::new().without_v07_checks();
        if let Some(path) = self.path.as_deref().filter(|path| path.starts_with('/')) {
            let literal = path.replace('{', "{{").replace('}', "}}");
            router = router.route(&literal, get(Self::metrics));
        }
        if self.path.as_deref() != Some(HEALTH) {
            router = router.route(HEALTH, get(Self::health));
        }
        let router = router.fallback(|| ready(status(StatusCode::NOT_FOUND)));
        TowerToHyperService::new(router.with_state(Arc::new(self)))
    }

    /// The metrics. Collecting them blocks: it reads files of `/proc`, one entry per connection.
    async fn metrics(State(debug): State<Arc<Self>>, method: Method) -> Response<Body> {
        let text = match method {
            Method::GET => {
                let text = Arc::clone(&debug.text);
                tokio::task::spawn_blocking(move || text()).await
            }
            _ => Ok(String::new()),
        };
        match text {
            Ok(text) => {
                let mut answer = response(Body::from(text));
                answer.headers_mut().insert(header::CONTENT_TYPE, debug.content_type.clone());
                answer
            }
            Err(error) => {
                tracing::error!(%error, "cannot collect the metrics");
                status(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// The response of registry:2: the failing checks, each with its error.
    fn health(State(debug): State<Arc<Self>>, method: Method) -> Ready<Response<Body>> {
        let failures = debug.health.failures();
        let mut answer = json(&method, serde_json::json!(failures).to_string());
        if !failures.is_empty() {
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        ready(answer)
    }
}
