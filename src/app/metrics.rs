//! The metrics: each part keeps its own numbers, and this module names them.

use std::{sync::Arc, time::SystemTime};

use jiff::Timestamp;

use crate::{
    gate::Gate,
    http::Api,
    notify::{self, Notifier},
    registry::{Registry, Runs},
    server::{Server, certificates::Resolver},
    storage::Storage,
    telemetry::{
        metrics::{Kind, Labels, Metrics},
        process,
    },
};

/// The parts that keep numbers.
pub(super) struct Counted<'a> {
    pub(super) server: &'a Server,
    pub(super) gate: &'a Arc<Gate>,
    pub(super) registry: &'a Registry,
    pub(super) notifier: &'a Notifier,
    pub(super) storage: &'a dyn Storage,
    pub(super) api: &'a Api,
    /// The certificates of the TLS listener; `None` without TLS.
    pub(super) certificates: Option<Arc<Resolver>>,
}

impl Counted<'_> {
    /// The metrics of all parts.
    pub(super) fn metrics(self) -> Metrics {
        let mut metrics = Metrics::default();
        version(&mut metrics);
        process::register(&mut metrics, SystemTime::now());
        connections(&mut metrics, self.server);
        if let Some(certificates) = self.certificates {
            expiry(&mut metrics, certificates);
        }
        callers(&mut metrics, self.gate);
        self.api.requests().register(&mut metrics);
        limits(&mut metrics, self.api);
        tree(&mut metrics, self.registry);
        maintenance(&mut metrics, self.registry);
        events(&mut metrics, self.notifier);
        if let Some(operations) = self.storage.operations() {
            operations.register(&mut metrics);
        }
        metrics
    }
}

fn version(metrics: &mut Metrics) {
    let help = "The running version; always 1";
    metrics.family("portcullis_build_info", help, Kind::Gauge, || {
        vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1)]
    });
}

fn connections(metrics: &mut Metrics, server: &Server) {
    let connections = server.count_connections();
    let [open, unauthenticated, limit, accepted, closed, refused, full] =
        std::array::from_fn(|_| connections.clone());
    metrics.gauge("connections", "Open connections", move || open().open as u64);
    let help = "Open connections on which no request was authenticated yet";
    metrics.gauge("connections_unauthenticated", help, move || {
        unauthenticated().unauthenticated as u64
    });
    let help = "The limit of open connections";
    metrics.gauge("connections_limit", help, move || limit().limit as u64);
    let help = "Accepted connections";
    metrics.counter("connections_accepted", help, move || accepted().accepted);
    let help = "Unauthenticated connections that were closed to make room";
    metrics.counter("connections_closed_for_room", help, move || closed().closed_for_room);
    let help = "Connections that were closed at once, since their address has all that it may have";
    metrics.counter("connections_refused", help, move || refused().refused);
    let help = "Clients that arrived at the connection limit";
    metrics.counter("connections_full", help, move || full().full);
}

/// The expiry of the certificate in force that expires first. Each scrape reads it, so that it follows a
/// reload.
fn expiry(metrics: &mut Metrics, certificates: Arc<Resolver>) {
    let again = Arc::clone(&certificates);
    let help = "When the certificate in force expires, in seconds since 1970";
    let name = "portcullis_certificate_not_after_timestamp_seconds";
    metrics.number(name, help, Kind::Gauge, move || {
        Some(again.not_after()?.as_duration().as_secs_f64())
    });
    let each = Arc::clone(&certificates);
    let help = "Time until the certificate in force expires, in seconds; negative afterwards";
    metrics.number("portcullis_certificate_expiry_seconds", help, Kind::Gauge, move || {
        Some(certificates.not_after()?.duration_since(Timestamp::now()).as_secs_f64())
    });
    let help =
        "Time until each certificate in force expires, by its first name; negative afterwards";
    metrics.numbers("portcullis_certificate_expires_seconds", help, move || {
        let now = Timestamp::now();
        let left = |(host, at): (String, Timestamp)| {
            (vec![("host", host)], at.duration_since(now).as_secs_f64())
        };
        each.expiries().into_iter().map(left).collect()
    });
}

