//! Retention (`storage.retention`): the server deletes the tags that no rule keeps.
//!
//! The first rule that matches a tag applies to it, and the tag stays if any condition of that rule
//! holds. The modification time of a tag's link is the time of its push. A manifest that loses its last
//! tag is deleted, with its descendants and referrers; garbage collection removes the blobs. A tag whose
//! manifest cannot be read stays, whatever the rules say.
//!
//! A run reads a repository without its fence. It then decides anew about a few tags at a time, while
//! the fence is closed to pushes, recorded pulls and deletions: a client may have pushed a tag again, and
//! a tag may have become the tenth latest because another was deleted. Requests wait for those few
//! deletions at most.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use self::{
    expired::{Candidate, Candidates},
    run::{Rules, Run, Watcher},
};
use super::{
    Error, Events, Gc, Manifests,
    lists::Walk,
    runs::{RunCounter, Runs},
    tree::Tree,
};
use crate::oci::RepositoryName;

mod expired;
mod rules;
mod run;
mod tag_selector;

pub use self::{
    expired::Expired,
    rules::{KeepsNothing, RetentionOptions, RetentionRule},
    tag_selector::TagSelector,
};

/// The result of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// The number of tags that a rule matches.
    pub found: u64,
    /// The number of tags that went, or would have gone.
    pub deleted: u64,
    /// The number of manifests that went with them.
    pub manifests: u64,
}

/// The outcome for a tag, or for a repository in which storage failed.
#[derive(Debug)]
pub struct Decision<'a> {
    /// The repository.
    pub repository: &'a RepositoryName,
    /// A tag that went or would have gone; or the error because of which the other tags stay.
    pub outcome: Result<&'a Expired, &'a Error>,
}

/// Retention.
#[derive(Debug)]
pub struct Retention {
    tree: Arc<Tree>,
    manifests: Arc<Manifests>,
    gc: Arc<Gc>,
    events: Events,
    runs: RunCounter,
    /// The number of deleted tags.
    tags: AtomicU64,
    /// The number of manifests that went with them.
    released: AtomicU64,
}

impl Retention {
    pub(super) fn new(
        tree: Arc<Tree>,
        manifests: Arc<Manifests>,
        gc: Arc<Gc>,
        events: Events,
    ) -> Self {
        Self {
            tree,
            manifests,
            gc,
            events,
            runs: RunCounter::default(),
            tags: AtomicU64::new(0),
            released: AtomicU64::new(0),
        }
    }

    /// Deletes the tags that no rule keeps; with `dry_run`, only reports them. `watcher` receives each
    /// decision when it is carried out, even when this future is dropped meanwhile. When it ends the run,
    /// it still receives the tags that were deleted before, and no further tags are deleted.
    ///
    /// # Errors
    ///
    /// When storage fails: at once where the run cannot list repositories, else at the end, with the
    /// first failure in a repository. Deleted tags stay deleted.
    pub async fn apply(
        self: &Arc<Self>,
        rules: &[RetentionRule],
        dry_run: bool,
        watcher: impl Fn(&Decision<'_>) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Result<Retained, Error> {
        let started = Instant::now();
        let retained = self.apply_everywhere(rules, dry_run, Arc::new(watcher)).await;
        if !dry_run {
            self.runs.count(retained.is_ok(), started.elapsed());
        }
        retained
    }

    /// The runs of this process, without dry runs and dropped runs.
    #[must_use]
    pub fn runs(&self) -> Runs {
        self.runs.runs()
    }

    /// The tags that this process deleted, and the manifests that went with them.
    #[must_use]
    pub fn deleted(&self) -> Retained {
        Retained {
            found: 0,
            deleted: self.tags.load(Ordering::Relaxed),
            manifests: self.released.load(Ordering::Relaxed),
        }
    }

    async fn apply_everywhere(
        self: &Arc<Self>,
        rules: &[RetentionRule],
        dry_run: bool,
        watcher: Arc<Watcher>,
    ) -> Result<Retained, Error> {
        let mut run = Run { retention: self, dry_run, watcher, retained: Retained::default() };
        let mut failed = None;
        let mut walk = Walk::behind(&self.tree, "");
        while let Some(name) = walk.next().await? {
            let about = rules.iter().filter(|rule| rule.scope.covers_some_of(&name));
            let about: Rules = about.cloned().collect();
            if about.is_empty() {
                continue;
            }
            let step = run.repository(&name, &about).await.unwrap_or_else(|error| {
                let step = (run.watcher)(&Decision { repository: &name, outcome: Err(&error) });
                failed.get_or_insert(error);
                step
            });
            if step.is_break() {
                break;
            }
        }
        failed.map_or(Ok(run.retained), Err)
    }
}

#[cfg(test)]
mod tests;
