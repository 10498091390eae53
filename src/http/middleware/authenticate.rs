//! Authentication by HTTP Basic (RFC 7617), by a session token (RFC 6750), or by the client certificate of
//! the connection. The layer reads only the
//! head of a call. It refuses a caller that it cannot authenticate: with 401, or with 429 where too many
//! passwords were wrong or wait. A caller that presents nothing and has no certificate passes without a
//! name where rules let in anyone; wrong credentials never do.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use pin_project_lite::pin_project;
use tower::{Layer, Service, layer::layer_fn};

use crate::{
    gate::{Caller, Gate, Recalled},
    http::{Call, Error, authorization::Authorization, refusals::Refusals},
};

/// A call whose caller the gate has let in, with a name or without. Only this layer makes one.
#[derive(Debug)]
pub(super) struct Authenticated {
    pub(super) call: Call,
    pub(super) caller: Caller,
    _seal: (),
}

/// Passes on the calls whose caller `gate` authenticates; `refusals` has the errors of the others.
pub(super) fn layer<S>(
    gate: &Arc<Gate>,
    refusals: &Arc<Refusals>,
) -> impl Layer<S, Service = Authenticate<S>> + use<S> {
    let gate = Arc::clone(gate);
    let refusals = Arc::clone(refusals);
    layer_fn(move |inner| Authenticate {
        inner,
        gate: Arc::clone(&gate),
        refusals: Arc::clone(&refusals),
    })
}

#[derive(Clone, Debug)]
pub(super) struct Authenticate<S> {
    inner: S,
    gate: Arc<Gate>,
    refusals: Arc<Refusals>,
}

impl<S> Service<Call> for Authenticate<S>
where
    S: Service<Authenticated, Error = Error> + Clone,
{
    type Response = S::Response;
    type Error = Error;
    type Future = ResponseFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let address = call.head.client();
        let session = &call.head.connection.session;
        let recalled = match Authorization::of(&call.head) {
            Authorization::Absent => self.gate.recall(None, address, session),
            Authorization::Basic(credentials) => {
                self.gate.recall(Some(credentials), address, session)
            }
            Authorization::Bearer(token) => self.gate.recall_bearer(token, address, session),
            Authorization::Malformed => self.gate.recall_unreadable(address, session),
        };
        match recalled {
            Recalled::Known(caller) => {
                let is_nobody = self.refusals.is_nobody(&caller);
                let passed = authenticated(call, caller, is_nobody);
                ResponseFuture::Known { inner: self.inner.call(passed) }
            }
            Recalled::Refused(refusal) => {
                let error = self.refusals.refused(refusal, &call.head);
                ResponseFuture::Refused { error: Some(error) }
            }
            Recalled::Undecided(credentials) => {
                let gate = Arc::clone(&self.gate);
                let refusals = Arc::clone(&self.refusals);
                let head = Arc::clone(&call.head);
                let verified = async move {
                    let session = &head.connection.session;
                    let verified = gate.authenticate(&credentials, address, session).await;
                    verified.map_err(|refusal| refusals.refused(refusal, &head))
                };
                // The future takes the service that is ready and leaves a clone for the next call.
                let next = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, next);
                ResponseFuture::Verifying { verified: verified.boxed(), next: Some((inner, call)) }
            }
        }
    }
}

/// Records on the connection and in the head that the caller is authenticated, unless it is nobody: a
/// caller whom a rule lets in without a name has proved nothing, and keeps the limits of unauthenticated
/// connections and of their lines in the log.
fn authenticated(call: Call, caller: Caller, is_nobody: bool) -> Authenticated {
    if !is_nobody {
        call.head.connection.authenticated();
        call.head.set_identity(caller.identity.clone());
    }
    Authenticated { call, caller, _seal: () }
}

