//! The listeners beside the registry's own: for plain HTTP, and for metrics and health.

use std::{num::NonZeroU32, sync::Arc};

use crate::{
    config,
    health::Health,
    http::{self, Redirect},
    server::{self, BindError, H2cOptions, Listener, Server},
    telemetry::metrics::{self, Metrics},
};

/// Listens where there is an address for it.
pub(super) fn listen(key: &'static str, addr: &str) -> Result<Option<Listener>, BindError> {
    if addr.is_empty() { Ok(None) } else { Listener::tcp(key, addr).map(Some) }
}

/// Sends plain HTTP to HTTPS. Each connection is for one answer, so a tenth of those that the
/// registry itself may have is enough; clients of the registry do not wait behind these.
pub(super) fn serve_redirect(
    listener: Listener,
    redirect: Redirect,
    server: &Server,
    options: &server::Options,
) -> Server {
    let limit = u32::try_from(server.connections().limit / 10).unwrap_or(u32::MAX);
    let limit = NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
    let (maxconnections, h2c) = (Some(limit), H2cOptions::default());
    let options = server::Options { maxconnections, h2c, ..options.clone() };
    tracing::info!(addr = %listener.addr(), "listening for plain HTTP, which is sent to HTTPS");
    let redirect = Arc::new(redirect);
    Server::start(listener, &options, None, move |peer| redirect.service(peer.into()))
}

/// Serves metrics and health.
pub(super) fn serve_debug(
    listener: Listener,
    options: &config::Http,
    health: Arc<Health>,
    metrics: Metrics,
) -> Server {
    let text = move || metrics.text();
    let prometheus = &options.api.debug.prometheus;
    let debug = Arc::new(http::Debug::new(prometheus, health, metrics::CONTENT_TYPE, text));
    tracing::info!(addr = %listener.addr(), "listening for metrics");
    Server::start(listener, &options.server, None, move |_| debug.service())
}
