//! The counts of a run.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Mutex,
    time::{Duration, Instant},
};

/// The counts of a run.
#[derive(Debug)]
pub(crate) struct Tally {
    started: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// The number of responses for each kind and status.
    requests: BTreeMap<(&'static str, u16), u64>,
    sent: u64,
    received: u64,
    connections: u64,
    changes: BTreeMap<&'static str, Change>,
}

/// The changes of one kind.
#[derive(Debug, Default)]
struct Change {
    made: u64,
    longest: Duration,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), counts: Mutex::default() }
    }

    /// Counts a request and the bytes of its bodies.
    pub(crate) fn answered(&self, kind: &'static str, status: u16, sent: usize, received: usize) {
        let mut counts = self.counts.lock().unwrap();
        *counts.requests.entry((kind, status)).or_default() += 1;
        counts.sent += sent as u64;
        counts.received += received as u64;
    }

    /// Counts a client that begins without connections.
    pub(crate) fn began(&self) {
        self.counts.lock().unwrap().connections += 1;
    }

    /// Counts a change with the time until it was seen in force.
    pub(crate) fn changed(&self, kind: &'static str, took: Duration) {
        let mut counts = self.counts.lock().unwrap();
        let change = counts.changes.entry(kind).or_default();
        change.made += 1;
        change.longest = change.longest.max(took);
    }

    /// The number of changes of a kind.
    pub(crate) fn changes(&self, kind: &str) -> u64 {
        self.counts.lock().unwrap().changes.get(kind).map_or(0, |change| change.made)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts.lock().unwrap();
        let seconds = self.started.elapsed().as_secs_f64();
        let all: u64 = counts.requests.values().sum();
        writeln!(f, "{:<26}{:>7}{:>10}{:>9}", "requests", "status", "answered", "a second")?;
        for ((kind, status), answered) in &counts.requests {
            let rate = *answered as f64 / seconds;
            writeln!(f, "  {kind:<24}{status:>7}{answered:>10}{rate:>9.1}")?;
        }
        writeln!(f, "  {:<24}{:>7}{all:>10}{:>9.1}", "all", "", all as f64 / seconds)?;
        for (what, bytes) in [("sent, but for streams", counts.sent), ("received", counts.received)]
        {
            let mib = bytes as f64 / f64::from(1 << 20);
            writeln!(f, "{what}: {mib:.0} MiB, {:.1} MiB/s", mib / seconds)?;
        }
        writeln!(f, "clients that began without a connection: {}", counts.connections)?;
        for (kind, Change { made, longest }) in &counts.changes {
            writeln!(f, "{kind}: {made}, in force after {} ms at most", longest.as_millis())?;
        }
        write!(f, "in {seconds:.0} s")
    }
}
