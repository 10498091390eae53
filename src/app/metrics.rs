//! The metrics: each part keeps its own numbers, and here they get their names.

use std::{sync::Arc, time::SystemTime};

use jiff::Timestamp;

use crate::{
    gate::Gate,
    notify::{self, Notifier},
    registry::Registry,
    server::{Server, certificates::Resolver},
    storage::Storage,
    telemetry::{
        metrics::{Kind, Labels, Metrics},
        process,
        requests::Requests,
    },
};

/// The parts that count.
pub(super) struct Counted<'a> {
    pub(super) server: &'a Server,
    pub(super) gate: &'a Arc<Gate>,
    pub(super) registry: &'a Registry,
    pub(super) notifier: &'a Notifier,
    pub(super) storage: &'a dyn Storage,
    pub(super) requests: &'a Arc<Requests>,
    /// Where there is TLS.
    pub(super) certificate: Option<Arc<Resolver>>,
}

impl Counted<'_> {
    /// All that they count.
    pub(super) fn metrics(self) -> Metrics {
        let mut metrics = Metrics::default();
        version(&mut metrics);
        process::register(&mut metrics, SystemTime::now());
        connections(&mut metrics, self.server);
        if let Some(certificate) = self.certificate {
            expiry(&mut metrics, certificate);
        }
        callers(&mut metrics, self.gate);
        self.requests.register(&mut metrics);
        tree(&mut metrics, self.registry);
        events(&mut metrics, self.notifier);
        if let Some(operations) = self.storage.operations() {
            operations.register(&mut metrics);
        }
        metrics
    }
}

fn version(metrics: &mut Metrics) {
    let help = "The version that runs; always 1";
    metrics.family("portcullis_build_info", help, Kind::Gauge, || {
        vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1)]
    });
}

fn connections(metrics: &mut Metrics, server: &Server) {
    let connections = server.count_connections();
    let [open, unauthenticated, limit, accepted, closed, full] =
        std::array::from_fn(|_| connections.clone());
    metrics.gauge("connections", "Connections that are open", move || open().open as u64);
    let help = "Connections that are open and on which no request was let in yet";
    metrics.gauge("connections_unauthenticated", help, move || {
        unauthenticated().unauthenticated as u64
    });
    let help = "Connections that may be open at a time";
    metrics.gauge("connections_limit", help, move || limit().limit as u64);
    let help = "Connections that were accepted";
    metrics.counter("connections_accepted", help, move || accepted().accepted);
    let help = "Connections without a request that was let in that were closed to make room";
    metrics.counter("connections_closed_for_room", help, move || closed().closed_for_room);
    let help = "Times that a client came when as many connections were open as may be";
    metrics.counter("connections_full", help, move || full().full);
}

/// The end of the certificate in force, looked up at each scrape, so that it follows a reload.
fn expiry(metrics: &mut Metrics, certificate: Arc<Resolver>) {
    let again = Arc::clone(&certificate);
    let help = "When the certificate in force ends, in seconds since 1970";
    let name = "portcullis_certificate_not_after_timestamp_seconds";
    metrics.number(name, help, Kind::Gauge, move || {
        Some(again.not_after()?.as_duration().as_secs_f64())
    });
    let help =
        "For how long the certificate in force is still valid; less than nothing when it is not";
    metrics.number("portcullis_certificate_expiry_seconds", help, Kind::Gauge, move || {
        Some(certificate.not_after()?.duration_since(Timestamp::now()).as_secs_f64())
    });
}

fn callers(metrics: &mut Metrics, gate: &Arc<Gate>) {
    let outcomes = Arc::clone(gate);
    let help = "Requests that came to the gate, by what became of them";
    metrics.family("portcullis_auth", help, Kind::Counter, move || {
        let labelled = |(name, number): (&str, _)| (vec![("outcome", name.to_owned())], number);
        outcomes.outcomes().map(labelled).collect()
    });
    let runs = Arc::clone(gate);
    let help = "Times that bcrypt ran, for right passwords and wrong ones";
    metrics.counter("bcrypt_runs", help, move || runs.verifications());
    let gate = Arc::clone(gate);
    let help = "Requests that wait for bcrypt, for their turn or for its end";
    metrics.gauge("auth_waiting", help, move || gate.waiting() as u64);
}

fn tree(metrics: &mut Metrics, registry: &Registry) {
    let uploads = registry.clone();
    let tree = registry.clone();
    let help = "Uploads that were begun and not finished or cancelled";
    metrics.gauge("uploads_open", help, move || uploads.uploads().open_count() as u64);
    let help = "Times that something damaged or foreign in the storage tree was skipped";
    metrics.counter("storage_skipped", help, move || tree.skipped());
}

/// What became of events. The names are registry:3's, but for what it does not count.
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
        "Events by what became of them",
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
        "Answers of endpoints by their status",
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
