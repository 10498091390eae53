//! docs/BENCHMARKS.md, which the program also prints.

use std::fs;

use jiff::Timestamp;

use crate::{process, results::Measured, sides::Side, stage::Stage, table};

/// The document: where and when, the table, and how to read it.
pub(crate) fn write(stage: &Stage, results: &[Measured]) -> String {
    let reduced = stage.plan.reduced();
    let reduced = if reduced.is_empty() {
        String::new()
    } else {
        format!("\nShorter than `make bench`: {}.\n", reduced.join(", "))
    };
    let command = if stage.plan.quick { "make bench-quick" } else { "make bench" };
    format!(
        "\
# Benchmarks

Written by `{command}` on {date}. Sides take turns, {rounds} rounds; a cell is the median, and the least
and the greatest in brackets. Ratios are of medians, and above 1 where Portcullis is better.
{reduced}
{table}
Met, of those that are required: {met}.

## Machine and versions

{machine}
## What is compared

- Portcullis: the release build, with TLS, passwords, access log and fsync, as it comes.
- nginx + registry:2, the pair: Debian's nginx with TLS and `auth_basic` in front of Debian's docker-registry
  on loopback, configured as registry:2's documentation has it, with connections that are kept.
- limit: named in the third column. nginx static is the same bytes as static files over TLS, without
  password and log. dd writes the same file with `conv=fdatasync`.
- All have one certificate, one user (bcrypt cost {cost}) and the same content, on one file system. Files are
  read from the page cache. Clients run on the same cores, at the same cost for all sides.
- 1 and 10 are wrk; 2 is h2load with one stream in each of 16 connections; HEAD goes over h2, since neither
  tool can read the response to a HEAD over h1. 3 and 4 are curl over h1, as docker; 4 times PATCH (chunked) and
  PUT. 5 is skopeo. 6, 8 and 9 are the program's own client.
- The server's processor time is that of all processes of a side, user and system, for each request or GB of its
  turns: it does not depend on the speed of the client. The limit's is that of nginx for the same bytes.
- 7 counts all processes of a side. 9b may be up to a quarter and 1 ms above the figure without.
- 12 and 13 compare Portcullis with itself and with the other site: the column of the limit is the same work
  without rules, with a password, without groups and tokens, and directly to the site that passes through.
",
        date = Timestamp::now().strftime("%F %R UTC"),
        rounds = stage.plan.rounds,
        table = table::render(results),
        met = met(results),
        machine = machine(stage),
        cost = crate::site::COST,
    )
}

fn met(results: &[Measured]) -> String {
    let verdicts: Vec<_> = results.iter().filter_map(|result| result.is_met(results)).collect();
    format!("{} of {}", verdicts.iter().filter(|met| **met).count(), verdicts.len())
}

fn machine(stage: &Stage) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let gibibytes = memory.trim_end_matches(" kB").parse().unwrap_or(0.0) / 1_048_576.0;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let system = field(&read("/etc/os-release").replace('=', ":"), "PRETTY_NAME");
    let binary = stage.site.binary.to_str().unwrap_or("portcullis");
    let directory = stage.site.path("");
    let mut lines = vec![
        format!(
            "{cores} cores ({}), {gibibytes:.0} GiB",
            field(&read("/proc/cpuinfo"), "model name")
        ),
        format!(
            "{}, Linux {}",
            system.trim_matches('"'),
            read("/proc/sys/kernel/osrelease").trim()
        ),
        format!("file system: {}", said("stat", &["-f", "-c", "%T", &directory], 0)),
    ];
    let tools: [(&str, &[&str]); 7] = [
        (binary, &["--version"]),
        ("nginx", &["-v"]),
        ("docker-registry", &["--version"]),
        ("wrk", &["-v"]),
        ("h2load", &["--version"]),
        ("curl", &["--version"]),
        ("skopeo", &["--version"]),
    ];
    lines.extend(tools.map(|(program, arguments)| said(program, arguments, 4)));
    if let Err(error) = stage.side(Side::Pair) {
        lines.push(format!("without the pair: {error}"));
    }
    lines.iter().map(|line| format!("- {line}\n")).collect()
}

/// The first line that a program prints, or its first `words` words; or that it is missing.
fn said(program: &str, arguments: &[&str], words: usize) -> String {
    let Ok(path) = process::installed(program) else {
        return format!("{program}: not installed");
    };
    // wrk says its version and fails, nginx says it on stderr.
    let Ok(output) = std::process::Command::new(path).args(arguments).output() else {
        return format!("{program}: cannot be run");
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let first = text.lines().next().unwrap_or_default().split_whitespace();
    let all: Vec<_> = if words == 0 { first.collect() } else { first.take(words).collect() };
    all.join(" ")
}
