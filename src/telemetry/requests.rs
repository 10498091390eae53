//! The metrics of requests, by handler, method and status.
//!
//! A request costs some atomic additions and no lock. No label comes from a client: a method or
//! a status that is not listed here counts as `other`.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{
    histogram::{BYTES, DURATIONS, Histogram, SECONDS, SIZES},
    metrics::{Kind, Labels, Metrics},
};

/// The handler of a request, by registry:2's names. `Referrers`, `Repository`, `Search` and `Other`
/// are ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handler {
    /// `/v2/`
    Base,
    /// Manifests.
    Manifest,
    /// Lists of tags.
    Tags,
    /// Blobs.
    Blob,
    /// The beginning of an upload.
    BlobUpload,
    /// An upload.
    BlobUploadChunk,
    /// The catalog.
    Catalog,
    /// Lists of referrers.
    Referrers,
    /// Repositories as a whole.
    Repository,
    /// Search.
    Search,
    /// All other requests, and those of unauthenticated callers.
    #[default]
    Other,
}

const HANDLERS: [(Handler, &str); 11] = [
    (Handler::Base, "base"),
    (Handler::Manifest, "manifest"),
    (Handler::Tags, "tags"),
    (Handler::Blob, "blob"),
    (Handler::BlobUpload, "blob_upload"),
    (Handler::BlobUploadChunk, "blob_upload_chunk"),
    (Handler::Catalog, "catalog"),
    (Handler::Referrers, "referrers"),
    (Handler::Repository, "repository"),
    (Handler::Search, "search"),
    (Handler::Other, "other"),
];

const METHODS: [&str; 8] = ["get", "head", "post", "put", "patch", "delete", "options", "other"];

const CODES: [u16; 24] = [
    200, 201, 202, 204, 206, 301, 304, 400, 401, 403, 404, 405, 408, 409, 413, 414, 416, 429, 431,
    499, 500, 503, 507, OTHER,
];

/// The entry of [`CODES`] for all codes that it does not list.
const OTHER: u16 = 0;

/// The counts of a server's requests.
#[derive(Debug)]
pub struct Requests {
    handlers: Vec<HandlerCounts>,
}

#[derive(Debug)]
struct HandlerCounts {
    name: &'static str,
    in_flight: AtomicU64,
    received: Histogram,
    sent: Histogram,
    methods: Vec<MethodCounts>,
}

#[derive(Debug)]
struct MethodCounts {
    name: &'static str,
    durations: Histogram,
    codes: [AtomicU64; CODES.len()],
}

/// A request whose response is sent, or whose client has disconnected.
#[derive(Clone, Copy, Debug)]
pub struct Finished<'a> {
    /// The handler.
    pub handler: Handler,
    /// The method.
    pub method: &'a str,
    /// The status of the response.
    pub status: u16,
    /// The number of received bytes of the request's body.
    pub received: u64,
    /// The number of sent bytes of the response's body.
    pub sent: u64,
    /// The time from the head of the request to the end of the response.
    pub duration: Duration,
}

