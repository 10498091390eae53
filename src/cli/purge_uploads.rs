//! `portcullis purge-uploads`: removes abandoned uploads.

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    block_on,
    failure::{Failure, tell},
    print::{Output, count},
    storage_configuration,
};
use crate::{
    app::{self, OldUpload},
    chain::Chain,
    config::{self, Config},
    humanize::Ago,
};

const EXAMPLES: &str = "\
One line on standard output for each deleted upload: its repository, its id, when it was begun.

A server does this by itself where storage.maintenance.uploadpurging is enabled; neither that nor \
dryrun makes a difference here. An upload that was written to within the last hour stays, whatever \
its age: a server may be receiving it.

Examples:
  portcullis purge-uploads --dry-run /etc/docker/registry/config.yml
  portcullis purge-uploads --age 12h /etc/docker/registry/config.yml

Exit codes: 0 done; 1 not done, or not for all uploads; 2 usage.";

/// Delete uploads that were begun long ago and not finished, beside a running server too.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PurgeUploads {
    /// The configuration file of the server; REGISTRY_… variables apply too
    config: Option<PathBuf>,
    /// Print which would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// The age from which on uploads are deleted [default: storage.maintenance.uploadpurging.age, a
    /// week]
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration)]
    age: Option<Duration>,
}

impl PurgeUploads {
    /// Runs the command, and prints the deleted uploads on standard output.
    ///
    /// # Errors
    ///
    /// Code 1 when an upload could not be deleted, or the storage not be read.
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = storage_configuration(self.config.as_deref())?;
        block_on(self.purge(&config))
    }

    async fn purge(&self, config: &Config) -> Result<(), Failure> {
        let registry = app::open_registry(config)?;
        let age = self.age.unwrap_or(config.storage.maintenance.uploadpurging.age);
        let output = Arc::new(Output::default());
        let stayed = Arc::new(AtomicU64::new(0));
        let printed = Arc::clone(&output);
        let counted = Arc::clone(&stayed);
        let dry_run = self.dry_run;
        let watcher = move |old: &OldUpload<'_>| {
            let OldUpload { repository, upload, outcome } = old;
            match outcome {
                Ok(has_lived) => {
                    let what = if dry_run { "would purge" } else { "purged" };
                    let begun = Ago(*has_lived);
                    printed.line(format_args!("{what} {repository} {upload}: begun {begun}"))
                }
                Err(error) => {
                    counted.fetch_add(1, Ordering::Relaxed);
                    tell(&format!("{repository} {upload} stays: {}", Chain(error)));
                    ControlFlow::Continue(())
                }
            }
        };
        let purged = registry.uploads().purge(age, dry_run, watcher).await;
        output.end()?;
        let stayed = stayed.load(Ordering::Relaxed);
        if stayed > 0 {
            return Err(Failure::new(format!("{} could not be removed", count(stayed, "upload"))));
        }
        let app::Purged { found, purged } = purged?;
        let what = if self.dry_run { "would be purged" } else { "purged" };
        tell(&format!("{} {what}, {found} looked at", count(purged, "upload")));
        Ok(())
    }
}
