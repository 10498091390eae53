//! The metrics in the format that Prometheus scrapes (`OpenMetrics` 1.0).
//!
//! Each part of the server keeps its own numbers, and a scrape reads them. No label comes from a
//! client, so that no client can create a series.

use std::{fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::histogram::Snapshot;

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The prefix of the names of our own metrics.
const PREFIX: &str = "portcullis";

/// The metrics of a server.
#[derive(Debug, Default)]
pub struct Metrics(Registry);

/// The labels of one series of a metric: names with values.
pub type Labels = Vec<(&'static str, String)>;

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only increases.
    Counter,
    /// A number that increases and decreases.
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
    /// Adds a counter. `name` omits `portcullis_` and `_total`.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.add(name, help, move || ConstCounter::new(read()));
    }

    /// Adds a gauge. `name` omits `portcullis_`.
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
        let ours = self.0.sub_registry_with_prefix(PREFIX);
        ours.register_collector(Box::new(Read { name, help, read }));
    }

    /// Adds a metric without labels, which is absent while `read` returns `None`. `name` omits only
    /// the `_total` of a counter.
    pub fn number(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        self.0.register_collector(Box::new(Number { read: Read { name, help, read }, kind }));
    }

    /// Adds a metric with labels. `name` omits only the `_total` of a counter, since some metrics have
    /// registry:2's names.
    pub fn family(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        read: impl Fn() -> Vec<(Labels, u64)> + Send + Sync + 'static,
    ) {
        self.0.register_collector(Box::new(Family { read: Read { name, help, read }, kind }));
    }

    /// Adds a gauge with labels whose numbers may be negative or have fractions. `name` is the whole name.
    pub fn numbers(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Vec<(Labels, f64)> + Send + Sync + 'static,
    ) {
        self.0.register_collector(Box::new(Numbers(Read { name, help, read })));
    }

    /// Adds a counter of seconds with labels. `name` omits only `_total`.
    pub fn seconds(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Vec<(Labels, Duration)> + Send + Sync + 'static,
    ) {
        self.0.register_collector(Box::new(Seconds(Read { name, help, read })));
    }

    /// Adds a histogram with labels. `name` is the whole name.
    pub fn histograms(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Vec<(Labels, Snapshot)> + Send + Sync + 'static,
    ) {
        self.0.register_collector(Box::new(Histograms(Read { name, help, read })));
    }

    /// The present values of all metrics.
    #[must_use]
    pub fn text(&self) -> String {
        let mut written = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut written, &self.0);
        written
    }
}

/// A metric that is read at each scrape.
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

/// A metric without labels that may be absent.
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

/// A metric with labels.
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

/// A counter of seconds with labels.
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

/// A gauge with labels whose numbers have fractions.
struct Numbers<F>(Read<F>);

impl<F> fmt::Debug for Numbers<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<F: Fn() -> Vec<(Labels, f64)> + Send + Sync + 'static> Collector for Numbers<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Read { name, help, read } = &self.0;
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, number) in read() {
            ConstGauge::new(number).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// A histogram with labels.
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
    fn family_has_its_own_name_and_a_line_for_each_of_its_labels() {
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
    fn number_with_labels_may_be_negative() {
        let mut metrics = Metrics::default();
        let numbers = || vec![(vec![("host", "a.example".to_owned())], -1.5)];
        metrics.numbers("left_seconds", "Left", numbers);
        assert_eq!(
            metrics.text(),
            "# HELP left_seconds Left\n# TYPE left_seconds gauge\n\
             left_seconds{host=\"a.example\"} -1.5\n# EOF\n"
        );
    }

    #[test]
    fn absent_metric_has_no_line() {
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
    fn scrape_reads_the_present_numbers() {
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
