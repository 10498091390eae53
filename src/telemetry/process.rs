//! The metrics of the process, by the names of Prometheus' Go client, which dashboards query. Each
//! scrape reads them. A value that the system does not report is absent.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::metrics::{Kind, Metrics};

/// Adds the metrics of this process, which started at `started`.
pub fn register(metrics: &mut Metrics, started: SystemTime) {
    let started = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let help = "When the process started, in seconds since 1970";
    metrics.number("process_start_time_seconds", help, Kind::Gauge, move || Some(started));
    let help = "Processor time of all threads";
    metrics.number("process_cpu_seconds", help, Kind::Counter, || Some(processor_time()));
    let help = "Resident memory";
    metrics.number("process_resident_memory_bytes", help, Kind::Gauge, || {
        resident(&fs::read_to_string("/proc/self/status").ok()?)
    });
    let help = "Open file descriptors";
    metrics.number("process_open_fds", help, Kind::Gauge, || {
        // One of them is that of the directory that this reads.
        Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
    });
    let help = "The limit of open file descriptors";
    metrics.number("process_max_fds", help, Kind::Gauge, || {
        // Without a limit, the value of the Go client.
        Some(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) as f64)
    });
}

fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default().as_secs_f64()
}

/// The resident memory in bytes, from the line `VmRSS:   1234 kB` of `/proc/self/status`.
fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((kibibytes * 1024) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_reports_this_process() {
        let mut metrics = Metrics::default();
        register(&mut metrics, UNIX_EPOCH + Duration::from_millis(1500));
        let text = metrics.text();
        let number = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} is missing: {text}")).parse().unwrap()
        };
        assert_eq!(number("process_start_time_seconds"), 1.5);
        assert!(number("process_cpu_seconds_total") > 0.0);
        assert!(number("process_resident_memory_bytes") > 1e5);
        assert!(number("process_open_fds") >= 3.0);
        assert!(number("process_max_fds") >= number("process_open_fds"));
    }

    #[test]
    fn resident_memory_in_another_unit_is_absent() {
        assert_eq!(resident("VmSize:\t  9 kB\nVmRSS:\t    12 kB\n"), Some(12288.0));
        assert_eq!(resident("VmRSS:\t12 MB\n"), None);
        assert_eq!(resident("VmHWM:\t12 kB\n"), None);
    }
}
