//! `portcullis garbage-collect`: space back, by registry:2's command line.

use std::{
    io::{self, BufWriter, Stdout, Write as _},
    path::PathBuf,
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{
    block_on, configuration,
    failure::{Failure, tell},
};
use crate::{
    app::{self, Collect, Collected, GcEvent, GcObserver},
    chain::Chain,
};

const EXAMPLES: &str = "\
It may run beside a server, and beside a collection of the server's own: pushes go on, and none of \
them is broken. What is younger than storage.maintenance.garbagecollection.grace stays, and so does \
what a client was told is there within that time. A repository in which something cannot be read \
stays as it is; `portcullis verify` says what is wrong with it.

Examples:
  portcullis garbage-collect --dry-run /etc/docker/registry/config.yml
  portcullis garbage-collect --delete-untagged --quiet /etc/docker/registry/config.yml

Exit codes: 0 done; 1 not done; 2 asked for in a way that has no meaning.";

/// Removes the blobs that no manifest needs, and repositories that are empty.
///
/// What it prints is what registry:2 prints.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct GarbageCollect {
    /// The configuration file of the server; REGISTRY_… variables apply too
    config: Option<PathBuf>,
    /// Say what would go, and take nothing
    #[arg(short, long)]
    dry_run: bool,
    /// Also remove manifests that no tag names, no index has, and no other manifest is about
    #[arg(short = 'm', long)]
    delete_untagged: bool,
    /// Print a summary only
    #[arg(short, long)]
    quiet: bool,
}

impl GarbageCollect {
    /// Does it, and prints what is found on standard output.
    ///
    /// # Errors
    ///
    /// Code 1 when it could not be done.
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = configuration(self.config.as_deref())?;
        let options = &config.storage.maintenance.garbagecollection;
        step_back();
        let how = Collect {
            grace: options.grace,
            untagged: self.delete_untagged || options.deleteuntagged,
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
        tell(&summary(&collected?, self.dry_run));
        Ok(())
    }
}

/// How much less urgent this is than serving.
const NICE: i32 = 10;

/// Lets those come first who are served: this is less urgent, and leaves half of the processors to
/// them. It is no slower for that, for it does little at once; but who answers in a fraction of a
/// millisecond need not wait until it lets go of one (docs/PERFORMANCE.md).
fn step_back() {
    // Where either is not allowed this is as urgent as everybody.
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

/// What came of it, in a line.
fn summary(collected: &Collected, dry_run: bool) -> String {
    let Collected { repositories, emptied, kept, manifests, links, blobs, bytes } = collected;
    let done = if dry_run { "would remove" } else { "removed" };
    let mut text = format!(
        "{done} blobs: {blobs} ({bytes} bytes), links to blobs: {links}, manifests: {manifests}"
    );
    if !dry_run {
        text.push_str(&format!(", empty repositories: {emptied}"));
    }
    text.push_str(&format!("; repositories seen: {repositories}"));
    if *kept > 0 {
        text.push_str(&format!(
            "; left as they are, because something in them cannot be read: {kept} (`portcullis \
             verify` says what)"
        ));
    }
    text
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
    fn half_of_the_processors_are_left_to_those_who_are_served() {
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
