//! Retention, as a job of the server.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use super::{Maintenance, schedule};
use crate::{
    chain::Chain,
    jobs::Jobs,
    registry::{Decision, Retained, RetentionOptions, RetentionRule},
};

/// Retention first deletes tags this long after the start: an operator who has started the server
/// with a wrong rule has time to stop it.
const FIRST: Duration = Duration::from_secs(600);

impl Maintenance {
    /// Schedules retention, which deletes no tag while the registry is read-only.
    pub(super) fn schedule_retention(&self, jobs: &Jobs, options: &RetentionOptions) {
        let &RetentionOptions { interval, dryrun, .. } = options;
        let rules: Arc<[_]> = options.rules.clone().into();
        let maintenance = self.clone();
        jobs.interruptible(schedule(FIRST, interval), move || {
            let maintenance = maintenance.clone();
            let rules = Arc::clone(&rules);
            async move { maintenance.retain(&rules, dryrun).await }
        });
    }

    async fn retain(&self, rules: &[RetentionRule], dryrun: bool) {
        let api = Arc::clone(&self.api);
        let is_forbidden = move || !dryrun && api.is_readonly();
        if is_forbidden() {
            tracing::info!("retention deletes no tag while the registry is read-only");
            return;
        }
        let watcher = move |decision: &Decision<'_>| {
            log(decision, dryrun);
            // A reload may have made the registry read-only meanwhile.
            if is_forbidden() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match self.registry.retention().apply(rules, dryrun, watcher).await {
            Ok(Retained { found, deleted, manifests }) => {
                tracing::info!(found, deleted, manifests, dryrun, "applied retention rules");
            }
            Err(error) => {
                tracing::error!(error = %Chain(&error), "retention failed in some repositories");
            }
        }
    }
}

/// Logs what retention did with a tag.
fn log(decision: &Decision<'_>, dryrun: bool) {
    let Decision { repository, outcome } = decision;
    match outcome {
        Ok(expired) => {
            // An operator can set the tag again until garbage collection deletes the manifest.
            let digest = expired.digest.as_ref().map(tracing::field::display);
            let what = if dryrun { "would delete a tag" } else { "deleted a tag" };
            tracing::info!(%repository, tag = %expired.tag, digest, reason = %expired, "{what}");
        }
        Err(error) => {
            tracing::warn!(%repository, error = %Chain(error), "retention failed in a repository");
        }
    }
}
