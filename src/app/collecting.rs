//! Collection, as a job of the server.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::reload::Reloads;
use crate::{
    chain::Chain,
    jobs::Jobs,
    registry::{Collect, CollectionOptions, GcEvent, GcObserver, Registry},
};

/// Garbage is first collected this long after the start, when it is over with those who come back.
const COLLECTED_AFTER: Duration = Duration::from_secs(600);

/// Runs the garbage collection as a job, unless the registry is read-only: an operator who sets that
/// copies the tree, or moves it.
pub(super) fn collect(
    jobs: &Jobs,
    registry: &Registry,
    options: &CollectionOptions,
    reloads: &Arc<Reloads>,
) {
    let (registry, reloads) = (registry.clone(), Arc::clone(reloads));
    let CollectionOptions { grace, deleteuntagged: untagged, interval, .. } = options.clone();
    let how = Collect { grace, untagged, dry_run: false, gently: true };
    // An interval of zero would be a busy loop.
    let interval = interval.max(Duration::from_secs(1));
    // One that has begun to take something away does that to its end: whoever is cut off would let
    // others in while a thread goes on.
    jobs.stoppable((COLLECTED_AFTER.min(interval), interval), move |stop| {
        let (registry, reloads) = (registry.clone(), Arc::clone(&reloads));
        async move {
            if reloads.api.is_readonly() {
                tracing::debug!("garbage collection skipped: the registry is read-only");
                return;
            }
            let began = Instant::now();
            match registry.gc().collect(how, &mut Log { repository: String::new(), stop }).await {
                Ok(done) => tracing::info!(
                    repositories = done.repositories,
                    emptied = done.emptied,
                    kept = done.kept,
                    manifests = done.manifests,
                    links = done.links,
                    blobs = done.blobs,
                    bytes = done.bytes,
                    seconds = began.elapsed().as_secs(),
                    "collected garbage"
                ),
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "garbage collection failed");
                }
            }
        }
    });
}

/// Writes to the log what a collection takes, and what it leaves because of a damage.
#[derive(Debug)]
struct Log {
    repository: String,
    stop: CancellationToken,
}

impl GcObserver for Log {
    fn is_over(&self) -> bool {
        self.stop.is_cancelled()
    }

    fn found(&mut self, found: GcEvent<'_>) {
        let repository = &self.repository;
        match found {
            GcEvent::Repository(name) => {
                self.repository.clear();
                self.repository.push_str(name);
            }
            GcEvent::Untagged(digest) => tracing::info!(repository, %digest, "collects a manifest"),
            GcEvent::Empty => tracing::info!(repository, "collects an empty repository"),
            GcEvent::Kept(why) => {
                tracing::warn!(
                    repository,
                    why,
                    "garbage collection skips this repository; `portcullis verify` says why"
                );
            }
            GcEvent::Link(digest) => tracing::debug!(repository, %digest, "collects a link"),
            GcEvent::Bytes(digest) => tracing::debug!(%digest, "collects a blob"),
            GcEvent::Manifest(_) | GcEvent::Named(_) | GcEvent::Totals { .. } => {}
        }
    }
}
