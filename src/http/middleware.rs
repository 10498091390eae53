//! The middleware: the tower layers between hyper and the handlers, one file per layer.
//!
//! [`stack`] has the order, and the types of the requests enforce it: an HTTP request becomes a
//! `Call`; only `authenticate.rs` turns a call into an `Authenticated`, and only `authorise.rs` turns
//! that into a [`Permitted`], which the handlers take. A layer that only inspects a request calls the
//! next layer with `&mut self` and returns its future: nothing is boxed or cloned unless a request
//! has to wait.

use std::{
    convert::Infallible,
    sync::{Mutex, PoisonError},
};

use axum::{
    BoxError,
    body::{Bytes, HttpBody},
    http::{Request, Response},
};
use tower::{Service, ServiceBuilder};

use super::{Api, Connection, handlers};

pub(super) mod access_log;
mod authenticate;
mod authorise;
mod catch_panic;
mod check;
mod client_address;
mod cross_site;
mod error_responses;
mod health;
mod host;
mod limit_addresses;
mod limit_callers;
pub(super) mod open_routes;
mod preflight;
mod refuse_clients;
pub(super) mod request_id;
pub(super) mod response_headers;
#[cfg(test)]
mod testing;

pub use access_log::LoggedBody;
pub(super) use authorise::{Authorisation, Authorised, Permitted};
pub use request_id::RequestId;

/// The middleware and the handlers, for the requests on one connection.
pub(super) fn stack<B>(
    api: &Api,
    connection: Connection,
) -> impl Service<
    Request<B>,
    Response = Response<LoggedBody>,
    Error = Infallible,
    Future: Future<Output = Result<Response<LoggedBody>, Infallible>> + Send,
> + Send
+ use<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    ServiceBuilder::new()
        .layer(request_id::layer())
        .layer(access_log::layer(&api.access_log, connection))
        .layer(response_headers::layer(&api.headers))
        .layer(error_responses::layer())
        .layer(catch_panic::layer())
        .layer(client_address::layer(&api.proxies))
        .layer(refuse_clients::layer(&api.clients))
        .layer(health::layer(&api.health))
        .layer(host::layer(&api.allowed_hosts))
        .layer(preflight::layer())
        .layer(limit_addresses::layer(&api.limits, &api.prefix))
        .layer(open_routes::layer(&api.open_routes, &api.token, &api.prefix))
        .layer(cross_site::layer(&api.headers))
        .layer(authenticate::layer(&api.gate, &api.refusals))
        .layer(limit_callers::layer(&api.limits))
        .layer(authorise::layer(&api.authorisation, &api.prefix))
        .service(handlers::service(&api.handlers))
}

/// A stack for hyper, which calls a service with `&self`: the requests on a connection share its
/// stack, under a lock that each holds only until its future is made. A clone of the stack for each
/// request would cost a reference count for each layer, in memory that all threads write to.
///
/// Every layer is always ready (`poll_ready`): the server enforces limits, not a layer.
pub(super) struct PerConnection<S>(Mutex<S>);

impl<S> PerConnection<S> {
    pub(super) const fn new(stack: S) -> Self {
        Self(Mutex::new(stack))
    }
}

impl<S: Service<R>, R> hyper::service::Service<R> for PerConnection<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: R) -> S::Future {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::{body::Body, http::request};
    use hyper::service::Service as _;

    use super::*;
    use crate::{
        gate::{
            Gate, HtpasswdOptions, Policy,
            htpasswd::{BcryptHash, Formats, Htpasswd},
        },
        health::{Check, Health},
        http::{ApiParts, Limits, Options, ReadOnlyOptions, middleware::testing::PEER},
        network::{ClientsOptions, Source},
        registry::{self, Registry, SystemClock},
        storage::memory::Memory,
    };

    fn api(health: &Arc<Health>) -> Api {
        let hash = BcryptHash::new("secret", 4).unwrap();
        let users =
            Htpasswd::parse(format!("ann:{}\n", hash.as_str()).as_bytes(), Formats::BcryptOnly);
        let options = HtpasswdOptions::default();
        let parts = ApiParts {
            registry: Registry::new(
                Arc::new(Memory::default()),
                Arc::new(SystemClock),
                registry::Options::default(),
            ),
            gate: Arc::new(Gate::htpasswd(&options, &users, Policy::everything()).unwrap()),
            health: Arc::clone(health),
        };
        let limits = Limits { readonly: ReadOnlyOptions { enabled: true }, ..Limits::default() };
        Api::new(parts, &Options::default(), limits, true).unwrap()
    }

    fn denying(network: &str) -> ClientsOptions {
        let deny = vec![Source::try_from(network.to_owned()).unwrap()];
        ClientsOptions { deny, ..ClientsOptions::default() }
    }

    /// A request violates every check. The test corrects one fault after the other, and each time the
    /// next layer refuses the request.
    #[tokio::test]
    async fn checks_run_in_the_order_of_the_layers() {
        let health = Arc::new(Health::default());
        let api = api(&health);
        api.set_clients(&denying("127.0.0.0/8"));
        let failing = Check::new("disk".to_owned(), async || Err("full".into()));
        failing.run(&health).await;
        let service = PerConnection::new(stack(&api, Connection::new(Some(PEER), || {})));
        let status = async |request: request::Builder| {
            let response = service.call(request.body(Body::empty()).unwrap()).await.unwrap();
            assert!(response.headers().contains_key("x-request-id"));
            assert!(response.headers().contains_key("docker-distribution-api-version"));
            response.status().as_u16()
        };
        let to = |method: &str, path: &str| Request::builder().method(method).uri(path);
        let wrong = "/v2/a/no-endpoint";
        assert_eq!(status(to("PUT", wrong)).await, 403, "an address that is denied");
        api.set_clients(&ClientsOptions::default());
        assert_eq!(status(to("PUT", wrong)).await, 503);
        let passing = Check::new("disk".to_owned(), async || Ok(()));
        passing.run(&health).await;
        assert_eq!(status(to("PUT", wrong)).await, 400, "no Host");
        let to = |method: &str, path: &str| to(method, path).header("host", "a");
        let forged = |path: &str| to("PUT", path).header("sec-fetch-site", "cross-site");
        assert_eq!(status(forged("/other")).await, 404, "an open route, whose page it is");
        assert_eq!(status(forged(wrong)).await, 403, "another site's page, without credentials");
        assert_eq!(status(to("PUT", wrong)).await, 401, "no credentials, and no such endpoint");
        let to = |method: &str, path: &str| {
            to(method, path).header("authorization", "Basic YW5uOnNlY3JldA==")
        };
        assert_eq!(status(to("PUT", wrong)).await, 404, "no such endpoint");
        let manifest = "/v2/a/manifests/b";
        assert_eq!(status(to("PUT", manifest)).await, 405, "read-only, whatever the body is");
        assert_eq!(status(to("GET", manifest)).await, 404, "no such manifest");
    }
}
