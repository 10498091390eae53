//! Collection: what nobody needs any more goes, while others push.
//!
//! A collection goes through the repositories first. In each it finds the manifests that stay, takes
//! away those that need not where it was asked to, and the links to blobs that no manifest of the
//! repository names; what is left is *marked*. Then it goes through the bytes, and those that were
//! not marked go. Only what is older than a time of *grace* goes at all.
//!
//! Three things keep a push whole that runs beside it, in this process or in another:
//!
//! - In a repository it decides under the lock that keeps additions out, so that what is true when it
//!   decides is true when it removes. What is seen without the lock only tells where to look.
//! - Of bytes it cannot know under a lock whether a link to them was made behind its back, for that
//!   may be in any repository. So whoever makes one [renews](crate::storage::Storage::renew) the
//!   bytes, and bytes that were renewed since the collection began stay. Who had renewed them before
//!   and not made the link yet is waited for at the beginning.
//! - Who was told that something is there relies on it for as long as the grace: it is renewed
//!   when they are told (`tree/lease.rs`).
//!
//! Nothing is remembered between two collections, and one that ends in the middle has left nothing
//! behind but garbage for the next.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use serde::Deserialize;

use self::{mark_set::MarkSet, repository::Memory, walk::Folders};
use super::{
    Caller, Error, Events,
    runs::{RunCounter, Runs},
    tree::{Tree, lease},
};
use crate::{
    oci::{Digest, RepositoryName},
    storage::fences::Run,
};

mod apply;
mod content;
mod mark_set;
#[cfg(test)]
mod odd;
#[cfg(test)]
mod races;
mod reachability;
mod repository;
mod sweep;
#[cfg(test)]
mod tests;
mod walk;

/// `storage.maintenance.garbagecollection`, which registry:2 does not have.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct CollectionOptions {
    /// Whether the server collects by itself.
    pub enabled: bool,
    /// How often.
    pub interval: Duration,
    /// How old has to be what goes, and for how long somebody can rely on it who was told that it is
    /// there.
    pub grace: Duration,
    /// Whether manifests go that nothing names.
    pub deleteuntagged: bool,
}

impl Default for CollectionOptions {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self { enabled: true, interval: 24 * hour, grace: 2 * hour, deleteuntagged: false }
    }
}

/// How to collect.
#[derive(Clone, Copy, Debug)]
pub struct Collect {
    /// How old has to be what goes.
    pub grace: Duration,
    /// Whether manifests go that no tag, no index, no subject and no referrer keeps.
    pub untagged: bool,
    /// Only says what would go.
    pub dry_run: bool,
    /// Works a quarter of the time, for others wait for the same disk and processors.
    pub gently: bool,
}

