//! The core: blobs, uploads, manifests, tags, referrers and the catalog, over a [`Storage`].
//!
//! The core knows no HTTP and no policy: a caller of a method has the right to call it. Each part has a
//! type of its own, and [`Registry`] composes them. Only `tree/key.rs` knows the layout of the tree.
//!
//! The order of writes is the same everywhere: a reference is written after its target is durable. Blob
//! data, then its link; manifest data, then its referrer entry, its revision, its tag. Deletion runs
//! the other way. So a crash between two writes leaves garbage, never a reference to a missing target.
//!
//! [`Storage`]: crate::storage::Storage

use std::{fmt, sync::Arc, time::Duration};

use self::{
    manifests::ManifestPolicy,
    pulls::{PullWatch, Pulls},
    quotas::Quotas,
    tree::Tree,
    verify::Verification,
};
pub use crate::storage::ByteStream;
use crate::storage::Storage;

mod blobs;
mod delete_repository;
mod error;
mod events;
mod gc;
mod lists;
mod manifests;
mod pulls;
mod quotas;
mod retention;
mod runs;
mod tree;
mod uploads;
mod usage;
pub mod verify;
mod walk;

pub use self::{
    blobs::{Blob, Blobs, DeleteMode},
    error::{BodyError, Error},
    events::{Action, Caller, Event, EventSink, Events, ManifestContent, Occurrence, Request},
    gc::{
        Collect, Collected, CollectionOptions, Gc, GcEvent, GcObserver, Graced, KeptUntagged,
        Stored, Untagged,
    },
    lists::{CatalogQuery, Filter, Holdings, Inventory, Lists, Page, Referrers, Shown, TagContent},
    manifests::{
        Accepted, ExistingTags, IndexRules, ManifestRules, Manifests, Pattern, Platforms,
        PolicyOptions, Put, RepositoryPolicy, StoredManifest, TagExists, TagImmutable, TagRules,
        Unacceptable, UrlRules, Validation,
    },
    pulls::Access,
    quotas::{InvalidQuota, Quota, QuotaExceeded, UselessQuota, useless as useless_quotas},
    retention::{
        Decision, Expired, KeepsNothing, Retained, Retention, RetentionOptions, RetentionRule,
        TagSelector,
    },
    runs::Runs,
    uploads::{
        BlobTooLarge, Body, Chunk, InvalidUploadId, NewUpload, OldUpload, PurgeOptions, Purged,
        Upload, UploadId, UploadLimits, Uploads,
    },
    usage::{Usage, UsageObserver, Used},
};

/// A registry over some storage, composed of its parts. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    tree: Arc<Tree>,
    uploads: Arc<Uploads>,
    manifests: Arc<Manifests>,
    blobs: Arc<Blobs>,
    lists: Arc<Lists>,
    gc: Arc<Gc>,
    retention: Arc<Retention>,
    usage: Usage,
    quotas: Arc<Quotas>,
    verification: Verification,
    events: Events,
    /// Where untagged manifests go when they are not pulled any more.
    pull_watch: Option<PullWatch>,
}

/// The options of a registry.
#[derive(Clone, Debug)]
pub struct Options {
    /// The limits for the uploads of a user.
    pub uploads: UploadLimits,
    /// The rules for manifests.
    pub validation: Validation,
    /// The classes of content that clients may push.
    pub policy: PolicyOptions,
    /// The grace period of garbage collection, which is the length of leases.
    pub grace: Duration,
    /// How long an untagged manifest stays without a pull; zero: always.
    pub untagged: Duration,
    /// The rules for tags.
    pub tags: TagRules,
    /// How many bytes repositories may hold.
    pub quotas: Vec<Quota>,
    /// The receiver of events.
    pub events: Events,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            uploads: UploadLimits::default(),
            validation: Validation::default(),
            policy: PolicyOptions::default(),
            grace: CollectionOptions::default().grace,
            untagged: Duration::ZERO,
            tags: TagRules::default(),
            quotas: Vec::new(),
            events: Events::default(),
        }
    }
}

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> jiff::Timestamp;
}

/// The clock of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

