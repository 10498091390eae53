//! Tags that go by themselves: `storage.retention`.
//!
//! A tag is under the first rule that is about it, and stays if any of that rule's conditions holds.
//! When it was pushed is when its link was last written. With its last tag a manifest goes, and what
//! is there for that manifest alone; the blobs are the collector's. A tag stays whatever the rules say
//! while its manifest cannot be read.
//!
//! A repository is looked at without a lock. What is to go is looked at again, a few tags at a time,
//! while nobody can push, pull on record or delete there: a tag may have been pushed again, and one
//! may have become the tenth latest because another was deleted. Nobody waits for more than those
//! few deletions.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use self::{
    expired::Candidate,
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
    tag_selector::{Glob, InvalidGlob, TagSelector},
};

/// What came of a look for tags that go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// How many tags are under a rule.
    pub found: u64,
    /// How many of them went, or would have.
    pub deleted: u64,
    /// How many manifests went with them.
    pub manifests: u64,
}

/// What became of a tag, or of a repository in which storage failed.
#[derive(Debug)]
pub struct Decision<'a> {
    /// The repository.
    pub repository: &'a RepositoryName,
    /// A tag that went, or would have; or why the rest of the repository stays.
    pub outcome: Result<&'a Expired, &'a Error>,
}

/// Retention: deletes the tags that no rule keeps.
#[derive(Debug)]
pub struct Retention {
    tree: Arc<Tree>,
    manifests: Arc<Manifests>,
    gc: Arc<Gc>,
    events: Events,
    runs: RunCounter,
    /// How many tags were deleted.
    tags: AtomicU64,
    /// How many manifests went with them.
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

    /// Deletes the tags that no rule keeps; with `dry_run`, only says which. `watcher` receives each
    /// decision when it is carried out, also when this future is dropped meanwhile; it can end the
    /// run, and then receives what had gone by then, and no more goes.
    ///
    /// # Errors
    ///
    /// When storage fails: at once where it cannot be walked, else at the end, with the first
    /// repository of which some stay for that reason. What was deleted stays deleted.
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

    /// The runs of this process; dry runs are not counted, nor runs that were dropped.
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