/// What a collection comes across.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GcEvent<'a> {
    /// A repository, by its folder, for it may have a name that none can have.
    Repository(&'a str),
    /// A manifest of it that stays.
    Manifest(&'a Digest),
    /// Something that a manifest of it names, which therefore stays.
    Named(&'a Digest),
    /// A manifest of it that goes.
    Untagged(&'a Digest),
    /// A link of it that goes: no manifest names the blob.
    Link(&'a Digest),
    /// It holds nothing any more, and goes.
    Empty,
    /// All of it stays, and why.
    Kept(&'a str),
    /// All repositories have been seen.
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

/// Is told of what a collection comes across, in that order.
pub trait GcObserver: Send + Sync {
    /// Hears of it.
    fn found(&mut self, found: GcEvent<'_>);

    /// Whether it shall end before its end. What it has begun it does.
    fn is_over(&self) -> bool {
        false
    }
}

/// What came of a collection: what went, or would have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Repositories that were seen.
    pub repositories: u64,
    /// Repositories that went because they were empty.
    pub emptied: u64,
    /// Repositories of which all stays because something in them cannot be read.
    pub kept: u64,
    /// Manifests.
    pub manifests: u64,
    /// Links of repositories to blobs.
    pub links: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// While one works, others rest three times as long.
const REST: u32 = 3;

/// What a run is to do, for whom.
struct Task<'a> {
    caller: Caller,
    how: Collect,
    watch: &'a mut dyn GcObserver,
    limits: Limits,
    run: Option<Box<dyn Run>>,
}

/// One run.
struct Collection<'a> {
    tree: &'a Tree,
    events: &'a Events,
    /// Who collects, for events.
    caller: Caller,
    how: Collect,
    watch: &'a mut dyn GcObserver,
    limits: Limits,
    /// Under which bytes go; `None` where they stay.
    run: Option<Box<dyn Run>>,
    marks: MarkSet,
    memory: Memory,
    collected: Collected,
}

/// What is younger than these stays.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Links and revisions. They may have been renewed a little less often than they were told of.
    names: SystemTime,
    /// Bytes, and uploads.
    bytes: SystemTime,
    /// When the collection began, by the clock of the storage.
    began: SystemTime,
}

impl Limits {
    fn new(began: SystemTime, grace: Duration) -> Self {
        let before = |age| began.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        Self { names: before(grace + lease::slack(grace)), bytes: before(grace), began }
    }
}

/// Garbage collection.
#[derive(Debug)]
pub struct Gc {
    tree: Arc<Tree>,
    events: Events,
    runs: RunCounter,
    removed: Removed,
}

/// What collections removed, for metrics.
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
    pub(super) fn new(tree: Arc<Tree>, events: Events) -> Self {
        Self { tree, events, runs: RunCounter::default(), removed: Removed::default() }
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

    /// Removes what nobody needs; with `dry_run`, only says what.
    ///
    /// It may run beside everything else, other collections included, in this process and in others.
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
        let (collected, result) = match self.task(how, watch).await {
            Ok(task) => {
                let mut collection = Collection::new(self, task);
                let result = collection.collect().await;
                (collection.collected, result)
            }
            Err(error) => (Collected::default(), Err(error)),
        };
        if !is_dry {
            self.runs.count(result.is_ok(), started.elapsed());
            // A run that failed may have removed something before.
            self.removed.add(&collected);
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
            // Where nothing can be written nothing is renewed, and one clock is as good as another.
            None => self.tree.storage().time().await.unwrap_or_else(|_| SystemTime::now()),
        };
        let limits = Limits::new(began, how.grace);
        Ok(Task { caller: Caller::job("garbage-collect"), how, watch, limits, run })
    }

    /// Removes those manifests of a repository that nothing keeps since these, which were `released`,
    /// have lost a tag: they, what only they refer to, and what refers only to them. Tells how many.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub(super) async fn remove_released(
        &self,
        name: &RepositoryName,
        released: &[Digest],
    ) -> Result<u64, Error> {
        struct Nobody;
        impl GcObserver for Nobody {
            fn found(&mut self, _: GcEvent<'_>) {}
        }
        let released: HashSet<Digest> = released.iter().cloned().collect();
        // Whoever took the tags decided that they are not needed.
        let grace = Duration::ZERO;
        let how = Collect { grace, untagged: true, dry_run: false, gently: false };
        let limits = Limits::new(self.tree.storage().time().await?, grace);
        let mut nobody = Nobody;
        let caller = Caller::job("retention");
        let task = Task { caller, how, watch: &mut nobody, limits, run: None };
        let mut collection = Collection::new(self, task);
        collection.take_released(name, &released).await?;
        Ok(collection.collected.manifests)
    }
}

impl<'a> Collection<'a> {
    fn new(gc: &'a Gc, task: Task<'a>) -> Self {
        let Task { caller, how, watch, limits, run } = task;
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
            collected: Collected::default(),
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

    /// Lets others work.
    async fn rest(&self, began: Instant) -> Result<(), Error> {
        if self.how.gently {
            tokio::time::sleep(began.elapsed() * REST).await;
        }
        Ok(())
    }
}
