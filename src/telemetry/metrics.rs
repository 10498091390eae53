//! What is counted, in the form that Prometheus reads (`OpenMetrics` 1.0).
//!
//! Whoever counts keeps the number; it is read when somebody asks. No label comes from outside, so
//! that no client can make a series.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// What [`Metrics::text`] is, for `Content-Type`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of a server. Each name begins with `portcullis_`.
#[derive(Debug)]
pub struct Metrics(Registry);

impl Default for Metrics {
    fn default() -> Self {
        Self(Registry::with_prefix("portcullis"))
    }
}

impl Metrics {
    /// Adds a number that only grows. `name` is without `_total`.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.add(name, help, move || ConstCounter::new(read()));
    }

    /// Adds a number that comes and goes.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let signed = move || i64::try_from(read()).unwrap_or(i64::MAX);
        self.add(name, help, move || ConstGauge::new(signed()));
    }

    fn add<M: EncodeMetric>(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> M + Send + Sync + 'static,
    ) {
        self.0.register_collector(Box::new(Read { name, help, read }));
    }

    /// All of them, as they are now.
    #[must_use]
    pub fn text(&self) -> String {
        let mut written = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut written, &self.0);
        written
    }
}

/// A number that is read when it is asked for.
struct Read<F> {
    name: &'static str,
    help: &'static str,
    read: F,
}

impl<F> fmt::Debug for Read<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl<M: EncodeMetric, F: Fn() -> M + Send + Sync + 'static> Collector for Read<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metric = (self.read)();
        let kind = metric.metric_type();
        metric.encode(encoder.encode_descriptor(self.name, self.help, None, kind)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are_when_somebody_asks() {
        use std::sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        };
        let number = Arc::new(AtomicU64::new(1));
        let mut metrics = Metrics::default();
        let (first, second) = (Arc::clone(&number), Arc::clone(&number));
        metrics.counter("things", "Things that were", move || first.load(Ordering::Relaxed));
        metrics.gauge("here", "Things that are", move || second.load(Ordering::Relaxed));
        number.store(7, Ordering::Relaxed);
        assert_eq!(
            metrics.text(),
            "# HELP portcullis_things Things that were\n# TYPE portcullis_things counter\n\
             portcullis_things_total 7\n\
             # HELP portcullis_here Things that are\n# TYPE portcullis_here gauge\n\
             portcullis_here 7\n# EOF\n"
        );
    }
}
