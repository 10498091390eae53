//! Parses the endpoint of a call (404, 405), and checks that its caller has the right that the endpoint
//! needs (403) and that the registry is not read-only (405). A caller without a name gets 401 for every
//! call that does not pass. The name of the repository decides, before storage is asked for anything, so
//! that neither the answer nor its time tells what exists.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::{Method, Response},
};
use futures_util::future::{Either, Ready, ready};
use tower::{Layer, Service, layer::layer_fn};

use super::authenticate::Authenticated;
use crate::{
    gate::{Caller, Gate, Permit},
    http::{Error, call::Head, endpoint::Endpoint, refusals::Refusals, response::options},
    oci::ErrorCode,
    telemetry::requests::Requests,
};

/// A call whose caller has a permit for its endpoint. Only this layer makes one, and handlers take
/// nothing else.
#[derive(Debug)]
pub(in crate::http) struct Permitted {
    pub(in crate::http) request: Authorised,
    pub(in crate::http) endpoint: Endpoint,
    pub(in crate::http) body: Body,
    _seal: (),
}

/// The head of a permitted call, with the permit.
#[derive(Debug)]
pub(in crate::http) struct Authorised {
    pub(in crate::http) head: Arc<Head>,
    pub(in crate::http) permit: Permit,
}

/// The rules by which the layer permits calls.
#[derive(Debug)]
pub(in crate::http) struct Authorisation {
    gate: Arc<Gate>,
    refusals: Arc<Refusals>,
    requests: Arc<Requests>,
    readonly: AtomicBool,
}

impl Authorisation {
    pub(in crate::http) const fn new(
        gate: Arc<Gate>,
        refusals: Arc<Refusals>,
        requests: Arc<Requests>,
        readonly: bool,
    ) -> Self {
        Self { gate, refusals, requests, readonly: AtomicBool::new(readonly) }
    }

    /// Whether writes are refused.
    pub(in crate::http) fn is_readonly(&self) -> bool {
        self.readonly.load(Ordering::Relaxed)
    }

    /// Refuses writes from now on, or allows them again.
    pub(in crate::http) fn set_readonly(&self, readonly: bool) {
        self.readonly.store(readonly, Ordering::Relaxed);
    }

    /// The permit for the endpoint of a call. From here on the request of a permitted caller, and of every
    /// caller with a name, counts as in flight.
    fn permit(&self, head: &Head, caller: Caller, endpoint: &Endpoint) -> Result<Permit, Error> {
        let is_nobody = self.refusals.is_nobody(&caller);
        let is_admitted = match caller.ceiling {
            None => endpoint.admits_anonymous(),
            Some(_) => endpoint.admits_anonymous_token(),
        };
        if is_nobody && !is_admitted {
            return Err(self.refusals.nameless(&caller, head));
        }
        let permit = self.gate.authorise(caller, endpoint.right().as_slice());
        if permit.is_ok() || !is_nobody {
            head.begin(&self.requests, endpoint.handler());
            if let Some(name) = endpoint.repository() {
                head.set_repository(name);
            }
        }
        let permit = permit.map_err(|denied| self.refusals.denied(denied, head))?;
        head.set_rule(permit.rule());
        if self.is_readonly() && !matches!(head.method, Method::GET | Method::HEAD) {
            let why = "the registry is read-only for now; pulls go on";
            return Err(Error::refused(ErrorCode::Unsupported).because(why));
        }
        Ok(permit)
    }
}

/// Passes on the calls that `authorisation` permits. The paths of endpoints are below `prefix`.
pub(super) fn layer<S>(
    authorisation: &Arc<Authorisation>,
    prefix: &Arc<str>,
) -> impl Layer<S, Service = Authorise<S>> + use<S> {
    let authorisation = Arc::clone(authorisation);
    let prefix = Arc::clone(prefix);
    layer_fn(move |inner| Authorise {
        inner,
        authorisation: Arc::clone(&authorisation),
        prefix: Arc::clone(&prefix),
    })
}

#[derive(Clone, Debug)]
pub(super) struct Authorise<S> {
    inner: S,
    authorisation: Arc<Authorisation>,
    prefix: Arc<str>,
}

