//! A run of retention: it deletes tags in batches, each with its manifests.

use std::{
    collections::HashSet,
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use super::{Candidate, Candidates, Decision, Expired, Retained, Retention, RetentionRule};
use crate::{
    oci::{Digest, RepositoryName, Tag},
    registry::{Caller, Error, Occurrence, tree::Removing},
};

/// How many tags are deleted while the fence of the repository is closed. Each deletion syncs the disk,
/// and pushes wait.
pub(super) const BATCH: usize = 32;

/// The rules that match a repository.
pub(super) type Rules = Arc<[RetentionRule]>;

/// Receives decisions.
pub(super) type Watcher = dyn Fn(&Decision<'_>) -> ControlFlow<()> + Send + Sync;

/// A run over all repositories.
pub(super) struct Run<'a> {
    pub(super) retention: &'a Arc<Retention>,
    pub(super) dry_run: bool,
    pub(super) watcher: Arc<Watcher>,
    pub(super) retained: Retained,
}

impl Run<'_> {
    /// Applies the rules to one repository.
    pub(super) async fn repository(
        &mut self,
        name: &RepositoryName,
        rules: &Rules,
    ) -> Result<ControlFlow<()>, Error> {
        let Candidates { tags, now } = self.retention.candidates(name, rules).await?;
        self.retained.found += tags.len() as u64;
        let mut expired = Vec::new();
        for candidate in tags {
            expired.extend(self.retention.expired(name, candidate, now).await?);
        }
        if self.dry_run {
            return Ok(expired.iter().try_for_each(|expired| {
                self.retained.deleted += 1;
                (self.watcher)(&Decision { repository: name, outcome: Ok(expired) })
            }));
        }
        for some in expired.chunks(BATCH) {
            let retention = Arc::clone(self.retention);
            let batch = Batch {
                name: name.clone(),
                rules: Arc::clone(rules),
                tags: some.iter().map(|expired| expired.tag.clone()).collect(),
                watcher: Arc::clone(&self.watcher),
            };
            // A batch that has begun runs to its end, even if the server stops: each deleted tag gets its
            // line in the log, and its manifest is deleted with it.
            let work = async move { retention.expire(batch).await };
            let expiry = self.retention.tree.detached(work).await?;
            self.retained.deleted += expiry.tags;
            self.retained.manifests += expiry.manifests;
            match expiry.failed {
                Some(error) => return Err(error),
                None if expiry.step.is_break() => return Ok(expiry.step),
                None => {}
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Tags of a repository that are deleted together.
struct Batch {
    name: RepositoryName,
    rules: Rules,
    tags: HashSet<Tag>,
    watcher: Arc<Watcher>,
}

/// The result of a batch.
struct Expiry {
    /// The number of deleted tags.
    tags: u64,
    /// The number of manifests deleted with them.
    manifests: u64,
    step: ControlFlow<()>,
    /// The error that ended the batch.
    failed: Option<Error>,
}

/// The deleted tags of a batch.
struct DeletedTags {
    tags: Vec<Expired>,
    /// The error that ended the batch.
    failed: Option<Error>,
}

impl Retention {
    /// Deletes a batch of tags, and the manifests that have no tag any more. The watcher receives each
    /// deleted tag, even after a failure.
    async fn expire(&self, batch: Batch) -> Result<Expiry, Error> {
        let Batch { name, rules, tags, watcher } = batch;
        let DeletedTags { tags: deleted, mut failed } =
            self.expire_tags(&name, &rules, &tags).await?;
        let released: Vec<Digest> =
            deleted.iter().filter_map(|expired| expired.digest.clone()).collect();
        let mut manifests = 0;
        if !released.is_empty() {
            // A manifest that has got another tag meanwhile is kept.
            match self.gc.remove_released(&name, &released).await {
                Ok(removed) => manifests = removed,
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        let tags = deleted.len() as u64;
        self.tags.fetch_add(tags, Ordering::Relaxed);
        self.released.fetch_add(manifests, Ordering::Relaxed);
        let mut step = ControlFlow::Continue(());
        for expired in &deleted {
            // A watcher that ends the run still receives all deleted tags.
            if watcher(&Decision { repository: &name, outcome: Ok(expired) }).is_break() {
                step = ControlFlow::Break(());
            }
        }
        Ok(Expiry { tags, manifests, step, failed })
    }

    /// Deletes the tags among `tags` that no condition keeps now. Returns the deleted tags even after a
    /// failure, with the error.
    async fn expire_tags(
        &self,
        name: &RepositoryName,
        rules: &[RetentionRule],
        tags: &HashSet<Tag>,
    ) -> Result<DeletedTags, Error> {
        let alone = self.tree.closing(name).await?;
        let candidates = self.candidates(name, rules).await?;
        let now = candidates.now;
        let mut deleted = Vec::new();
        let mut failed = None;
        for candidate in candidates.tags.into_iter().filter(|found| tags.contains(&found.tag)) {
            match self.expire_tag(name, candidate, now, &alone).await {
                Ok(expired) => deleted.extend(expired),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let opened = alone.open().await;
        let caller = Caller::job("retention");
        for expired in &deleted {
            let occurrence = Occurrence::TagDeleted(expired.tag.clone());
            self.events.emit(&caller, name, occurrence).await;
        }
        Ok(DeletedTags { tags: deleted, failed: failed.or_else(|| opened.err()) })
    }

    async fn expire_tag(
        &self,
        name: &RepositoryName,
        candidate: Candidate,
        now: SystemTime,
        alone: &Removing<'_>,
    ) -> Result<Option<Expired>, Error> {
        let Some(expired) = self.expired(name, candidate, now).await? else { return Ok(None) };
        self.manifests.remove_tag(name, &expired.tag, alone).await?;
        Ok(Some(expired))
    }
}
