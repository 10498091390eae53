//! Requests, counted by what they asked for and what became of them.
//!
//! A request costs some atomic additions here and no lock. No label comes from a client: a method or
//! a status that is not known here counts as `other`.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{
    histogram::{BYTES, DURATIONS, Histogram, SECONDS, SIZES},
    metrics::{Kind, Labels, Metrics},
};

/// What is asked for, by the names that registry:2 gives its handlers; the last three are ours.
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
    /// Whatever is none of these, and who is not let in.
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

/// Stands for the codes that are not listed.
const OTHER: u16 = 0;

/// All requests of a server.
#[derive(Debug)]
pub struct Requests {
    of: Vec<OfHandler>,
}

#[derive(Debug)]
struct OfHandler {
    name: &'static str,
    in_flight: AtomicU64,
    received: Histogram,
    sent: Histogram,
    methods: Vec<OfMethod>,
}

#[derive(Debug)]
struct OfMethod {
    name: &'static str,
    durations: Histogram,
    codes: [AtomicU64; CODES.len()],
}

/// A request that is over.
#[derive(Clone, Copy, Debug)]
pub struct Finished<'a> {
    /// What it asked for.
    pub handler: Handler,
    /// Its method.
    pub method: &'a str,
    /// The status of its response.
    pub status: u16,
    /// How many bytes of its body came.
    pub received: u64,
    /// How many bytes of the response's body left.
    pub sent: u64,
    /// How long it took until they had.
    pub duration: Duration,
}

impl Default for Requests {
    fn default() -> Self {
        let method = |name| OfMethod {
            name,
            durations: Histogram::new(DURATIONS),
            codes: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        let handler = |(_, name)| OfHandler {
            name,
            in_flight: AtomicU64::new(0),
            received: Histogram::new(SIZES),
            sent: Histogram::new(SIZES),
            methods: METHODS.into_iter().map(method).collect(),
        };
        Self { of: HANDLERS.into_iter().map(handler).collect() }
    }
}

impl Requests {
    /// Counts a request that begins to be answered, until it has [`ended`](Self::ended).
    pub fn begun(&self, handler: Handler) {
        self.of[handler as usize].in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// No longer counts one that had begun: its response has left, or its client has.
    pub fn ended(&self, handler: Handler) {
        self.of[handler as usize].in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts one that was answered.
    pub fn finished(&self, request: &Finished<'_>) {
        let of = &self.of[request.handler as usize];
        of.received.note(request.received);
        of.sent.note(request.sent);
        let is_method = |name: &&str| request.method.eq_ignore_ascii_case(name);
        let method = METHODS.iter().position(is_method).unwrap_or(METHODS.len() - 1);
        let method = &of.methods[method];
        method.durations.note_duration(request.duration);
        let code = CODES.iter().position(|code| *code == request.status);
        method.codes[code.unwrap_or(CODES.len() - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// Adds all of it to what is served, under registry:2's names.
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
            "Requests that are being received or answered",
            Kind::Gauge,
            move || {
                let number = |of: &OfHandler| of.in_flight.load(Ordering::Relaxed);
                requests.of.iter().map(|of| (of.labels(), number(of))).collect()
            },
        );
        let requests = std::sync::Arc::clone(self);
        metrics.histograms(
            "registry_http_request_duration_seconds",
            "How long requests took, with their bodies",
            move || {
                let each = |of| {
                    methods(of).filter_map(|(labels, method)| {
                        Some((labels, method.durations.snapshot(SECONDS)?))
                    })
                };
                requests.of.iter().flat_map(each).collect()
            },
        );
        let requests = std::sync::Arc::clone(self);
        metrics.histograms(
            "registry_http_request_size_bytes",
            "How long the bodies of requests were",
            move || {
                let each = |of: &OfHandler| Some((of.labels(), of.received.snapshot(BYTES)?));
                requests.of.iter().filter_map(each).collect()
            },
        );
        let requests = std::sync::Arc::clone(self);
        metrics.histograms(
            "registry_http_response_size_bytes",
            "How long the bodies of responses were",
            move || {
                let each = |of: &OfHandler| Some((of.labels(), of.sent.snapshot(BYTES)?));
                requests.of.iter().filter_map(each).collect()
            },
        );
    }

    fn codes(&self) -> Vec<(Labels, u64)> {
        let each = |(labels, method): (Labels, &OfMethod)| {
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
        self.of.iter().flat_map(methods).flat_map(each).collect()
    }
}

impl OfHandler {
    fn labels(&self) -> Labels {
        vec![("handler", self.name.to_owned())]
    }
}

/// The methods of a handler with their labels.
fn methods(of: &OfHandler) -> impl Iterator<Item = (Labels, &OfMethod)> {
    of.methods.iter().map(|method| {
        (vec![("handler", of.name.to_owned()), ("method", method.name.to_owned())], method)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn requests_are_counted_by_what_they_are_and_strange_ones_make_no_series() {
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
            requests.begun(Handler::Manifest);
            requests.finished(&finished);
            requests.ended(Handler::Manifest);
        };
        end(finished);
        end(finished);
        end(Finished { method: "BREW", status: 418, ..finished });
        requests.begun(Handler::Blob);
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
