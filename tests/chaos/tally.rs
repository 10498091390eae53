//! The counts of a run.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    StartUpload,
    Patch,
    Finish,
    Monolithic,
    Mount,
    Status,
    Cancel,
    PutManifest,
    DeleteTag,
    DeleteManifest,
    DeleteBlob,
    DeleteRepository,
    Read,
    List,
}

impl Kind {
    /// The kinds that are a sequence of writes: kills are aimed at these.
    pub(crate) const AIMED: [Self; 10] = [
        Self::Finish,
        Self::Finish,
        Self::Monolithic,
        Self::Mount,
        Self::PutManifest,
        Self::PutManifest,
        Self::DeleteManifest,
        Self::DeleteTag,
        Self::DeleteBlob,
        Self::DeleteRepository,
    ];
}

/// The requests of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Requests {
    acknowledged: u64,
    refused: u64,
    in_flight: u64,
    took: Duration,
}

/// The counts of a whole run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    requests: Mutex<BTreeMap<Kind, Requests>>,
    pub(crate) kills: AtomicU64,
    pub(crate) aimed: AtomicU64,
    pub(crate) cut: AtomicU64,
    pub(crate) interrupted: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) resumed_inside: AtomicU64,
    pub(crate) gone: AtomicU64,
    pub(crate) leftovers: AtomicU64,
    pub(crate) files: AtomicU64,
    pub(crate) answers: AtomicU64,
    pub(crate) collections: AtomicU64,
    pub(crate) collections_killed: AtomicU64,
}

/// Adds to a count.
pub(crate) fn add(count: &AtomicU64, more: usize) {
    count.fetch_add(more as u64, Ordering::Relaxed);
}

impl Tally {
    /// Counts a request with its response time.
    pub(crate) fn answered(&self, kind: Kind, done: bool, took: Duration) {
        let mut requests = self.requests.lock().unwrap();
        let requests = requests.entry(kind).or_default();
        if done {
            requests.acknowledged += 1;
            requests.took += took;
        } else {
            requests.refused += 1;
        }
    }

    /// Counts a request that a kill left without a response.
    pub(crate) fn cut_off(&self, kind: Kind) {
        self.requests.lock().unwrap().entry(kind).or_default().in_flight += 1;
    }

    /// The approximate duration of requests of a kind: for aiming kills, not for checks.
    pub(crate) fn usual(&self, kind: Kind) -> Duration {
        match self.requests.lock().unwrap().get(&kind) {
            Some(requests) if requests.acknowledged > 0 => {
                requests.took / u32::try_from(requests.acknowledged).unwrap_or(u32::MAX)
            }
            _ => Duration::from_millis(10),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let requests = self.requests.lock().unwrap();
        writeln!(f, "kills: {}, of them aimed: {}", of(&self.kills), of(&self.aimed))?;
        let total = |of: fn(&Requests) -> u64| requests.values().map(of).sum::<u64>();
        writeln!(f, "{:<18}{:>12}{:>9}{:>11}", "requests", "acknowledged", "refused", "in flight")?;
        for (kind, Requests { acknowledged, refused, in_flight, .. }) in &*requests {
            let kind = format!("{kind:?}");
            writeln!(f, "  {kind:<16}{acknowledged:>12}{refused:>9}{in_flight:>11}")?;
        }
        writeln!(
            f,
            "  {:<16}{:>12}{:>9}{:>11}",
            "all",
            total(|requests| requests.acknowledged),
            total(|requests| requests.refused),
            total(|requests| requests.in_flight)
        )?;
        writeln!(f, "of those in flight, followed by the model: {}", of(&self.cut))?;
        writeln!(
            f,
            "uploads interrupted: {}, resumed: {} ({} of them behind their first byte), over: {}",
            of(&self.interrupted),
            of(&self.resumed),
            of(&self.resumed_inside),
            of(&self.gone)
        )?;
        writeln!(
            f,
            "collections from the command line: {}, killed in the middle: {}",
            of(&self.collections),
            of(&self.collections_killed)
        )?;
        writeln!(f, ".tmp files left in a tree: {}", of(&self.leftovers))?;
        write!(f, "checked: {} files, {} answers", of(&self.files), of(&self.answers))
    }
}
