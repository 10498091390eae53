//! The memory and the descriptors of the server over time.

use std::{
    fmt, fs,
    sync::Mutex,
    time::{Duration, Instant},
};

use testkit::server::Server;
use tokio::time;

/// A hang guard: the server closes the connections of ended clients sooner.
const LIMIT: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(50);

/// How much more the end of a run may have than its middle: an amount, and a percentage.
const MORE_MIB: u64 = 16;
const MORE_DESCRIPTORS: u64 = 16;
const MORE_PERCENT: u64 = 20;
/// How many descriptors more than before the first client may be left after the last.
const LEFT: u64 = 4;

/// How many of the samples are printed.
const SHOWN: usize = 20;

/// The memory and descriptors of a process at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    kib: u64,
    pub(crate) descriptors: u64,
}

impl Sample {
    /// The current sample of the server.
    pub(crate) fn of(server: &Server) -> Self {
        Self::of_process(server.child.id())
    }

    fn of_process(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib = line.trim().trim_end_matches(" kB").parse().unwrap();
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
        Self { kib, descriptors }
    }
}

/// The samples of a run.
#[derive(Debug, Default)]
pub(crate) struct Series(Mutex<Vec<Sample>>);

impl Series {
    /// Takes a sample every half a second, until it is dropped.
    pub(crate) async fn watch(&self, server: &Server) {
        let mut ticks = time::interval(EVERY);
        loop {
            ticks.tick().await;
            self.0.lock().unwrap().push(Sample::of(server));
        }
    }

    /// Reports growth: the last quarter of the run compared with the second, since the first fills
    /// the caches.
    pub(crate) fn flat(&self) -> Result<(), String> {
        let [_, then, _, now] = self.quarters(|sample| sample.kib / 1024);
        grown("MiB of memory", then, now, MORE_MIB)?;
        let [_, then, _, now] = self.quarters(|sample| sample.descriptors);
        grown("descriptors", then, now, MORE_DESCRIPTORS)
    }

    /// The median of each quarter.
    fn quarters(&self, of: impl Fn(&Sample) -> u64) -> [u64; 4] {
        let samples = self.0.lock().unwrap();
        let quarter = samples.len().div_ceil(4).max(1);
        let mut medians = samples.chunks(quarter).map(|quarter| {
            let mut values: Vec<u64> = quarter.iter().map(&of).collect();
            values.sort_unstable();
            values[values.len() / 2]
        });
        std::array::from_fn(|_| medians.next().unwrap_or_default())
    }
}

fn grown(what: &str, then: u64, now: u64, more: u64) -> Result<(), String> {
    if now > then + more.max(then * MORE_PERCENT / 100) {
        return Err(format!("not flat: {now} {what} in the last quarter, {then} in the second"));
    }
    Ok(())
}

/// Waits until a server without clients has as few descriptors as it began with.
pub(crate) async fn idle_again(server: &Server, before: Sample) -> Result<Sample, String> {
    let started = Instant::now();
    loop {
        let now = Sample::of(server);
        if now.descriptors <= before.descriptors + LEFT {
            return Ok(now);
        }
        if started.elapsed() > LIMIT {
            let (was, is) = (before.descriptors, now.descriptors);
            return Err(format!("{is} descriptors are open without a client; {was} were"));
        }
        time::sleep(POLL).await;
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB, {} descriptors", self.kib / 1024, self.descriptors)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<Sample> = {
            let samples = self.0.lock().unwrap();
            samples.iter().step_by(samples.len().div_ceil(SHOWN).max(1)).copied().collect()
        };
        let row = |of: fn(&Sample) -> u64| {
            let values: Vec<String> = shown.iter().map(|sample| of(sample).to_string()).collect();
            values.join(" ")
        };
        let [mib, descriptors]: [fn(&Sample) -> u64; 2] =
            [|sample| sample.kib / 1024, |sample| sample.descriptors];
        writeln!(f, "memory, MiB: {}", row(mib))?;
        writeln!(f, "  medians of the quarters: {:?}", self.quarters(mib))?;
        writeln!(f, "descriptors: {}", row(descriptors))?;
        write!(f, "  medians of the quarters: {:?}", self.quarters(descriptors))
    }
}
