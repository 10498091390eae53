//! The access log and the metrics of requests: a request is counted and logged when its response is
//! sent or its client has disconnected.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{
    BoxError,
    body::{Body, Bytes, HttpBody},
    http::{HeaderValue, Response, Version, header},
};
use hyper::body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service, layer::layer_fn};

use super::request_id::Identified;
use crate::{
    gate::Identity,
    http::{Call, Connection, call::Head, response::CONTENT_DIGEST},
    telemetry::{
        access::{self, Exchange},
        requests::{Finished, Handler, Requests},
    },
};

/// Where requests are counted and logged.
#[derive(Clone, Debug)]
pub(in crate::http) struct AccessLog {
    pub(in crate::http) requests: Arc<Requests>,
    /// Whether requests are logged. They are counted in any case.
    pub(in crate::http) is_written: bool,
    /// `http.prefix` without a slash at its end.
    pub(in crate::http) prefix: Arc<str>,
}

/// Turns the requests on a connection into calls, and records each in `log`.
pub(super) fn layer<S>(
    log: &AccessLog,
    connection: Connection,
) -> impl Layer<S, Service = LogAccess<S>> + use<S> {
    // A copy for each connection, so that the reference count of its requests is in memory that no
    // other thread writes to.
    let log = Arc::new(log.clone());
    let connection = Arc::new(connection);
    layer_fn(move |inner| LogAccess {
        inner,
        log: Arc::clone(&log),
        connection: Arc::clone(&connection),
    })
}

#[derive(Clone, Debug)]
pub(super) struct LogAccess<S> {
    inner: S,
    log: Arc<AccessLog>,
    connection: Arc<Connection>,
}

impl<S, B> Service<Identified<B>> for LogAccess<S>
where
    S: Service<Call, Response = Response<Body>, Error = Infallible>,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<LoggedBody>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, Identified { id, request }: Identified<B>) -> Self::Future {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let (body, received) = counted(body);
        let head = Arc::new(Head::new(id, Arc::clone(&self.connection), parts));
        let record = Record {
            log: Arc::clone(&self.log),
            head: Arc::clone(&head),
            started,
            received,
            status: CLIENT_GONE,
            digest: None,
            sent: 0,
        };
        ResponseFuture { inner: self.inner.call(Call { head, body }), record: Some(record) }
    }
}

/// A body that counts its bytes, with the counter. Most requests have no body and need no counter.
fn counted<B>(body: B) -> (Body, Option<Arc<AtomicU64>>)
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    if body.is_end_stream() {
        return (Body::empty(), None);
    }
    let count = Arc::<AtomicU64>::default();
    let body = Counted { body: Box::pin(body), count: Arc::clone(&count) };
    (Body::new(body), Some(count))
}

