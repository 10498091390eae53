//! What happens around every request: its id, the access log, panics, the headers of all
//! responses.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    body::{Body, HttpBody as _},
    http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header},
};
use futures_util::FutureExt as _;
use uuid::Uuid;

use super::{Api, Call, Peer, error};

/// Names a request in its response, in the log, and in what a user tells an operator.
#[derive(Clone, Copy, Debug)]
pub struct RequestId {
    /// Random, chosen when the process starts.
    process: u32,
    /// Counted from there.
    number: u64,
}

impl RequestId {
    /// An id that no other request has, of this process or, most likely, of another. It is made
    /// here: one that a client sent could be anything. Nothing depends on it being hard to guess,
    /// and to ask the system for random numbers costs more than the rest of a small request.
    #[must_use]
    pub fn new() -> Self {
        static PROCESS: OnceLock<u32> = OnceLock::new();
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Self {
            process: *PROCESS.get_or_init(|| Uuid::new_v4().as_fields().0),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:x}", self.process, self.number)
    }
}

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers a request, whatever happens.
pub(super) async fn observed(api: &Api, peer: Peer, request: Request<Body>) -> Response<Body> {
    let (id, started) = (RequestId::new(), Instant::now());
    let (mut call, body) = Call::new(id, peer, request);
    let answer = AssertUnwindSafe(api.answer(&mut call, body)).catch_unwind().await;
    let mut response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => error.into_response(id),
        Err(_) => error::internal(StatusCode::INTERNAL_SERVER_ERROR, &Panicked, id),
    };
    end(&call.method, &mut response);
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    let mut number = super::value(&id);
    // To HTTP/2 that means: never seen again, so not worth a place in the table of headers.
    number.set_sensitive(true);
    headers.insert(REQUEST_ID, number);
    for (name, value) in &api.headers {
        headers.append(name, value.clone());
    }
    if api.access_log {
        log(&call, &response, started);
    }
    response
}

/// Says how long the body is where that is known, and takes it away where it may not be (RFC 9110,
/// §8.6 and §9.3.2).
fn end(method: &Method, response: &mut Response<Body>) {
    let bodiless = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let (Some(length), false) = (response.body().size_hint().exact(), bodiless) {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
}

/// Writes a line when the head of a response is ready. No header of the request is in it but the
/// agent's name: `Authorization` must never be.
fn log(call: &Call, response: &Response<Body>, started: Instant) {
    tracing::info!(
        target: "access",
        request = %call.id,
        peer = %call.peer,
        user = call.identity.as_ref().map(tracing::field::display),
        method = %call.method,
        uri = %call.uri,
        status = response.status().as_u16(),
        milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        agent = call.header(header::USER_AGENT),
        "request"
    );
}

/// A handler panicked. The panic hook has written where.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a handler panicked")]
struct Panicked;