impl Default for Requests {
    fn default() -> Self {
        let method = |name| MethodCounts {
            name,
            durations: Histogram::new(DURATIONS),
            codes: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        let handler = |(_, name)| HandlerCounts {
            name,
            in_flight: AtomicU64::new(0),
            received: Histogram::new(SIZES),
            sent: Histogram::new(SIZES),
            methods: METHODS.into_iter().map(method).collect(),
        };
        Self { handlers: HANDLERS.into_iter().map(handler).collect() }
    }
}

impl Requests {
    /// Counts a request as in flight, until [`end`](Self::end).
    pub fn begin(&self, handler: Handler) {
        self.handlers[handler as usize].in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the count of a request as in flight.
    pub fn end(&self, handler: Handler) {
        self.handlers[handler as usize].in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a finished request.
    pub fn count(&self, request: &Finished<'_>) {
        let handler = &self.handlers[request.handler as usize];
        handler.received.observe(request.received);
        handler.sent.observe(request.sent);
        let is_method = |name: &&str| request.method.eq_ignore_ascii_case(name);
        let method = METHODS.iter().position(is_method).unwrap_or(METHODS.len() - 1);
        let method = &handler.methods[method];
        method.durations.observe_duration(request.duration);
        let code = CODES.iter().position(|code| *code == request.status);
        method.codes[code.unwrap_or(CODES.len() - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// Adds the counts to the served metrics, under registry:2's names.
    pub fn register(self: &std::sync::Arc<Self>, metrics: &mut Metrics) {
        let requests = std::sync::Arc::clone(self);
        metrics.family(
            "registry_http_requests",
            "Requests by handler, method and status",
            Kind::Counter,
            move || requests.codes(),
        );
        let requests = std::sync::Arc::clone(self);
        metrics.family(
            "registry_http_in_flight_requests",
            "Authorised requests that are being received or answered",
            Kind::Gauge,
            move || {
                let each = |handler: &HandlerCounts| {
                    (handler.labels(), handler.in_flight.load(Ordering::Relaxed))
                };
                requests.handlers.iter().map(each).collect()
            },
        );
        let requests = std::sync::Arc::clone(self);
        metrics.histograms(
            "registry_http_request_duration_seconds",
            "Duration of requests, including the transfer of both bodies",
            move || {
                let each = |handler| {
                    methods(handler).filter_map(|(labels, method)| {
                        Some((labels, method.durations.snapshot(SECONDS)?))
                    })
                };
                requests.handlers.iter().flat_map(each).collect()
            },
        );
        let requests = std::sync::Arc::clone(self);
        metrics.histograms(
            "registry_http_request_size_bytes",
            "Lengths of the received bodies of requests",
            move || {
                let each = |handler: &HandlerCounts| {
                    Some((handler.labels(), handler.received.snapshot(BYTES)?))
                };
                requests.handlers.iter().filter_map(each).collect()
            },
        );
        let requests = std::sync::Arc::clone(self);
        metrics.histograms(
            "registry_http_response_size_bytes",
            "Lengths of the sent bodies of responses",
            move || {
                let each = |handler: &HandlerCounts| {
                    Some((handler.labels(), handler.sent.snapshot(BYTES)?))
                };
                requests.handlers.iter().filter_map(each).collect()
            },
        );
    }

    fn codes(&self) -> Vec<(Labels, u64)> {
        let each = |(labels, method): (Labels, &MethodCounts)| {
            let known = CODES.iter().zip(&method.codes);
            let numbers = known.map(|(code, number)| (*code, number.load(Ordering::Relaxed)));
            let numbers = numbers.filter(|(_, number)| *number > 0);
            numbers
                .map(|(code, number)| {
                    let code = if code == OTHER { "other".to_owned() } else { code.to_string() };
                    ([vec![("code", code)], labels.clone()].concat(), number)
                })
                .collect::<Vec<_>>()
        };
        self.handlers.iter().flat_map(methods).flat_map(each).collect()
    }
}

impl HandlerCounts {
    fn labels(&self) -> Labels {
        vec![("handler", self.name.to_owned())]
    }
}

/// The methods of a handler with their labels.
fn methods(handler: &HandlerCounts) -> impl Iterator<Item = (Labels, &MethodCounts)> {
    handler.methods.iter().map(|method| {
        (vec![("handler", handler.name.to_owned()), ("method", method.name.to_owned())], method)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn unknown_method_or_status_counts_as_other() {
        for (index, (handler, _)) in HANDLERS.into_iter().enumerate() {
            assert_eq!(handler as usize, index);
        }
        let requests = Arc::new(Requests::default());
        let finished = Finished {
            handler: Handler::Manifest,
            method: "GET",
            status: 200,
            received: 0,
            sent: 2000,
            duration: Duration::from_millis(7),
        };
        let end = |finished| {
            requests.begin(Handler::Manifest);
            requests.count(&finished);
            requests.end(Handler::Manifest);
        };
        end(finished);
        end(finished);
        end(Finished { method: "BREW", status: 418, ..finished });
        requests.begin(Handler::Blob);
        let mut metrics = Metrics::default();
        requests.register(&mut metrics);
        let text = metrics.text();
        for line in [
            "registry_http_requests_total{code=\"200\",handler=\"manifest\",method=\"get\"} 2",
            "registry_http_requests_total{code=\"other\",handler=\"manifest\",method=\"other\"} 1",
            "registry_http_in_flight_requests{handler=\"blob\"} 1",
            "registry_http_in_flight_requests{handler=\"manifest\"} 0",
            "registry_http_request_duration_seconds_count{handler=\"manifest\",method=\"get\"} 2",
            "registry_http_request_duration_seconds_bucket\
             {le=\"0.005\",handler=\"manifest\",method=\"get\"} 0",
            "registry_http_request_duration_seconds_bucket\
             {le=\"0.01\",handler=\"manifest\",method=\"get\"} 2",
            "registry_http_response_size_bytes_sum{handler=\"manifest\"} 6000.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing: {text}");
        }
        assert!(!text.contains("BREW") && !text.contains("\"418\""), "{text}");
    }
}
