//! `portcullis garbage-collect`: garbage collection, with registry:2's command line.

use std::{
    io::{self, BufWriter, Stdout, Write as _},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{
    block_on,
    failure::{Failure, tell},
    storage_configuration,
};
use crate::{
    app::{self, Collect, Collected, GcEvent, GcObserver, Graced, KeptUntagged, Untagged},
    chain::Chain,
    config::parse_duration,
    humanize::{Size, Span},
};

const EXAMPLES: &str = "\
It may run beside a server, and beside the server's own garbage collection: pushes go on, and stay \
whole. Content younger than storage.maintenance.garbagecollection.grace stays, and so does content \
whose existence a client was told of within that time. A repository with an unreadable manifest or \
link stays as it is; `portcullis verify` shows the damage.

Examples:
  portcullis garbage-collect --dry-run /etc/docker/registry/config.yml
  portcullis garbage-collect -m --quiet /etc/docker/registry/config.yml
  portcullis garbage-collect --grace 0s       at once; no push may be under way

Exit codes: 0 done; 1 not done; 2 usage.";

/// Delete the blobs that no manifest references, and empty repositories.
///
/// Its output is that of registry:2.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct GarbageCollect {
    /// The configuration file of the server; REGISTRY_… variables apply too
    config: Option<PathBuf>,
    /// Print what would be deleted, and delete nothing
    #[arg(short, long)]
    dry_run: bool,
    /// Also delete manifests that no tag and no index references, and that are no referrers
    #[arg(short = 'm', long)]
    delete_untagged: bool,
    /// Use this grace period instead of the configured one: 0s, 90m, 2h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    grace: Option<Duration>,
    /// Print a summary only
    #[arg(short, long)]
    quiet: bool,
}

impl GarbageCollect {
    /// Runs the command, and prints its findings on standard output.
    ///
    /// # Errors
    ///
    /// Code 1 when it could not be done.
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = storage_configuration(self.config.as_deref())?;
        let options = &config.storage.maintenance.garbagecollection;
        step_back();
        let how = Collect {
            grace: self.grace.unwrap_or(options.grace),
            untagged: match self.delete_untagged {
                true => Untagged::Go,
                false => options.untagged(),
            },
            dry_run: self.dry_run,
            gently: false,
        };
        let registry = app::open_registry(&config)?;
        let mut lines = Lines::new(self.quiet);
        let collected = block_on(async {
            let collected = registry.gc().collect(how, &mut lines).await;
            collected.map_err(|error| {
                Failure::new(format!("failed to garbage collect: {}", Chain(&error)))
            })
        });
        lines.end()?;
        let collected = collected?;
        tell(&summary(&collected, self.dry_run));
        let kept =
            [graced(&collected.graced, how.grace), untagged(&collected.untagged, how.untagged)];
        kept.iter().flatten().for_each(|line| tell(line));
        Ok(())
    }
}

/// The niceness of this process: less urgent than a server.
const NICE: i32 = 10;

/// Gives way to a server on the same machine: lowers the priority of this process and leaves half
/// of the processors free. The collection is no slower for that, for it does little at once, and a
/// server that answers in a fraction of a millisecond need not wait for a processor
/// (docs/PERFORMANCE.md).
fn step_back() {
    // Where the system allows neither, the process keeps its priority.
    let _ = rustix::process::nice(NICE);
    if let Ok(allowed) = sched_getaffinity(None) {
        let _ = sched_setaffinity(None, &half(&allowed));
    }
}

/// The last half of some processors, and at least one.
fn half(processors: &CpuSet) -> CpuSet {
    let mut half = CpuSet::new();
    let all = (0..CpuSet::MAX_CPU).rev().filter(|&processor| processors.is_set(processor));
    all.take((processors.count() / 2).max(1) as usize).for_each(|processor| half.set(processor));
    half
}

/// The result in one line.
fn summary(collected: &Collected, dry_run: bool) -> String {
    let Collected { repositories, emptied, kept, manifests, links, blobs, bytes, .. } = collected;
    let done = if dry_run { "would remove" } else { "removed" };
    let mut text = format!(
        "{done} blobs: {blobs} ({}), links to blobs: {links}, manifests: {manifests}",
        Size(*bytes)
    );
    if !dry_run {
        text.push_str(&format!(", empty repositories: {emptied}"));
    }
    text.push_str(&format!("; repositories seen: {repositories}"));
    if *kept > 0 {
        text.push_str(&format!(
            "; left as they are, because of unreadable manifests or links: {kept} (`portcullis \
             verify` shows them)"
        ));
    }
    text
}