impl Registry {
    /// A registry whose content is in `storage`.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>, options: Options) -> Self {
        let Options { uploads, validation, policy, grace, untagged, tags, quotas, events } =
            options;
        let tree = Arc::new(Tree::new(storage, grace));
        let TagRules { immutabletags, retention: rules } = tags;
        let counts_heads = !untagged.is_zero();
        let pulls = (rules.asks_for_pulls() || counts_heads)
            .then(|| Arc::new(Pulls::new(Arc::clone(&tree), Arc::clone(&clock), counts_heads)));
        let pull_watch = pulls.clone().filter(|_| counts_heads);
        let pull_watch = pull_watch.map(|pulls| PullWatch::new(Arc::clone(&tree), pulls, untagged));
        let manifests = Manifests::new(
            Arc::clone(&tree),
            events.clone(),
            manifests::Rules { policy: ManifestPolicy::new(validation, policy), immutabletags },
            pulls.clone(),
        );
        let manifests = Arc::new(manifests);
        let quotas = Arc::new(Quotas::new(Arc::clone(&tree), quotas));
        let gc = Gc::new(Arc::clone(&tree), events.clone(), pulls, Arc::clone(&quotas));
        let gc = Arc::new(gc);
        let uploads = Uploads::new(
            Arc::clone(&tree),
            Arc::clone(&clock),
            events.clone(),
            Arc::clone(&quotas),
            uploads,
        );
        let blobs = Blobs::new(
            Arc::clone(&tree),
            Arc::clone(&manifests),
            events.clone(),
            Arc::clone(&quotas),
        );
        let retention = Retention::new(
            Arc::clone(&tree),
            Arc::clone(&manifests),
            Arc::clone(&gc),
            events.clone(),
        );
        Self(Arc::new(Parts {
            uploads: Arc::new(uploads),
            blobs: Arc::new(blobs),
            lists: Arc::new(Lists::new(Arc::clone(&tree), Arc::clone(&manifests))),
            retention: Arc::new(retention),
            usage: Usage::new(Arc::clone(&tree)),
            quotas,
            verification: Verification::new(Arc::clone(&tree), Arc::clone(&manifests), clock),
            tree,
            manifests,
            gc,
            events,
            pull_watch,
        }))
    }

    /// Uploads: sessions in which the bytes of a blob arrive.
    #[must_use]
    pub fn uploads(&self) -> &Arc<Uploads> {
        &self.0.uploads
    }

    /// Manifests and tags.
    #[must_use]
    pub fn manifests(&self) -> &Arc<Manifests> {
        &self.0.manifests
    }

    /// Blobs.
    #[must_use]
    pub fn blobs(&self) -> &Arc<Blobs> {
        &self.0.blobs
    }

    /// The catalog, tags and referrers, a page at a time.
    #[must_use]
    pub fn lists(&self) -> &Arc<Lists> {
        &self.0.lists
    }

    /// Garbage collection.
    #[must_use]
    pub fn gc(&self) -> &Gc {
        &self.0.gc
    }

    /// Retention.
    #[must_use]
    pub fn retention(&self) -> &Arc<Retention> {
        &self.0.retention
    }

    /// The bytes that repositories hold.
    #[must_use]
    pub fn usage(&self) -> &Usage {
        &self.0.usage
    }

    /// Puts other quotas in force.
    pub fn set_quotas(&self, quotas: Vec<Quota>) {
        self.0.quotas.set(quotas);
    }

    /// Verification of the tree.
    #[must_use]
    pub fn verification(&self) -> &Verification {
        &self.0.verification
    }

    /// Waits until the work that outlives its callers has ended. The caller begins none meanwhile.
    pub async fn settle(&self) {
        self.0.tree.settle().await;
    }

    /// Confirms that this process records pulls, so that garbage collection may rely on the records: at
    /// the start of a server, and then every hour.
    ///
    /// # Errors
    ///
    /// When storage fails. Then no untagged manifest goes for a while.
    pub async fn confirm_pulls(&self) -> Result<(), Error> {
        match &self.0.pull_watch {
            Some(watch) => watch.confirm().await,
            None => Ok(()),
        }
    }

    /// Confirms for the last time, when the server has stopped and [settled](Self::settle).
    ///
    /// # Errors
    ///
    /// When storage fails. Then no untagged manifest goes for a day after the next start.
    pub async fn end_pulls(&self) -> Result<(), Error> {
        match &self.0.pull_watch {
            Some(watch) => watch.end().await,
            None => Ok(()),
        }
    }

    /// Looks whether the storage can be reached.
    ///
    /// # Errors
    ///
    /// When it cannot.
    pub async fn probe(&self) -> Result<(), Error> {
        Ok(self.0.tree.storage().probe().await?)
    }

    /// How many times a request skipped a damaged or foreign object.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.0.tree.skipped()
    }

    /// The receiver of events.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    fn tree(&self) -> &Tree {
        &self.0.tree
    }
}
