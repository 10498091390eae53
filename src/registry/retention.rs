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
    collections::HashSet,
    fmt,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use serde::Deserialize;

use super::{
    Ago, Caller, Error, Events, Gc, Manifests, Occurrence, Pattern,
    lists::Walk,
    runs::{RunCounter, Runs},
    tree::{CURRENT, Removing, Tree, TreeKey},
};
use crate::{
    oci::{Digest, References, RepositoryName, Tag},
    storage::Look,
};

mod tag_selector;

pub use tag_selector::{Glob, InvalidGlob, TagSelector};

/// So many tags are deleted while the repository is held. For each of them the disk syncs, and who
/// pushes waits.
const BATCH: usize = 32;

/// `storage.retention`
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct RetentionOptions {
    /// How often it is looked for tags that go.
    pub interval: Duration,
    /// Says which would go, and lets them stay.
    pub dryrun: bool,
    /// Which stay. A tag that is under none of them stays.
    pub rules: Vec<RetentionRule>,
}

impl Default for RetentionOptions {
    /// Without rules, so that nothing goes.
    fn default() -> Self {
        Self { interval: Duration::from_secs(24 * 3600), dryrun: false, rules: Vec::new() }
    }
}

impl RetentionOptions {
    /// Whether any rule asks when something was pulled.
    pub(super) fn asks_for_pulls(&self) -> bool {
        self.rules.iter().any(|rule| rule.keep.pulled_within.is_some())
    }
}

/// An item of `storage.retention.rules`: some tags, and which of them stay.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "WrittenRule")]
pub struct RetentionRule {
    scope: TagSelector,
    keep: Keep,
}

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct WrittenRule {
    repositories: Option<Glob>,
    tags: Option<Pattern>,
    keeplatest: Option<usize>,
    keeppushedwithin: Option<Duration>,
    keeppulledwithin: Option<Duration>,
}

/// What keeps a tag: any of these.
#[derive(Clone, Copy, Debug)]
struct Keep {
    /// It is among so many that were pushed last, of those in its repository that are under the
    /// rule.
    latest: Option<usize>,
    /// It was pushed within this time.
    pushed_within: Option<Duration>,
    /// What it names was pulled within this time; if it never was, as if it had been when it was
    /// pushed.
    pulled_within: Option<Duration>,
}

/// A rule that would delete every tag that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a rule that keeps nothing would delete every tag it is about; say what stays with keeplatest, \
     keeppushedwithin or keeppulledwithin"
)]
pub struct KeepsNothing;

impl TryFrom<WrittenRule> for RetentionRule {
    type Error = KeepsNothing;

    fn try_from(written: WrittenRule) -> Result<Self, KeepsNothing> {
        let WrittenRule { repositories, tags, .. } = written;
        // Nothing is among the latest none, and nothing happened within no time.
        let keep = Keep {
            latest: written.keeplatest.filter(|latest| *latest > 0),
            pushed_within: written.keeppushedwithin.filter(|within| !within.is_zero()),
            pulled_within: written.keeppulledwithin.filter(|within| !within.is_zero()),
        };
        match keep {
            Keep { latest: None, pushed_within: None, pulled_within: None } => Err(KeepsNothing),
            keep => Ok(Self { scope: TagSelector { repositories, tags }, keep }),
        }
    }
}

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

/// A tag that nothing keeps. Shown, it is the reason: `not among the 10 latest, pushed 45 days ago`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The tag.
    pub tag: Tag,
    /// What it names.
    pub digest: Option<Digest>,
    /// Among how many it would have had to be.
    latest: Option<usize>,
    /// How long ago it was pushed.
    pushed: Duration,
    /// How long ago it was last pulled, where that counts: `None` in it if never since it was pushed.
    pulled: Option<Option<Duration>>,
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(latest) = self.latest {
            write!(f, "not among the {latest} latest, ")?;
        }
        write!(f, "pushed {}", Ago(self.pushed))?;
        match self.pulled {
            None => Ok(()),
            Some(None) => f.write_str(", not pulled since"),
            Some(Some(pulled)) => write!(f, ", pulled {}", Ago(pulled)),
        }
    }
}

/// A tag under a rule.
#[derive(Debug)]
struct Candidate {
    tag: Tag,
    keep: Keep,
    /// How many of those under the rule were pushed later.
    rank: usize,
    pushed: SystemTime,
}

/// The rules about a repository.
type Rules = Arc<[RetentionRule]>;

/// Receives decisions.
type Watcher = dyn Fn(&Decision<'_>) -> ControlFlow<()> + Send + Sync;

/// A run over all repositories.
struct Run<'a> {
    retention: &'a Arc<Retention>,
    dry_run: bool,
    watcher: Arc<Watcher>,
    retained: Retained,
}

