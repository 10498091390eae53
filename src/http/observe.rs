//! What happens around every request: its id, the access log, panics, the headers of all
//! responses.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    BoxError,
    body::{Body, Bytes, HttpBody},
    http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header},
};
use futures_util::FutureExt as _;
use hyper::body::{Frame, SizeHint};
use uuid::Uuid;

use super::{Api, Call, Connection, error};
use crate::{
    gate::Identity,
    telemetry::{
        access::{self, Exchange},
        requests::{Finished, Handler},
    },
};

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
pub(super) async fn observed<B>(
    api: Arc<Api>,
    connection: Arc<Connection>,
    request: Request<B>,
) -> Response<Observed>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let (id, started) = (RequestId::new(), Instant::now());
    // Most requests have no body.
    let received = (!request.body().is_end_stream()).then(Arc::<AtomicU64>::default);
    let request = request.map(|body| match &received {
        Some(count) => Body::new(Counted { body: Box::pin(body), count: Arc::clone(count) }),
        None => Body::empty(),
    });
    let (call, body) = Call::new(id, connection, request);
    let (status, digest, sent) = (GONE, None, 0);
    let mut running = Box::new(Running { api, call, started, received, status, digest, sent });
    let Running { api, call, .. } = &mut *running;
    let answer = AssertUnwindSafe(api.answer(call, body)).catch_unwind().await;
    let mut response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => error.into_response(id),
        Err(_) => error::internal(StatusCode::INTERNAL_SERVER_ERROR, &Panicked, id),
    };
    finish(call, &mut response);
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    for (name, value) in &api.adjustable.load().headers {
        headers.append(name, value.clone());
    }
    api.begin(call, Handler::Other);
    running.digest = response.headers().get(super::CONTENT_DIGEST).cloned();
    running.status = response.status().as_u16();
    response.map(|body| Observed { body, running })
}

/// Gives a response its id and its end.
pub(super) fn finish(call: &Call, response: &mut Response<Body>) {
    end(&call.method, response);
    let mut number = super::value(&call.id);
    // To HTTP/2 that means: never seen again, so not worth a place in the table of headers.
    number.set_sensitive(true);
    response.headers_mut().insert(REQUEST_ID, number);
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

/// A response's body, at whose end the request is counted and logged.
#[derive(Debug)]
pub struct Observed {
    body: Body,
    running: Box<Running>,
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &poll {
            self.running.sent += length(frame);
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

/// A request's body, whose bytes are counted.
struct Counted<B> {
    body: B,
    count: Arc<AtomicU64>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &poll {
            self.count.fetch_add(length(frame), Ordering::Relaxed);
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request until its response has left, or its client has. In flight, once it is known for what.
#[derive(Debug)]
struct Running {
    api: Arc<Api>,
    call: Call,
    started: Instant,
    received: Option<Arc<AtomicU64>>,
    /// Of the response, once there is one.
    status: u16,
    digest: Option<HeaderValue>,
    sent: u64,
}

/// What a request counts as whose client went before there was a response, as with nginx; registry:2
/// logs the same.
const GONE: u16 = 499;

impl Drop for Running {
    /// Counts the request, and writes its line.
    fn drop(&mut self) {
        let Self { api, call, started, received, status, digest, sent } = &*self;
        let duration = started.elapsed();
        let received = received.as_ref().map_or(0, |count| count.load(Ordering::Relaxed));
        let (status, sent) = (*status, *sent);
        let (handler, method) = (call.handler.unwrap_or_default(), call.method.as_str());
        api.requests.finished(&Finished { handler, method, status, received, sent, duration });
        if call.handler.is_some() {
            api.requests.ended(handler);
        }
        if api.access_log {
            access::log(&Exchange {
                repository: call.repository(&api.prefix),
                digest: digest.as_ref().and_then(|digest| digest.to_str().ok()),
                ..exchange(call, status, (received, sent), duration)
            });
        }
    }
}

/// What the log says of any request. No header is in it but the agent's name and where the client
/// came from: `Authorization` must never be.
pub(super) fn exchange(
    call: &Call,
    status: u16,
    (received, sent): (u64, u64),
    duration: Duration,
) -> Exchange<'_> {
    let header = |name| call.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    Exchange {
        client: call.client.or_else(|| call.connection.peer.ip()),
        let_in: call.identity.is_some(),
        user: call.identity.as_ref().and_then(Identity::name),
        method: call.method.as_str(),
        uri: call.uri.path_and_query().map_or("*", |path| path.as_str()),
        protocol: protocol(call.version),
        status,
        sent,
        received,
        referer: header(header::REFERER),
        agent: header(header::USER_AGENT),
        repository: None,
        digest: None,
        duration,
        request: &call.id,
    }
}

const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// A handler panicked. The panic hook has written where.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a handler panicked")]
struct Panicked;