fn callers(metrics: &mut Metrics, gate: &Arc<Gate>) {
    let outcomes = Arc::clone(gate);
    let help = "Requests that reached the gate, by outcome";
    metrics.family("portcullis_auth", help, Kind::Counter, move || {
        let labelled = |(name, number): (&str, _)| (vec![("outcome", name.to_owned())], number);
        outcomes.outcomes().map(labelled).collect()
    });
    let runs = Arc::clone(gate);
    let help = "Runs of bcrypt, for right and wrong passwords";
    metrics.counter("bcrypt_runs", help, move || runs.verifications());
    let denials = Arc::clone(gate.denials());
    let help = "Requests of callers with a name that the access rules denied, by action";
    metrics.family("portcullis_access_denied", help, Kind::Counter, move || {
        let labelled = |(action, number): (&str, _)| (vec![("action", action.to_owned())], number);
        denials.numbers().map(labelled).collect()
    });
    let tokens = Arc::clone(gate);
    let help = "Time until the next deploy token expires, in seconds";
    metrics.number("portcullis_token_expires_seconds", help, Kind::Gauge, move || {
        tokens.next_token_expiry().map(|seconds| seconds as f64)
    });
    let gate = Arc::clone(gate);
    let help = "Requests that wait for their turn of bcrypt or for its end";
    metrics.gauge("auth_waiting", help, move || gate.waiting() as u64);
}

/// What `http.limits` has done.
fn limits(metrics: &mut Metrics, api: &Api) {
    let [waiting, outcomes, bytes] = std::array::from_fn(|_| api.count_limited());
    let help = "Requests that wait because their caller sends more than it may";
    metrics.gauge("limited_waiting", help, move || waiting().waiting);
    let help = "Requests over the rate of their caller: delayed, or refused with 429";
    metrics.family("portcullis_limited_requests", help, Kind::Counter, move || {
        let counts = outcomes();
        let numbers = [("delayed", counts.delayed), ("refused", counts.refused)];
        let labelled =
            |(outcome, number): (&str, _)| (vec![("outcome", outcome.to_owned())], number);
        numbers.map(labelled).to_vec()
    });
    let help = "Bytes that were held back because their caller moves more than it may";
    metrics.counter("limited_bytes", help, move || bytes().held_back);
}

fn tree(metrics: &mut Metrics, registry: &Registry) {
    let uploads = registry.clone();
    let tree = registry.clone();
    let help = "Uploads that were begun and neither finished nor cancelled";
    metrics.gauge("uploads_open", help, move || uploads.uploads().open_count() as u64);
    let stored = registry.clone();
    let again = registry.clone();
    let help = "Bytes of all blobs after the last garbage collection of this process";
    metrics.family("portcullis_storage_blob_bytes", help, Kind::Gauge, move || {
        stored.gc().stored().map(|stored| (Vec::new(), stored.bytes)).into_iter().collect()
    });
    let help = "Bytes of the blobs that repositories refer to, after that collection";
    metrics.family("portcullis_storage_referenced_bytes", help, Kind::Gauge, move || {
        again.gc().stored().map(|stored| (Vec::new(), stored.referenced)).into_iter().collect()
    });
    let help = "How often requests met damaged or foreign entries in the storage tree";
    metrics.counter("storage_skipped", help, move || tree.skipped());
}

/// The tasks that maintain the registry, as labels name them.
const GARBAGE_COLLECTION: &str = "garbage_collection";
const RETENTION: &str = "retention";