impl Run<'_> {
    /// Applies the rules to one repository.
    async fn repository(
        &mut self,
        name: &RepositoryName,
        rules: &Rules,
    ) -> Result<ControlFlow<()>, Error> {
        let (now, candidates) = self.retention.candidates(name, rules).await?;
        self.retained.found += candidates.len() as u64;
        let mut expired = Vec::new();
        for candidate in candidates {
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
            // A batch that has begun ends, even if the server stops: a tag that went has its line in
            // the log, and its manifest goes with it.
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

/// Tags of a repository that go together.
struct Batch {
    name: RepositoryName,
    rules: Rules,
    tags: HashSet<Tag>,
    watcher: Arc<Watcher>,
}

/// The result of a batch.
struct Expiry {
    /// How many tags went.
    tags: u64,
    /// How many manifests went with them.
    manifests: u64,
    step: ControlFlow<()>,
    /// Why no more went.
    failed: Option<Error>,
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

    /// Deletes a batch of tags, and the manifests that have no tag any more. The watcher receives
    /// each tag that has gone, also when something fails then.
    async fn expire(&self, batch: Batch) -> Result<Expiry, Error> {
        let Batch { name, rules, tags, watcher } = batch;
        let (gone, mut failed) = self.expire_tags(&name, &rules, &tags).await?;
        let released: Vec<Digest> =
            gone.iter().filter_map(|expired| expired.digest.clone()).collect();
        let mut manifests = 0;
        if !released.is_empty() {
            // One may have got a tag again: that is seen when it is decided.
            match self.gc.remove_released(&name, &released).await {
                Ok(removed) => manifests = removed,
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        let tags = gone.len() as u64;
        self.tags.fetch_add(tags, Ordering::Relaxed);
        self.released.fetch_add(manifests, Ordering::Relaxed);
        let mut step = ControlFlow::Continue(());
        for expired in &gone {
            // A watcher that ends the run has to hear of all that has gone already.
            if watcher(&Decision { repository: &name, outcome: Ok(expired) }).is_break() {
                step = ControlFlow::Break(());
            }
        }
        Ok(Expiry { tags, manifests, step, failed })
    }

    /// Deletes those of some tags that nothing keeps now; also returns those that have gone when
    /// something fails then.
    async fn expire_tags(
        &self,
        name: &RepositoryName,
        rules: &[RetentionRule],
        tags: &HashSet<Tag>,
    ) -> Result<(Vec<Expired>, Option<Error>), Error> {
        let alone = self.tree.closing(name).await?;
        let (now, candidates) = self.candidates(name, rules).await?;
        let mut gone = Vec::new();
        let mut failed = None;
        for candidate in candidates.into_iter().filter(|found| tags.contains(&found.tag)) {
            match self.expire_tag(name, candidate, now, &alone).await {
                Ok(expired) => gone.extend(expired),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let opened = alone.open().await;
        let caller = Caller::job("retention");
        for expired in &gone {
            let occurrence = Occurrence::TagDeleted(expired.tag.clone());
            self.events.emit(&caller, name, occurrence).await;
        }
        Ok((gone, failed.or_else(|| opened.err())))
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

    /// The tags of a repository that are under a rule, and what time it is.
    async fn candidates(
        &self,
        name: &RepositoryName,
        rules: &[RetentionRule],
    ) -> Result<(SystemTime, Vec<Candidate>), Error> {
        let look = Look { folder: TreeKey::Tags(name).key(), object: Some(CURRENT) };
        let now = self.tree.storage().time().await?;
        let seen = self.tree.storage().survey(vec![look]).await?.into_iter().flatten();
        let mut tags: Vec<(SystemTime, Tag)> =
            seen.filter_map(|seen| Some((seen.object?.1, seen.name.parse().ok()?))).collect();
        // The latest first; of what was pushed at once, the one whose name comes last.
        tags.sort_unstable_by(|a, b| (b.0, b.1.as_str()).cmp(&(a.0, a.1.as_str())));
        let mut ranks = vec![0; rules.len()];
        let under = tags.into_iter().filter_map(|(pushed, tag)| {
            let rule = rules.iter().position(|rule| rule.scope.covers(&tag))?;
            let rank = ranks[rule];
            ranks[rule] += 1;
            Some(Candidate { tag, keep: rules[rule].keep, rank, pushed })
        });
        Ok((now, under.collect()))
    }

    /// Why a tag goes; `None` if something keeps it.
    async fn expired(
        &self,
        name: &RepositoryName,
        candidate: Candidate,
        now: SystemTime,
    ) -> Result<Option<Expired>, Error> {
        let Candidate { tag, keep, rank, pushed } = candidate;
        // What is later than now was just now.
        let since = |time| now.duration_since(time).unwrap_or_default();
        if keep.latest.is_some_and(|latest| rank < latest)
            || keep.pushed_within.is_some_and(|within| since(pushed) < within)
        {
            return Ok(None);
        }
        let digest = self.tree.link(TreeKey::TagCurrent(name, &tag)).await?;
        if let Some(digest) = &digest
            && self.is_unclear(name, digest).await?
        {
            return Ok(None);
        }
        let mut pulled = None;
        if let Some(within) = keep.pulled_within {
            let last = match &digest {
                Some(digest) => self.manifests.last_pulled(name, digest).await?,
                None => None,
            };
            // It may have been pulled by another tag, before this one.
            let last = last.filter(|last| *last > pushed);
            if since(last.unwrap_or(pushed)) < within {
                return Ok(None);
            }
            pulled = Some(last.map(since));
        }
        Ok(Some(Expired { tag, digest, latest: keep.latest, pushed: since(pushed), pulled }))
    }

    /// Whether a repository has a manifest that cannot be read. Of such a manifest everything stays,
    /// and a tag is all that people know it by.
    async fn is_unclear(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        let key = TreeKey::Revision(name, digest).key();
        if self.tree.storage().size(&key).await?.is_none() {
            return Ok(false);
        }
        let content = self.manifests.revision(name, digest).await?;
        let is_clear = content.is_some_and(|content| References::of(&content.bytes).is_some());
        if !is_clear {
            self.tree.skip(&key, "a manifest that cannot be read; it and its tags stay");
        }
        Ok(!is_clear)
    }
}

#[cfg(test)]
mod tests;