/// What the grace period keeps, and until when; `None` where it keeps nothing.
fn graced(graced: &Graced, grace: Duration) -> Option<String> {
    let Graced { manifests, links, bytes, until } = graced;
    let until = time((*until)?);
    Some(format!(
        "the grace period of {} keeps links to blobs: {links}, manifests: {manifests}, blobs of {}; \
         the last of them until {until}, or `--grace 0s` takes them while no push is under way",
        Span(grace),
        Size(*bytes),
    ))
}

/// What untagged manifests hold, and which option takes them; `None` without any.
fn untagged(kept: &KeptUntagged, mode: Untagged) -> Option<String> {
    let KeptUntagged { manifests, bytes, held_until } = kept;
    if *manifests == 0 {
        return None;
    }
    let held = format!("untagged manifests: {manifests}, which hold {}", Size(*bytes));
    Some(match (mode, held_until) {
        (Untagged::GoAfter(period), None) => format!(
            "{held}; each goes when it has been neither tagged nor pulled for {}, or all with \
             --delete-untagged",
            Span(period),
        ),
        (Untagged::GoAfter(_), Some(until)) => format!(
            "{held}; none goes before {}, since pulls have not been recorded for that long; \
             --delete-untagged takes them at once",
            time(*until),
        ),
        (Untagged::Stay | Untagged::Go, _) => format!(
            "{held}; {AFTER}: 720h takes those that are not pulled for 30 days, --delete-untagged all of \
             them at once"
        ),
    })
}

/// The option that takes untagged manifests by their age.
pub(super) const AFTER: &str = "storage.maintenance.garbagecollection.deleteuntaggedafter";

/// A time in UTC, to the second.
fn time(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Prints registry:2's lines.
struct Lines {
    out: BufWriter<Stdout>,
    quiet: bool,
    repository: String,
    /// The first line that could not be printed, or a pipe whose reader has gone.
    failed: Option<io::Error>,
}

impl Lines {
    fn new(quiet: bool) -> Self {
        let out = BufWriter::with_capacity(64 * 1024, io::stdout());
        Self { out, quiet, repository: String::new(), failed: None }
    }

    fn print(&mut self, found: GcEvent<'_>) -> io::Result<()> {
        let Self { out, repository, .. } = self;
        match found {
            GcEvent::Repository(name) => {
                repository.clear();
                repository.push_str(name);
                writeln!(out, "{name}")
            }
            GcEvent::Manifest(digest) => writeln!(out, "{repository}: marking manifest {digest} "),
            GcEvent::Named(digest) => writeln!(out, "{repository}: marking blob {digest}"),
            GcEvent::Untagged(digest) => writeln!(out, "manifest eligible for deletion: {digest}"),
            GcEvent::Link(digest) => {
                writeln!(out, "{repository}: layer link eligible for deletion: {digest}")
            }
            GcEvent::Empty => writeln!(out, "{repository}: empty repository deleted"),
            GcEvent::Kept(why) => writeln!(out, "{repository}: nothing is deleted here: {why}"),
            GcEvent::Totals { marked, blobs, manifests } => writeln!(
                out,
                "\n{marked} blobs marked, {blobs} blobs and {manifests} manifests eligible for \
                 deletion"
            ),
            GcEvent::Bytes(digest) => writeln!(out, "blob eligible for deletion: {digest}"),
        }
    }

    fn end(mut self) -> io::Result<()> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }
}

impl GcObserver for Lines {
    fn found(&mut self, found: GcEvent<'_>) {
        if self.quiet || self.failed.is_some() {
            return;
        }
        self.failed = self.print(found).err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_collection_leaves_half_of_the_processors_to_requests() {
        let of = |given: &[usize]| {
            let mut processors = CpuSet::new();
            given.iter().for_each(|&processor| processors.set(processor));
            let half = half(&processors);
            (0..CpuSet::MAX_CPU).filter(|&processor| half.is_set(processor)).collect::<Vec<_>>()
        };
        assert_eq!(of(&[0, 1]), [1]);
        assert_eq!(of(&[3]), [3], "there must be one");
        assert_eq!(of(&[2, 5, 6, 7, 9]), [7, 9]);
    }
}