impl<S> Service<Authenticated> for Authorise<S>
where
    S: Service<Permitted, Response = Response<Body>, Error = Error>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, authenticated: Authenticated) -> Self::Future {
        let Authenticated { call, caller, .. } = authenticated;
        let head = call.head;
        let path = head.path(&self.prefix).unwrap_or_default();
        let endpoint =
            match Endpoint::parse(&head.method, path, head.uri.query().unwrap_or_default()) {
                Ok(endpoint) => endpoint,
                Err(_) if self.authorisation.refusals.is_nobody(&caller) => {
                    return Either::Right(ready(Err(self
                        .authorisation
                        .refusals
                        .nameless(&caller, &head))));
                }
                Err(Error::MethodNotAllowed(allowed)) if head.method == Method::OPTIONS => {
                    return Either::Right(ready(Ok(options(allowed))));
                }
                Err(error) => return Either::Right(ready(Err(error))),
            };
        match self.authorisation.permit(&head, caller, &endpoint) {
            Ok(permit) => {
                let request = Authorised { head, permit };
                let permitted = Permitted { request, endpoint, body: call.body, _seal: () };
                Either::Left(self.inner.call(permitted))
            }
            Err(error) => Either::Right(ready(Err(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceBuilder, ServiceExt as _};

    use super::*;
    use crate::{
        gate::{
            Access, Policy,
            access::{Groups, Rule},
        },
        http::middleware::{
            authenticate,
            testing::{call, refusals, respond},
        },
    };

    /// Lets every caller read, and nothing else.
    fn pulls() -> Policy {
        let rule = serde_json::json!({ "who": ["anyone"], "may": ["pull"] });
        let rule: Rule = serde_json::from_value(rule).unwrap();
        Policy::rules(Access::new([rule], Groups::default()))
    }

    fn authorisation(gate: &Arc<Gate>, readonly: bool) -> Arc<Authorisation> {
        let refusals = refusals(gate);
        Arc::new(Authorisation::new(Arc::clone(gate), refusals, Arc::default(), readonly))
    }

    async fn answered(gate: Gate, readonly: bool, method: &str, path: &str) -> Result<u16, Error> {
        let gate = Arc::new(gate);
        let authorisation = authorisation(&gate, readonly);
        let service = ServiceBuilder::new()
            .layer(authenticate::layer(&gate, &refusals(&gate)))
            .layer(layer(&authorisation, &"".into()))
            .service_fn(respond::<Permitted>);
        let response = service.oneshot(call(method, path, &[])).await?;
        Ok(response.status().as_u16())
    }

    #[tokio::test]
    async fn permitted_call_passes_with_its_endpoint() {
        let gate = Arc::new(Gate::open(Policy::everything()));
        let authorisation = authorisation(&gate, false);
        let service = ServiceBuilder::new()
            .layer(authenticate::layer(&gate, &refusals(&gate)))
            .layer(layer(&authorisation, &"/x".into()))
            .service_fn(async |permitted: Permitted| {
                assert!(matches!(permitted.endpoint, Endpoint::Tags { .. }));
                let head = &permitted.request.head;
                assert_eq!(head.repository("/x"), Some("team/app"));
                assert!(head.handler().is_some(), "it counts as in flight");
                Ok(Response::new(permitted.body))
            });
        let response = service.oneshot(call("GET", "/x/v2/team/app/tags/list", &[])).await;
        assert!(response.is_ok());
    }

    #[tokio::test]
    async fn call_without_an_endpoint_or_a_permit_does_not_pass() {
        let open = || Gate::open(Policy::everything());
        let upload = "/v2/a/blobs/uploads/";
        assert!(matches!(answered(open(), false, "GET", "/v2/a/b").await, Err(Error::NotFound)));
        assert!(matches!(
            answered(open(), false, "PUT", "/v2/").await,
            Err(Error::MethodNotAllowed(_))
        ));
        assert!(matches!(answered(open(), false, "OPTIONS", "/v2/").await, Ok(200)));
        assert!(matches!(answered(open(), false, "POST", upload).await, Ok(200)));
        assert!(matches!(answered(open(), true, "POST", upload).await, Err(Error::Refused(_))));
        assert!(matches!(answered(open(), true, "GET", "/v2/a/tags/list").await, Ok(200)));
        let denied = answered(Gate::open(pulls()), false, "POST", upload).await;
        assert!(matches!(denied, Err(Error::Denied(_))), "{denied:?}");
        assert!(matches!(answered(Gate::open(pulls()), false, "GET", "/v2/").await, Ok(200)));
    }
}
