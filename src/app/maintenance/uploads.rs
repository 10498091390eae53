//! The purge of abandoned uploads, as a job of the server.

use std::{ops::ControlFlow, time::Duration};

use super::{Maintenance, schedule};
use crate::{
    chain::Chain,
    jobs::Jobs,
    registry::{OldUpload, PurgeOptions, Purged},
};

/// The first purge comes this long after the start, when clients that resume uploads have come back.
const FIRST: Duration = Duration::from_secs(300);

impl Maintenance {
    /// Schedules the purge of abandoned uploads.
    pub(super) fn schedule_purge(&self, jobs: &Jobs, options: &PurgeOptions) {
        let &PurgeOptions { age, dryrun, interval, .. } = options;
        let registry = self.registry.clone();
        jobs.interruptible(schedule(FIRST, interval), move || {
            let registry = registry.clone();
            async move {
                match registry.uploads().purge(age, dryrun, move |old| log(old, dryrun)).await {
                    Ok(Purged { found, purged }) => {
                        tracing::debug!(found, purged, dryrun, "purged abandoned uploads");
                    }
                    Err(error) => {
                        tracing::error!(error = %Chain(&error), "cannot purge abandoned uploads");
                    }
                }
            }
        });
    }
}

/// Logs the outcome of the purge of one upload.
fn log(old: &OldUpload<'_>, dryrun: bool) -> ControlFlow<()> {
    let OldUpload { repository, upload, outcome } = old;
    match outcome {
        Ok(age) => {
            let hours = age.as_secs() / 3600;
            let what = if dryrun { "would purge an upload" } else { "purged an upload" };
            tracing::info!(%repository, %upload, hours, "{what}");
        }
        Err(error) => tracing::warn!(%repository, %upload, %error, "cannot purge an upload"),
    }
    ControlFlow::Continue(())
}
