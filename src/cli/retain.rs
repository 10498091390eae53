//! `portcullis retain`: deletes the tags that no rule of the configuration keeps.

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    block_on,
    failure::{Failure, tell},
    print::{Output, count},
    storage_configuration,
};
use crate::{
    app::{self, Decision, Retained},
    chain::Chain,
    config::Config,
};

const EXAMPLES: &str = "\
One line on standard output for each deleted tag, with the reason and its digest:
  deleted team/app:pr-17: not among the 10 latest, pushed 45 days ago (sha256:…)
A manifest is deleted with its last tag, and so are the manifests that only it references: the \
children of an index, signatures. Garbage collection deletes its blobs.

A server does this by itself every storage.retention.interval; neither dryrun there nor a read-only \
registry makes a difference here.

Examples:
  portcullis retain --dry-run /etc/docker/registry/config.yml
  portcullis retain /etc/docker/registry/config.yml

Exit codes: 0 done; 1 there are no rules, or some repositories failed; 2 usage.";

/// Delete the tags that storage.retention does not keep, beside a running server too.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Retain {
    /// The configuration file of the server; REGISTRY_… variables apply too
    config: Option<PathBuf>,
    /// Print which would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

impl Retain {
    /// Runs the command, and prints the deleted tags on standard output.
    ///
    /// # Errors
    ///
    /// Code 1 when there are no rules, or retention failed in a repository.
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = storage_configuration(self.config.as_deref())?;
        block_on(self.retain(&config))
    }

    async fn retain(&self, config: &Config) -> Result<(), Failure> {
        let rules = &config.storage.tags.retention.rules;
        if rules.is_empty() {
            let why = "storage.retention has no rules, so all tags stay; name the configuration \
                       that has them";
            return Err(Failure::new(why));
        }
        let registry = app::open_registry(config)?;
        let output = Arc::new(Output::default());
        let failed = Arc::new(AtomicBool::new(false));
        let printed = Arc::clone(&output);
        let has_failed = Arc::clone(&failed);
        let dry_run = self.dry_run;
        let watcher = move |decision: &Decision<'_>| {
            let Decision { repository, outcome } = decision;
            match outcome {
                Ok(expired) => {
                    let what = if dry_run { "would delete" } else { "deleted" };
                    let digest = expired.digest.as_ref().map(|digest| format!(" ({digest})"));
                    let digest = digest.unwrap_or_default();
                    printed.line(format_args!(
                        "{what} {repository}:{}: {expired}{digest}",
                        expired.tag
                    ))
                }
                Err(error) => {
                    has_failed.store(true, Ordering::Relaxed);
                    tell(&format!("tags of {repository} stay: {}", Chain(error)));
                    ControlFlow::Continue(())
                }
            }
        };
        let retained = registry.retention().apply(rules, dry_run, watcher).await;
        output.end()?;
        if failed.load(Ordering::Relaxed) {
            return Err(Failure::new("retention failed in some repositories"));
        }
        let Retained { found, deleted, manifests } = retained?;
        let tags = count(deleted, "tag");
        tell(&match self.dry_run {
            true => format!("{tags} would be deleted, {found} under a rule"),
            false => {
                let manifests = count(manifests, "manifest");
                format!("{tags} deleted and {manifests} with them, {found} under a rule")
            }
        });
        Ok(())
    }
}
