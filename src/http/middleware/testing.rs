//! Calls and inner services for the tests of layers.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    http::{Request, Response},
};

use crate::{
    gate::Gate,
    http::{
        Call, Connection, Error, Options, RequestId, base_url::BaseUrls, call::Head,
        challenge::Challenges, proxies::Proxies, refusals::Refusals,
    },
};

/// The peer of the calls.
pub(super) const PEER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 40_000);

/// A call without a body, to one host.
pub(super) fn call(method: &str, path: &str, headers: &[(&str, &str)]) -> Call {
    let request = headers
        .iter()
        .fold(Request::builder(), |request, (name, value)| request.header(*name, *value))
        .method(method)
        .uri(path)
        .header("host", "registry.example")
        .body(())
        .unwrap();
    let connection = Arc::new(Connection::new(Some(PEER), || {}));
    let head = Head::new(RequestId::new(), connection, request.into_parts().0);
    Call { head: Arc::new(head), body: Body::empty() }
}

/// The challenges of a registry with TLS and without a prefix.
pub(super) fn challenges(gate: &Arc<Gate>) -> Arc<Challenges> {
    let prefix: Arc<str> = "".into();
    let proxies = Arc::new(Proxies::new(&[]));
    let base_urls = BaseUrls::new(&Options::default(), true, &prefix, &proxies).unwrap();
    Arc::new(Challenges::new(Arc::clone(gate), Arc::new(base_urls), prefix))
}

/// The refusals of such a registry.
pub(super) fn refusals(gate: &Arc<Gate>) -> Arc<Refusals> {
    Arc::new(Refusals::new(Arc::clone(gate), challenges(gate)))
}

/// An inner service that returns its request.
pub(super) async fn echo<R>(request: R) -> Result<R, Error> {
    Ok(request)
}

/// An inner service that answers everything with an empty `200`.
pub(super) async fn respond<R>(_: R) -> Result<Response<Body>, Error> {
    Ok(Response::new(Body::empty()))
}
