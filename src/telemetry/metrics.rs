//! What is counted, in the form that Prometheus reads (`OpenMetrics` 1.0).
//!
//! Whoever counts keeps the number; it is read when somebody asks. No label comes from a client, so
//! that none can make a series.

use std::{fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::histogram::Snapshot;

/// What [`Metrics::text`] is, for `Content-Type`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the names of the metrics that are only ours begin with.
const OURS: &str = "portcullis";

/// The metrics of a server.
#[derive(Debug, Default)]
pub struct Metrics(Registry);

/// What tells one number of a family from the others: names with values.
pub type Labels = Vec<(&'static str, String)>;

/// How the numbers of a family change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They only grow.
    Counter,
    /// They come and go.
    Gauge,
}

impl From<Kind> for MetricType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter,
            Kind::Gauge => Self::Gauge,
        }
    }
}

impl Metrics {
    /// Adds a number that only grows. `name` is without `portcullis_` and `_total`.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.add(name, help, move || ConstCounter::new(read()));
    }

    /// Adds a number that comes and goes. `name` is without `portcullis_`.
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
        let ours = self.0.sub_registry_with_prefix(OURS);
        ours.register_collector(Box::new(Read { name, help, read }));
    }

    /// Adds a number under a name that is whole but for the `_total` of a counter; `None` when there
    /// is none at the moment.
    pub fn number(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        self.0.register_collector(Box::new(Number { read: Read { name, help, read }, kind }));
    }

    /// Adds numbers of one name that labels tell apart, under a name that is whole but for the
    /// `_total` of counters: some are known by those that registry:2 gave them.
    pub fn family(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        read: impl Fn() -> Vec<(Labels, u64)> + Send + Sync + 'static,
    ) {
        self.0.register_collector(Box::new(Family { read: Read { name, help, read }, kind }));
    }

    /// Adds counters of seconds of one name, which is whole but for its `_total`, that labels tell
    /// apart.
    pub fn seconds(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Vec<(Labels, Duration)> + Send + Sync + 'static,
    ) {
        self.0.register_collector(Box::new(Seconds(Read { name, help, read })));
    }

    /// Adds histograms of one name, which is whole, that labels tell apart.
    pub fn histograms(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Vec<(Labels, Snapshot)> + Send + Sync + 'static,
    ) {
        self.0.register_collector(Box::new(Histograms(Read { name, help, read })));
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

/// A number that is read when it is asked for, if there is one.
struct Number<F> {
    read: Read<F>,
    kind: Kind,
}

impl<F> fmt::Debug for Number<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read.fmt(f)
    }
}

impl<F: Fn() -> Option<f64> + Send + Sync + 'static> Collector for Number<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Read { name, help, read } = &self.read;
        let Some(number) = read() else { return Ok(()) };
        let encoder = encoder.encode_descriptor(name, help, None, self.kind.into())?;
        match self.kind {
            Kind::Counter => ConstCounter::new(number).encode(encoder),
            Kind::Gauge => ConstGauge::new(number).encode(encoder),
        }
    }
}

/// Numbers that are read when they are asked for.
struct Family<F> {
    read: Read<F>,
    kind: Kind,
}

impl<F> fmt::Debug for Family<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read.fmt(f)
    }
}

impl<F: Fn() -> Vec<(Labels, u64)> + Send + Sync + 'static> Collector for Family<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Read { name, help, read } = &self.read;
        let mut family = encoder.encode_descriptor(name, help, None, self.kind.into())?;
        for (labels, number) in read() {
            let encoder = family.encode_family(&labels)?;
            match self.kind {
                Kind::Counter => ConstCounter::new(number).encode(encoder)?,
                Kind::Gauge => {
                    ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX)).encode(encoder)?;
                }
            }
        }
        Ok(())
    }
}

/// Times that are read when they are asked for.
struct Seconds<F>(Read<F>);

impl<F> fmt::Debug for Seconds<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<F: Fn() -> Vec<(Labels, Duration)> + Send + Sync + 'static> Collector for Seconds<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Read { name, help, read } = &self.0;
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, time) in read() {
            let encoder = family.encode_family(&labels)?;
            ConstCounter::new(time.as_secs_f64()).encode(encoder)?;
        }
        Ok(())
    }
}

/// Histograms that are read when they are asked for.
struct Histograms<F>(Read<F>);

impl<F> fmt::Debug for Histograms<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<F: Fn() -> Vec<(Labels, Snapshot)> + Send + Sync + 'static> Collector for Histograms<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Read { name, help, read } = &self.0;
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, Snapshot { buckets, count, sum }) in read() {
            let mut encoder = family.encode_family(&labels)?;
            encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_its_own_name_and_a_line_for_each_of_its_labels() {
        let mut metrics = Metrics::default();
        let labels = |kind: &str| vec![("type", kind.to_owned()), ("of", "a\"b".to_owned())];
        let numbers = move || vec![(labels("x"), 1), (labels("y"), 2)];
        metrics.family("things", "Things by type", Kind::Counter, numbers);
        metrics.family("waiting_total", "Things that wait", Kind::Gauge, || {
            vec![(vec![("of", "a".to_owned())], 3)]
        });
        assert_eq!(
            metrics.text(),
            "# HELP things Things by type\n# TYPE things counter\n\
             things_total{type=\"x\",of=\"a\\\"b\"} 1\n\
             things_total{type=\"y\",of=\"a\\\"b\"} 2\n\
             # HELP waiting_total Things that wait\n# TYPE waiting_total gauge\n\
             waiting_total{of=\"a\"} 3\n# EOF\n"
        );
    }

    #[test]
    fn a_number_that_there_is_not_leaves_no_line() {
        let mut metrics = Metrics::default();
        metrics.number("none_seconds", "Not there", Kind::Gauge, || None);
        metrics.number("left_seconds", "Left", Kind::Gauge, || Some(-1.5));
        metrics.number("used_seconds", "Used", Kind::Counter, || Some(2.0));
        assert_eq!(
            metrics.text(),
            "# HELP left_seconds Left\n# TYPE left_seconds gauge\nleft_seconds -1.5\n\
             # HELP used_seconds Used\n# TYPE used_seconds counter\nused_seconds_total 2.0\n# EOF\n"
        );
    }

    #[test]
    fn numbers_are_written_as_they_are_when_somebody_asks() {
        use std::sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        };
        let number = Arc::new(AtomicU64::new(1));
        let mut metrics = Metrics::default();
        let first = Arc::clone(&number);
        let second = Arc::clone(&number);
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