/// The runs of garbage collection and retention, and what they deleted.
fn maintenance(metrics: &mut Metrics, registry: &Registry) {
    let runs = |registry: &Registry| {
        [(GARBAGE_COLLECTION, registry.gc().runs()), (RETENTION, registry.retention().runs())]
    };
    let task = |task: &str| ("task", task.to_owned());
    let of = registry.clone();
    let help = "Runs of garbage collection and retention, by outcome";
    metrics.family("portcullis_maintenance_runs", help, Kind::Counter, move || {
        let by_outcome = |(name, runs): (&str, Runs)| {
            let labels = |outcome: &str| vec![task(name), ("outcome", outcome.to_owned())];
            [(labels("success"), runs.succeeded), (labels("failure"), runs.failed)]
        };
        runs(&of).into_iter().flat_map(by_outcome).collect()
    });
    let of = registry.clone();
    let help = "Total time of the runs of garbage collection and retention, in seconds";
    metrics.seconds("portcullis_maintenance_run_seconds", help, move || {
        runs(&of).into_iter().map(|(name, runs)| (vec![task(name)], runs.duration)).collect()
    });
    let of = registry.clone();
    let help = "When the last successful run ended, in seconds since 1970";
    let name = "portcullis_maintenance_last_success_timestamp_seconds";
    metrics.family(name, help, Kind::Gauge, move || {
        let last = |(name, runs): (&str, Runs)| Some((vec![task(name)], runs.last_success?));
        runs(&of).into_iter().filter_map(last).collect()
    });
    let of = registry.clone();
    let help = "Manifests, links, blobs and tags that garbage collection and retention deleted";
    metrics.family("portcullis_maintenance_deleted", help, Kind::Counter, move || {
        let removed = of.gc().removed();
        let retained = of.retention().deleted();
        [
            (GARBAGE_COLLECTION, "manifest", removed.manifests),
            (GARBAGE_COLLECTION, "link", removed.links),
            (GARBAGE_COLLECTION, "blob", removed.blobs),
            (RETENTION, "tag", retained.deleted),
            (RETENTION, "manifest", retained.manifests),
        ]
        .into_iter()
        .map(|(name, kind, number)| (vec![task(name), ("kind", kind.to_owned())], number))
        .collect()
    });
    let of = registry.clone();
    let help = "Bytes of the blobs that garbage collection deleted";
    metrics.counter("maintenance_deleted_bytes", help, move || of.gc().removed().bytes);
}

/// The events and their deliveries. The names are registry:3's, but for the counts that it lacks.
fn events(metrics: &mut Metrics, notifier: &Notifier) {
    fn of(name: &str) -> (&'static str, String) {
        ("endpoint", name.to_owned())
    }
    let each = |values: fn(notify::Counts) -> Vec<(Labels, u64)>| {
        let notifier = notifier.clone();
        move || notifier.counts().into_iter().flat_map(values).collect()
    };
    metrics.family(
        "registry_notifications_events",
        "Queued events and attempts to deliver them, by result",
        Kind::Counter,
        each(|counts| {
            let numbers = [
                ("Events", counts.events),
                ("Successes", counts.successes),
                ("Failures", counts.failures),
                ("Errors", counts.errors),
            ];
            let labelled = |(kind, number): (&str, u64)| {
                (vec![("type", kind.to_owned()), of(&counts.name)], number)
            };
            numbers.map(labelled).to_vec()
        }),
    );
    metrics.family(
        "registry_notifications_pending_total",
        "Events that wait for an endpoint",
        Kind::Gauge,
        each(|counts| vec![(vec![of(&counts.name)], counts.pending)]),
    );
    metrics.family(
        "registry_notifications_status",
        "Responses of endpoints, by status",
        Kind::Counter,
        each(|counts| {
            let labelled = |(code, number)| (vec![("code", code), of(&counts.name)], number);
            counts.statuses.into_iter().map(labelled).collect()
        }),
    );
    metrics.family(
        "portcullis_notifications_dropped",
        "Events that found no place in a queue",
        Kind::Counter,
        each(|counts| vec![(vec![of(&counts.name)], counts.dropped)]),
    );
}
