//! Online garbage collection: mark and sweep, while clients push and pull.
//!
//! The *mark* phase goes through the repositories. In each it finds the reachable manifests, removes
//! the unreachable ones where `untagged` asks for that, and removes the links to blobs that no
//! manifest of the repository references. It marks the digests that are left. The *sweep* phase goes
//! through the blobs and removes the bytes of digests that are not marked. Neither phase removes
//! anything younger than the *grace period*.
//!
//! Untagged manifests go by one of two options: all of them, or those that have been neither tagged nor
//! pulled for a period. For the second, a collection notes beside the link of a manifest that it finds
//! untagged since when it is; the period begins with the note, so that a tree of another registry loses
//! nothing in the first night. A missing note, a recent pull and a gap in the records of pulls
//! (`registry/pulls/watch.rs`) keep a manifest.
//!
//! Three rules keep a concurrent push whole, in this process or in another:
//!
//! - The collection decides about a repository while the fence of the repository is closed, so its
//!   decision still holds when it removes. A look without the fence only tells where to look again.
//! - No fence of one repository shows whether a link to bytes was made in another. So a push
//!   [renews](crate::storage::fences::Entered::renew) the bytes before it links them, and the sweep
//!   leaves bytes that were renewed since the collection began. The collection begins by waiting for
//!   pushes that had renewed bytes before and had not linked them yet.
//! - A client relies on the answer that an object exists for the grace period: the answer extends the
//!   lease of the object (`tree/lease.rs`).
//!
//! A collection keeps no state for the next one, and an interrupted collection leaves nothing but
//! garbage for the next.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use serde::Deserialize;

use self::{mark_set::MarkSet, repository::Memory};
use super::{
    Caller, Error, Events,
    pulls::{Pulls, held_until},
    quotas::Quotas,
    runs::{RunCounter, Runs},
    tree::{Tree, lease},
    walk::Folders,
};
use crate::{
    oci::{Digest, RepositoryName},
    storage::fences::Run,
};

mod apply;
mod collected;
mod content;
mod mark_set;
mod notes;
#[cfg(test)]
mod odd;
#[cfg(test)]
mod overlaps;
#[cfg(test)]
mod races;
mod reachability;
mod repository;
mod sweep;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unused;
#[cfg(test)]
mod withdrawal;

pub use collected::{Collected, Graced, KeptUntagged, Stored};

/// `storage.maintenance.garbagecollection`, which registry:2 does not have.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct CollectionOptions {
    /// Whether the server collects by itself.
    pub enabled: bool,
    /// How often.
    pub interval: Duration,
    /// The grace period: objects younger than this stay, and a client can rely for this long on the
    /// answer that an object exists.
    pub grace: Duration,
    /// Whether unreachable manifests go.
    pub deleteuntagged: bool,
    /// The period after which unreachable manifests go that are not pulled; zero: they stay.
    pub deleteuntaggedafter: Duration,
}

impl CollectionOptions {
    /// The unreachable manifests that go.
    #[must_use]
    pub const fn untagged(&self) -> Untagged {
        match self.deleteuntagged {
            true => Untagged::Go,
            false if self.deleteuntaggedafter.is_zero() => Untagged::Stay,
            false => Untagged::GoAfter(self.deleteuntaggedafter),
        }
    }
}

/// The manifests that go of those that no tag, no index, no subject and no referrer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untagged {
    /// None.
    Stay,
    /// Those that have been neither tagged nor pulled for this time.
    GoAfter(Duration),
    /// All that are older than the grace period.
    Go,
}

impl Default for CollectionOptions {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self {
            enabled: true,
            interval: 24 * hour,
            grace: 2 * hour,
            deleteuntagged: false,
            deleteuntaggedafter: Duration::ZERO,
        }
    }
}

/// How to collect.
#[derive(Clone, Copy, Debug)]
pub struct Collect {
    /// The grace period: objects younger than this stay.
    pub grace: Duration,
    /// Which manifests go that no tag, no index, no subject and no referrer keeps.
    pub untagged: Untagged,
    /// Reports, and removes nothing.
    pub dry_run: bool,
    /// Works a quarter of the time, because requests need the same disk and processors.
    pub gently: bool,
}

