//! A layer that looks at the head of a call, and passes the call on or refuses it.

use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use tower::{Layer, Service, layer::layer_fn};

use crate::http::{Call, Error, call::Head};

/// Whether a call passes, or the error with which it is refused.
pub(super) trait Check: Fn(&Head) -> Result<(), Error> + Clone + Send {}

impl<C: Fn(&Head) -> Result<(), Error> + Clone + Send> Check for C {}

/// Passes on the calls that `check` accepts.
pub(super) fn layer<S, C: Check>(check: C) -> impl Layer<S, Service = Checked<S, C>> {
    layer_fn(move |inner| Checked { inner, check: check.clone() })
}

#[derive(Clone)]
pub(super) struct Checked<S, C> {
    inner: S,
    check: C,
}

impl<S: Service<Call, Error = Error>, C: Check> Service<Call> for Checked<S, C> {
    type Response = S::Response;
    type Error = Error;
    type Future = Either<S::Future, Ready<Result<S::Response, Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        match (self.check)(&call.head) {
            Ok(()) => Either::Left(self.inner.call(call)),
            Err(error) => Either::Right(ready(Err(error))),
        }
    }
}