pin_project! {
    /// The future of a call. Remembered credentials cost neither a wait nor a box. After bcrypt the
    /// future of the inner service takes the place of the one that waited.
    #[project = Stage]
    pub(super) enum ResponseFuture<S: Service<Authenticated>> {
        Known { #[pin] inner: S::Future },
        Verifying { verified: BoxFuture<'static, Result<Caller, Error>>, next: Option<(S, Call)> },
        Refused { error: Option<Error> },
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: Service<Authenticated, Error = Error>,
{
    type Output = Result<S::Response, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let inner = match self.as_mut().project() {
                Stage::Known { inner } => return inner.poll(cx),
                // A future that was ready is not polled again.
                Stage::Refused { error } => {
                    return error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
                Stage::Verifying { verified, next } => {
                    let verified = ready!(verified.as_mut().poll(cx));
                    match (verified, next.take()) {
                        (Ok(caller), Some((mut inner, call))) => {
                            inner.call(authenticated(call, caller, false))
                        }
                        (Err(error), _) => return Poll::Ready(Err(error)),
                        (Ok(_), None) => return Poll::Pending,
                    }
                }
            };
            self.set(Self::Known { inner });
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::{
        gate::{
            HtpasswdOptions, Identity, Policy, Refusal,
            htpasswd::{BcryptHash, Formats, Htpasswd},
        },
        http::middleware::testing::{call, echo, refusals},
    };

    fn gate() -> Arc<Gate> {
        let hash = BcryptHash::new("secret", 4).unwrap();
        let users =
            Htpasswd::parse(format!("ann:{}\n", hash.as_str()).as_bytes(), Formats::BcryptOnly);
        let options = HtpasswdOptions::default();
        Arc::new(Gate::htpasswd(&options, &users, Policy::everything()).unwrap())
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(text))
    }

    #[tokio::test]
    async fn call_with_the_password_is_authenticated_and_bcrypt_runs_once() {
        let gate = gate();
        let mut service = layer(&gate, &refusals(&gate)).layer(service_fn(echo));
        let right = basic("ann:secret");
        for is_remembered in [false, true] {
            let call = call("GET", "/v2/", &[("authorization", &right)]);
            let future = service.ready().await.unwrap().call(call);
            assert_eq!(matches!(future, ResponseFuture::Known { .. }), is_remembered);
            let passed = future.await.unwrap();
            assert_eq!(passed.caller.identity, Identity::User("ann".into()));
            assert_eq!(passed.call.head.identity(), Some(&passed.caller.identity));
        }
        assert_eq!(gate.verifications(), 1);
    }

    #[tokio::test]
    async fn no_credentials_and_wrong_ones_are_refused_with_a_challenge() {
        let gate = gate();
        let right = basic("ann:secret");
        let wrong = basic("ann:other");
        let authorization = |value| ("authorization", value);
        for headers in
            [&[][..], &[authorization(&*wrong)], &[authorization(&*right), authorization(&*right)]]
        {
            let inner = service_fn(async |_: Authenticated| Ok::<_, Error>(()));
            let answer = layer(&gate, &refusals(&gate))
                .layer(inner)
                .oneshot(call("GET", "/v2/", headers))
                .await;
            let Err(Error::Unauthenticated { refusal: Refusal::Unauthenticated, challenge }) =
                answer
            else {
                panic!("{headers:?}: {answer:?}")
            };
            let expected = "Basic realm=\"Portcullis\", charset=\"UTF-8\"";
            assert_eq!(challenge.as_deref(), Some(expected));
        }
    }

    #[tokio::test]
    async fn token_that_is_not_valid_is_refused_with_a_challenge_of_its_scheme() {
        let gate = gate();
        let inner = service_fn(async |_: Authenticated| Ok::<_, Error>(()));
        let service = layer(&gate, &refusals(&gate)).layer(inner);
        let call = call("GET", "/v2/a/tags/list", &[("authorization", "Bearer a.b.c")]);
        let answer = service.oneshot(call).await;
        let Err(Error::Unauthenticated { refusal: Refusal::InvalidToken, challenge }) = answer
        else {
            panic!("{answer:?}")
        };
        let expected = "Bearer realm=\"https://registry.example/auth/token\",\
                        service=\"portcullis\",scope=\"repository:a:pull\",\
                        error=\"invalid_token\"";
        assert_eq!(challenge.as_deref(), Some(expected));
    }

    #[tokio::test]
    async fn open_gate_authenticates_every_caller_as_anonymous() {
        let gate = Arc::new(Gate::open(Policy::everything()));
        let service = layer(&gate, &refusals(&gate)).layer(service_fn(echo));
        let passed = service.oneshot(call("GET", "/v2/", &[])).await.unwrap();
        assert_eq!(passed.caller.identity, Identity::Anonymous);
    }
}
