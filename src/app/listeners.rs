//! The listeners of a server: the registry's, the redirect listener and the debug listener.

use std::{num::NonZeroU32, sync::Arc};

use crate::{
    config,
    health::Health,
    http::{self, Redirect},
    server::{self, BindError, Connections, H2cOptions, Listener, Server, Workers},
    telemetry::metrics::{self, Metrics},
};

/// The listeners of a server.
pub(super) struct Listeners {
    pub(super) registry: Listener,
    pub(super) redirect: Option<Listener>,
    pub(super) debug: Option<Listener>,
}

impl Listeners {
    /// Opens every listener before one is served, so that an address that cannot be bound leaves
    /// nothing running. `registry` is the caller's listener, if it has one.
    pub(super) fn open(
        registry: Option<Listener>,
        options: &config::Http,
    ) -> Result<Self, BindError> {
        let registry = match registry {
            Some(listener) => listener,
            None => Listener::open(&options.server)?,
        };
        let redirect = listen("http.redirectaddr", &options.server.redirectaddr)?;
        let debug = listen("http.debug.addr", &options.api.debug.addr)?;
        Ok(Self { registry, redirect, debug })
    }
}

/// Opens a listener, unless its address is empty.
fn listen(key: &'static str, addr: &str) -> Result<Option<Listener>, BindError> {
    if addr.is_empty() { Ok(None) } else { Listener::tcp(key, addr).map(Some) }
}

/// Starts the redirect listener. Each of its connections carries one response, so a tenth of the
/// registry's connection limit is enough. The limit is its own: clients of the registry do not wait
/// behind these connections.
pub(super) fn serve_redirect(
    listener: Listener,
    redirect: Redirect,
    workers: &Workers,
    options: &server::Options,
    registry: Connections,
) -> Server {
    let limit = u32::try_from(registry.limit / 10).unwrap_or(u32::MAX);
    let limit = NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
    let options = server::Options {
        maxconnections: Some(limit),
        h2c: H2cOptions::default(),
        proxyprotocol: Vec::new(),
        ..options.clone()
    };
    tracing::info!(addr = %listener.addr(), "listening for plain HTTP, redirecting to HTTPS");
    let redirect = Arc::new(redirect);
    Server::start(listener, &options, None, workers, move |peer| {
        redirect.service(http::Connection::new(peer.addr(), || {}))
    })
}

/// Starts the debug listener.
pub(super) fn serve_debug(
    listener: Listener,
    options: &config::Http,
    workers: &Workers,
    health: Arc<Health>,
    metrics: Metrics,
) -> Server {
    let text = move || metrics.text();
    let prometheus = &options.api.debug.prometheus;
    let debug = http::Debug::new(prometheus, health, metrics::CONTENT_TYPE, text);
    let service = debug.into_service();
    tracing::info!(addr = %listener.addr(), "listening for metrics");
    let options = server::Options { proxyprotocol: Vec::new(), ..options.server.clone() };
    Server::start(listener, &options, None, workers, move |peer| {
        // Only the operator's own programs connect to the debug listener.
        peer.authenticated();
        service.clone()
    })
}
