//! Garbage collection, as a job of the server.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Maintenance, schedule};
use crate::{
    chain::Chain,
    jobs::Jobs,
    registry::{Collect, CollectionOptions, GcEvent, GcObserver, Untagged},
};

/// The first collection comes this long after the start, when clients that resume pushes have come
/// back.
const FIRST: Duration = Duration::from_secs(600);

impl Maintenance {
    /// Schedules garbage collection. A run is skipped while the registry is read-only: operators set
    /// that to copy or move the tree.
    pub(super) fn schedule_collection(&self, jobs: &Jobs, options: &CollectionOptions) {
        let &CollectionOptions { grace, interval, .. } = options;
        let how = Collect { grace, untagged: options.untagged(), dry_run: false, gently: true };
        let maintenance = self.clone();
        // Not interruptible: a run that is cut off would open its fence to pushes while a thread
        // still deletes.
        jobs.stoppable(schedule(FIRST, interval), move |stop| {
            let maintenance = maintenance.clone();
            async move { maintenance.collect(how, stop).await }
        });
    }

    async fn collect(&self, how: Collect, stop: CancellationToken) {
        if self.api.is_readonly() {
            tracing::debug!("garbage collection skipped: the registry is read-only");
            return;
        }
        let began = Instant::now();
        let mut log = Log { repository: String::new(), stop };
        let done = self.registry.gc().collect(how, &mut log).await;
        if let (Ok(done), Untagged::Stay) = (&done, how.untagged)
            && done.untagged.manifests > 0
        {
            tracing::info!(
                manifests = done.untagged.manifests,
                bytes = done.untagged.bytes,
                "untagged manifests stay; storage.maintenance.garbagecollection.deleteuntaggedafter: 720h \
                 takes those that are not pulled for 30 days"
            );
        }
        match done {
            Ok(done) => tracing::info!(
                repositories = done.repositories,
                emptied = done.emptied,
                kept = done.kept,
                manifests = done.manifests,
                links = done.links,
                blobs = done.blobs,
                bytes = done.bytes,
                untagged = done.untagged.manifests,
                untagged_bytes = done.untagged.bytes,
                seconds = began.elapsed().as_secs(),
                "collected garbage"
            ),
            Err(error) => tracing::error!(error = %Chain(&error), "garbage collection failed"),
        }
    }
}

/// Logs what a collection deletes, and which repositories it skips because they are damaged.
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
