//! The load of processes: processor time and memory, from /proc.

use std::{fs, time::Instant};

use crate::Outcome;

/// /proc counts processor time in hundredths of a second on every Linux.
const TICKS: f64 = 100.0;

/// How many cores the two ends kept busy.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// This process and the clients it has waited for.
    pub(crate) clients: f64,
    /// The processes of the side.
    pub(crate) servers: f64,
}

/// Measures [`Load`] from its start to its stop.
#[derive(Debug)]
pub(crate) struct Meter {
    servers: Vec<u32>,
    started: Instant,
    before: (f64, f64),
}

impl Meter {
    /// Begins.
    pub(crate) fn start(servers: Vec<u32>) -> Self {
        let before = (clients_seconds(), servers_seconds(&servers));
        Self { servers, started: Instant::now(), before }
    }

    /// Ends; also gives the elapsed seconds.
    pub(crate) fn stop(self) -> (f64, Load) {
        let seconds = self.started.elapsed().as_secs_f64();
        let clients = (clients_seconds() - self.before.0) / seconds;
        let servers = (servers_seconds(&self.servers) - self.before.1) / seconds;
        (seconds, Load { clients, servers })
    }
}

/// A process and its children, in which nginx does its work.
pub(crate) fn with_children(parents: &[u32]) -> Vec<u32> {
    let children = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let parent: u32 = stat(&id.to_string())?.get(1)?.parse().ok()?;
        parents.contains(&parent).then_some(id)
    });
    parents.iter().copied().chain(children).collect()
}

/// The resident memory of processes now, in bytes.
pub(crate) fn resident(processes: &[u32]) -> Outcome<f64> {
    sum(processes, "VmRSS:")
}

/// The highest resident memory of processes since [`forget_peak`], in bytes.
pub(crate) fn peak(processes: &[u32]) -> Outcome<f64> {
    sum(processes, "VmHWM:")
}

/// Resets the peak.
pub(crate) fn forget_peak(processes: &[u32]) -> Outcome<()> {
    for id in processes {
        fs::write(format!("/proc/{id}/clear_refs"), "5")?;
    }
    Ok(())
}

fn sum(processes: &[u32], field: &str) -> Outcome<f64> {
    let mut bytes = 0.0;
    for id in processes {
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let kibibytes: f64 = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|rest| rest.split_whitespace().next())
            .ok_or("a process has no memory")?
            .parse()?;
        bytes += kibibytes * 1024.0;
    }
    Ok(bytes)
}

fn clients_seconds() -> f64 {
    // utime, stime, and those of children that were waited for.
    seconds("self", 11..15)
}

fn servers_seconds(servers: &[u32]) -> f64 {
    servers.iter().map(|id| seconds(&id.to_string(), 11..13)).sum()
}

fn seconds(process: &str, fields: std::ops::Range<usize>) -> f64 {
    let stat = stat(process).unwrap_or_default();
    let ticks = stat.get(fields).unwrap_or_default().iter();
    ticks.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS
}

/// The fields of /proc/…/stat after the name, which may contain any character: state, parent, ….
fn stat(process: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}