/// An object that a collection finds, or a decision about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GcEvent<'a> {
    /// A repository, by its folder: another registry may have given it a name that is invalid here.
    Repository(&'a str),
    /// A manifest of it that stays.
    Manifest(&'a Digest),
    /// A digest that a manifest of it references, which therefore stays.
    Named(&'a Digest),
    /// A manifest of it that goes.
    Untagged(&'a Digest),
    /// A link of it that goes: no manifest references the blob.
    Link(&'a Digest),
    /// The repository has become empty and goes.
    Empty,
    /// The whole repository stays, for this reason.
    Kept(&'a str),
    /// The mark phase has ended.
    Totals {
        /// How many blobs are marked.
        marked: usize,
        /// How many go.
        blobs: usize,
        /// How many manifests go.
        manifests: u64,
    },
    /// Bytes that go.
    Bytes(&'a Digest),
}

/// Receives the events of a collection, in order.
pub trait GcObserver: Send + Sync {
    /// Receives one event.
    fn found(&mut self, found: GcEvent<'_>);

    /// Whether the collection shall end early. It finishes the removal that it has begun.
    fn is_over(&self) -> bool {
        false
    }
}

/// A gentle collection rests three times as long as it works.
const REST: u32 = 3;

/// The parameters of a collection.
struct Task<'a> {
    caller: Caller,
    how: Collect,
    watch: &'a mut dyn GcObserver,
    limits: Limits,
    /// No untagged manifest goes before.
    held: Option<SystemTime>,
    run: Option<Box<dyn Run>>,
}

/// One collection.
struct Collection<'a> {
    tree: &'a Tree,
    events: &'a Events,
    /// The caller that events name.
    caller: Caller,
    how: Collect,
    watch: &'a mut dyn GcObserver,
    limits: Limits,
    /// The run of the storage's fences that allows the sweep to remove bytes; `None` where it removes
    /// none.
    run: Option<Box<dyn Run>>,
    marks: MarkSet,
    memory: Memory,
    pulls: Option<&'a Pulls>,
    collected: Collected,
    /// The bytes that the sweep found, without those that it removed; `None` until it has ended.
    stored: Option<Stored>,
}

/// Objects younger than these times stay.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Links and revisions. A lease is not extended at each answer, so they get some slack.
    names: SystemTime,
    /// Bytes, and uploads.
    bytes: SystemTime,
    /// When the collection began, by the clock of the storage.
    began: SystemTime,
    /// Untagged manifests that were tagged or pulled since stay; `None` where that does not matter.
    unused: Option<SystemTime>,
}

impl Limits {
    fn new(began: SystemTime, grace: Duration) -> Self {
        let before = |age| began.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        Self {
            names: before(grace + lease::slack(grace)),
            bytes: before(grace),
            began,
            unused: None,
        }
    }
}

/// Garbage collection.
#[derive(Debug)]
pub struct Gc {
    tree: Arc<Tree>,
    events: Events,
    runs: RunCounter,
    removed: Removed,
    /// What the last whole collection left.
    stored: Mutex<Option<Stored>>,
    /// The records of pulls that this process makes.
    pulls: Option<Arc<Pulls>>,
    /// The counts that are wrong after a collection.
    quotas: Arc<Quotas>,
}

/// Counts the objects that collections removed, for metrics.
#[derive(Debug, Default)]
struct Removed {
    manifests: AtomicU64,
    links: AtomicU64,
    blobs: AtomicU64,
    bytes: AtomicU64,
}

impl Removed {
    fn add(&self, collected: &Collected) {
        self.manifests.fetch_add(collected.manifests, Ordering::Relaxed);
        self.links.fetch_add(collected.links, Ordering::Relaxed);
        self.blobs.fetch_add(collected.blobs, Ordering::Relaxed);
        self.bytes.fetch_add(collected.bytes, Ordering::Relaxed);
    }
}

impl Gc {
    pub(super) fn new(
        tree: Arc<Tree>,
        events: Events,
        pulls: Option<Arc<Pulls>>,
        quotas: Arc<Quotas>,
    ) -> Self {
        Self {
            tree,
            events,
            runs: RunCounter::default(),
            removed: Removed::default(),
            stored: Mutex::default(),
            pulls,
            quotas,
        }
    }

    /// The bytes that the last collection of this process left; `None` before one has ended.
    #[must_use]
    pub fn stored(&self) -> Option<Stored> {
        *self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The collections of this process; dry runs are not counted.
    #[must_use]
    pub fn runs(&self) -> Runs {
        self.runs.runs()
    }

    /// The manifests, links, blobs and bytes that the collections of this process removed.
    #[must_use]
    pub fn removed(&self) -> Collected {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Collected {
            manifests: read(&self.removed.manifests),
            links: read(&self.removed.links),
            blobs: read(&self.removed.blobs),
            bytes: read(&self.removed.bytes),
            ..Collected::default()
        }
    }

    /// Collects garbage; with `dry_run`, only reports it.
    ///
    /// A collection may run beside everything else, other collections included, in this process and
    /// in others.
    ///
    /// # Errors
    ///
    /// When storage fails. Bytes go only when every repository could be looked through.
    pub async fn collect(
        &self,
        how: Collect,
        watch: &mut dyn GcObserver,
    ) -> Result<Collected, Error> {
        let started = Instant::now();
        let is_dry = how.dry_run;
        let mut stored = None;
        let (collected, result) = match self.task(how, watch).await {
            Ok(task) => {
                let mut collection = Collection::new(self, task);
                let result = collection.collect().await;
                stored = collection.stored;
                (collection.collected, result)
            }
            Err(error) => (Collected::default(), Err(error)),
        };
        if !is_dry {
            self.runs.count(result.is_ok(), started.elapsed());
            // A run that failed may have removed something before.
            self.removed.add(&collected);
            self.quotas.forget_counts();
            if result.is_ok() && stored.is_some() {
                *self.stored.lock().unwrap_or_else(PoisonError::into_inner) = stored;
            }
        }
        result.map(|()| collected)
    }

    async fn task<'a>(
        &self,
        how: Collect,
        watch: &'a mut dyn GcObserver,
    ) -> Result<Task<'a>, Error> {
        let run = match how.dry_run {
            true => None,
            false => Some(self.tree.storage().fences().begin_run().await?),
        };
        let began = match &run {
            Some(run) => run.began(),
            // A dry run works on a read-only storage too. Nothing is renewed there, so the clock of
            // this process does as well.
            None => self.tree.storage().time().await.unwrap_or_else(|_| SystemTime::now()),
        };
        let mut limits = Limits::new(began, how.grace);
        let mut held = None;
        if let Untagged::GoAfter(period) = how.untagged {
            held = held_until(&self.tree, period, began).await?;
            let unused = began.checked_sub(period).filter(|_| held.is_none());
            limits.unused = Some(unused.unwrap_or(SystemTime::UNIX_EPOCH));
        }
        Ok(Task { caller: Caller::job("garbage-collect"), how, watch, limits, held, run })
    }

    /// The untagged manifests of a repository, and the bytes that only they need there. Other repositories
    /// may need some of these bytes.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn untagged_in(&self, name: &RepositoryName) -> Result<KeptUntagged, Error> {
        let mut ignore = Ignore;
        let grace = Duration::ZERO;
        let how = Collect { grace, untagged: Untagged::Stay, dry_run: true, gently: false };
        let limits = Limits::new(SystemTime::UNIX_EPOCH, grace);
        let caller = Caller::default();
        let task = Task { caller, how, watch: &mut ignore, limits, held: None, run: None };
        Collection::new(self, task).untagged_in(name).await
    }

    /// Removes the manifests of a repository that became unreachable when the `released` manifests
    /// lost a tag: those manifests, their descendants, and their referrers. Returns their number.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub(super) async fn remove_released(
        &self,
        name: &RepositoryName,
        released: &[Digest],
    ) -> Result<u64, Error> {
        let released: HashSet<Digest> = released.iter().cloned().collect();
        // Retention has decided that they go, so they get no grace period.
        let grace = Duration::ZERO;
        let how = Collect { grace, untagged: Untagged::Go, dry_run: false, gently: false };
        let limits = Limits::new(self.tree.storage().time().await?, grace);
        let mut ignore = Ignore;
        let caller = Caller::job("retention");
        let task = Task { caller, how, watch: &mut ignore, limits, held: None, run: None };
        let mut collection = Collection::new(self, task);
        collection.take_released(name, &released).await?;
        Ok(collection.collected.manifests)
    }
}

/// An observer of what needs none.
struct Ignore;

impl GcObserver for Ignore {
    fn found(&mut self, _: GcEvent<'_>) {}
}

impl<'a> Collection<'a> {
    fn new(gc: &'a Gc, task: Task<'a>) -> Self {
        let Task { caller, how, watch, limits, held, run } = task;
        let mut collected = Collected::default();
        collected.untagged.held_until = held;
        Self {
            tree: &gc.tree,
            events: &gc.events,
            caller,
            how,
            watch,
            limits,
            run,
            marks: MarkSet::default(),
            memory: Memory::default(),
            pulls: gc.pulls.as_deref(),
            collected,
            stored: None,
        }
    }

    async fn collect(&mut self) -> Result<(), Error> {
        self.repositories().await?;
        if !self.watch.is_over() {
            self.sweep().await?;
        }
        if let Some(run) = self.run.take() {
            run.end().await?;
        }
        Ok(())
    }

    async fn repositories(&mut self) -> Result<(), Error> {
        let mut folders = Folders::new();
        loop {
            let began = Instant::now();
            let Some(batch) = folders.next(self.tree).await? else { return Ok(()) };
            let contents = self.look(&batch, false).await?;
            for (place, content) in batch.iter().zip(contents) {
                if self.watch.is_over() {
                    return Ok(());
                }
                self.repository(place, content).await?;
            }
            self.rest(began).await?;
        }
    }

    /// Leaves the disk and the processors to requests.
    async fn rest(&self, began: Instant) -> Result<(), Error> {
        if self.how.gently {
            tokio::time::sleep(began.elapsed() * REST).await;
        }
        Ok(())
    }
}
