//! The debug listener (`http.debug`): metrics and health, without a password and without TLS. It is meant for an
//! address that only the operator's own programs reach.

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

    /// The service of all connections, a router: `GET` and `HEAD` of the two paths. Where the metrics have the path of the health, they
    /// take its place.
    pub fn into_service(self) -> TowerToHyperService<Router> {
        // A path of the configuration is taken as it is written.
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

    /// What is counted. To put it together takes files of `/proc`: one entry per connection.
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
                tracing::error!(%error, "the metrics cannot be put together");
                status(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// What registry:2 answers: the checks that fail, each with what it says.
    fn health(State(debug): State<Arc<Self>>, method: Method) -> Ready<Response<Body>> {
        let failures = debug.health.failures();
        let mut answer = json(&method, serde_json::json!(failures).to_string());
        if !failures.is_empty() {
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        ready(answer)
    }
}
