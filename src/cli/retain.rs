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
    block_on, configuration,
    failure::{Failure, tell},
    print::{Output, count},
};
use crate::{
    app::{self, Decision, Retained},
    chain::Chain,
    config::Config,
};

const EXAMPLES: &str = "\
One line on standard output for each tag that goes, with the reason and what it names:
  deleted team/app:pr-17: not among the 10 latest, pushed 45 days ago (sha256:…)
With its last tag a manifest goes, and with that what is there for it alone: the children of an \
index, signatures. Its blobs go when garbage is collected.

A server does this by itself every storage.retention.interval; whether dryrun is set there, and \
whether the registry is read-only, makes no difference here.

Examples:
  portcullis retain --dry-run /etc/docker/registry/config.yml
  portcullis retain /etc/docker/registry/config.yml

Exit codes: 0 done; 1 there are no rules, or not all could be done; 2 usage.";

/// Deletes the tags that storage.retention does not keep, beside a running server too.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Retain {
    /// The configuration file of the server; REGISTRY_… variables apply too
    config: Option<PathBuf>,
    /// Say which would go, and let them stay
    #[arg(long)]
    dry_run: bool,
}

impl Retain {
    /// Does it, and prints on standard output what goes.
    ///
    /// # Errors
    ///
    /// Code 1 when there is nothing to go by, or not all could be done.
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = configuration(self.config.as_deref())?;
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
