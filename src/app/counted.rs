//! What is counted, and by whom: each part keeps its own numbers, and here they get their names.

use std::{sync::Arc, time::SystemTime};

use jiff::Timestamp;

use crate::{
    gate::Gate,
    registry::Registry,
    server::{Server, certificates::Resolver},
    storage::Storage,
    telemetry::{
        metrics::{Kind, Metrics},
        process,
        requests::Requests,
    },
};

/// The parts that count.
pub(super) struct Counted<'a> {
    pub(super) server: &'a Server,
    pub(super) gate: &'a Arc<Gate>,
    pub(super) registry: &'a Registry,
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
        if let Some(operations) = self.storage.operations() {
            operations.register(&mut metrics);
        }
        metrics
    }
}

fn version(metrics: &mut Metrics) {
    let help = "The version that runs; always 1";
    metrics.family(("portcullis_build_info", help), Kind::Gauge, || {
        vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1)]
    });
}

fn connections(metrics: &mut Metrics, server: &Server) {
    let connections = server.count_connections();
    let (open, limit, accepted, full) =
        (connections.clone(), connections.clone(), connections.clone(), connections);
    metrics.gauge("connections", "Connections that are open", move || open().open as u64);
    let help = "Connections that may be open at a time";
    metrics.gauge("connections_limit", help, move || limit().limit as u64);
    let help = "Connections that were accepted";
    metrics.counter("connections_accepted", help, move || accepted().accepted);
    let help = "Times that clients had to wait for a connection to end";
    metrics.counter("connections_full", help, move || full().full);
}

/// The end of the certificate in force. It is looked up when somebody asks: so it follows a reload.
fn expiry(metrics: &mut Metrics, certificate: Arc<Resolver>) {
    let again = Arc::clone(&certificate);
    let help = "When the certificate in force ends, in seconds since 1970";
    let name = "portcullis_certificate_not_after_timestamp_seconds";
    metrics.number((name, help), Kind::Gauge, move || {
        Some(again.not_after()?.as_duration().as_secs_f64())
    });
    let help =
        "For how long the certificate in force is still valid; less than nothing when it is not";
    metrics.number(("portcullis_certificate_expiry_seconds", help), Kind::Gauge, move || {
        Some(certificate.not_after()?.duration_since(Timestamp::now()).as_secs_f64())
    });
}

fn callers(metrics: &mut Metrics, gate: &Arc<Gate>) {
    let outcomes = Arc::clone(gate);
    let help = "Requests that came to the gate, by what became of them";
    metrics.family(("portcullis_auth", help), Kind::Counter, move || {
        let labelled = |(name, number): (&str, _)| (vec![("outcome", name.to_owned())], number);
        outcomes.outcomes().map(labelled).collect()
    });
    let runs = Arc::clone(gate);
    let help = "Times that bcrypt ran, for right passwords and wrong ones";
    metrics.counter("bcrypt_runs", help, move || runs.verifications());
}

fn tree(metrics: &mut Metrics, registry: &Registry) {
    let (uploads, tree) = (registry.clone(), registry.clone());
    let help = "Uploads that were begun and not finished or cancelled";
    metrics.gauge("uploads_open", help, move || uploads.open_uploads() as u64);
    let help = "Times that something damaged or foreign in the storage tree was skipped";
    metrics.counter("storage_skipped", help, move || tree.skipped());
}
