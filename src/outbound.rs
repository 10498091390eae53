//! The client of requests that the server itself sends, to webhooks and to authorities of certificates.

use std::{net::IpAddr, time::Duration};

use reqwest::{Client, ClientBuilder, Url, redirect, retry};

/// How long a connection waits for the next request.
const IDLE: Duration = Duration::from_secs(10);

/// The beginning of a client for the server of `url`. Like Go's it goes through the proxy that `HTTP_PROXY`,
/// `HTTPS_PROXY` and `NO_PROXY` say, but to this machine without one. It follows no redirection, repeats no
/// request and keeps one idle connection.
pub(crate) fn client(url: &Url) -> ClientBuilder {
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(1);
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    if here { builder.no_proxy() } else { builder }
}