pin_project! {
    pub(super) struct ResponseFuture<F> {
        #[pin]
        inner: F,
        // Dropped with the future when the client disconnects.
        record: Option<Record>,
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for ResponseFuture<F> {
    type Output = Result<Response<LoggedBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        // A future that was ready is not polled again.
        let Some(mut record) = this.record.take() else { return Poll::Pending };
        record.head.begin(&record.log.requests, Handler::Other);
        record.digest = response.headers().get(CONTENT_DIGEST).cloned();
        record.status = response.status().as_u16();
        Poll::Ready(Ok(response.map(|body| LoggedBody { body, record })))
    }
}

/// The body of a response. At its end the request is counted and logged.
#[derive(Debug)]
pub struct LoggedBody {
    body: Body,
    record: Record,
}

impl HttpBody for LoggedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &poll {
            self.record.sent += length(frame);
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

/// The body of a request, which counts its bytes.
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

/// A request until its response is sent or its client has disconnected.
#[derive(Debug)]
struct Record {
    log: Arc<AccessLog>,
    head: Arc<Head>,
    started: Instant,
    received: Option<Arc<AtomicU64>>,
    /// The status of the response; [`CLIENT_GONE`] until there is a response.
    status: u16,
    digest: Option<HeaderValue>,
    sent: u64,
}

/// The status of a request whose client disconnected before there was a response, as in the logs of
/// nginx and registry:2.
const CLIENT_GONE: u16 = 499;

impl Drop for Record {
    /// Counts and logs the request.
    fn drop(&mut self) {
        let Self { log, head, started, received, status, digest, sent } = &*self;
        let duration = started.elapsed();
        let received = received.as_ref().map_or(0, |count| count.load(Ordering::Relaxed));
        let handler = head.handler().unwrap_or_default();
        log.requests.count(&Finished {
            handler,
            method: head.method.as_str(),
            status: *status,
            received,
            sent: *sent,
            duration,
        });
        if head.handler().is_some() {
            log.requests.end(handler);
        }
        if log.is_written {
            let user = head.identity().and_then(Identity::text);
            access::log(&Exchange {
                user: user.as_deref(),
                received,
                sent: *sent,
                repository: head.repository(&log.prefix),
                digest: digest.as_ref().and_then(|digest| digest.to_str().ok()),
                ..exchange(head, *status, duration)
            });
        }
    }
}

/// The log entry of a request, without the user and the fields of its bodies. Its only headers are `User-Agent` and
/// `Referer`: the log must never have `Authorization`.
pub(in crate::http) fn exchange(head: &Head, status: u16, duration: Duration) -> Exchange<'_> {
    let header = |name| head.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    Exchange {
        client: head.client().or_else(|| head.connection.peer.ip()),
        is_authenticated: head.identity().is_some(),
        user: None,
        method: head.method.as_str(),
        uri: head.uri.path_and_query().map_or("*", |path| path.as_str()),
        protocol: protocol(head.version),
        status,
        sent: 0,
        received: 0,
        referer: header(header::REFERER),
        agent: header(header::USER_AGENT),
        repository: None,
        digest: None,
        rule: head.rule(),
        duration,
        request: &head.id,
    }
}

const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, http::Request};
    use futures_util::{FutureExt as _, future};
    use http_body_util::BodyExt as _;
    use tower::service_fn;

    use super::*;
    use crate::{
        http::{RequestId, middleware::testing::PEER},
        telemetry::metrics::Metrics,
    };

    /// A log that counts and writes no lines.
    fn log() -> AccessLog {
        AccessLog { requests: Arc::default(), is_written: false, prefix: "".into() }
    }

    fn connection() -> Connection {
        Connection::new(Some(PEER), || {})
    }

    fn request(body: &'static str) -> Identified<Body> {
        let request = Request::builder().method("PUT").uri("/").body(Body::from(body)).unwrap();
        Identified { id: RequestId::new(), request }
    }

    /// The lines of the metrics that contain all of `words`.
    fn counted(log: &AccessLog, words: &[&str]) -> Vec<String> {
        let mut metrics = Metrics::default();
        log.requests.register(&mut metrics);
        let text = metrics.text();
        let holds = |line: &&str| words.iter().all(|word| line.contains(word));
        text.lines().filter(holds).map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn request_is_counted_when_its_response_is_sent() {
        let log = log();
        let inner = service_fn(async |call: Call| {
            assert_eq!(to_bytes(call.body, 100).await.unwrap(), "four");
            Ok(Response::new(Body::from("seven")))
        });
        let mut service = layer(&log, connection()).layer(inner);
        let response = service.call(request("four")).await.unwrap();
        let requests = ["requests_total", "code=\"200\"", "method=\"put\""];
        assert_eq!(counted(&log, &requests), Vec::<String>::new(), "the body is not sent yet");
        let mut body = response.into_body();
        while body.frame().await.is_some() {}
        assert_eq!((body.record.sent, body.record.head.handler()), (5, Some(Handler::Other)));
        drop(body);
        assert!(counted(&log, &requests).iter().any(|line| line.ends_with(" 1")));
        assert!(counted(&log, &["in_flight"]).iter().all(|line| !line.ends_with(" 1")));
    }

    #[test]
    fn client_that_disconnects_counts_as_499() {
        let log = log();
        let requests = Arc::clone(&log.requests);
        let inner = service_fn(move |call: Call| {
            call.head.begin(&requests, Handler::Blob);
            future::pending()
        });
        let mut service = layer(&log, connection()).layer(inner);
        let mut answer = Box::pin(service.call(request("")));
        assert!(answer.as_mut().now_or_never().is_none());
        assert!(counted(&log, &["in_flight"]).iter().any(|line| line.ends_with(" 1")));
        drop(answer);
        assert!(counted(&log, &["in_flight"]).iter().all(|line| !line.ends_with(" 1")));
        let gone = counted(&log, &["requests_total", "code=\"499\"", "method=\"put\""]);
        assert!(gone.iter().any(|line| line.ends_with(" 1")), "{gone:?}");
    }
}
