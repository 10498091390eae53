//! The core: blobs, uploads, manifests, tags, referrers and the catalog, over a [`Storage`].
//!
//! It knows no HTTP and no policy: whoever calls a method may do so. One file per subject extends
//! [`Registry`]; where things lie is written in `tree/key.rs` and nowhere else.
//!
//! The order of writes is the same everywhere: a name is written after what it names is durable.
//! Blob data, then its link; manifest data, then its referrer entry, its revision, its tag.
//! Deletion runs the other way. So a crash between two writes leaves something that nobody names,
//! never a name for something that is not there.
//!
//! [`Storage`]: crate::storage::Storage

use std::{fmt, sync::Arc, time::Duration};

use self::{manifests::ManifestPolicy, tree::Tree, verify::Verification};
pub use crate::storage::ByteStream;
use crate::storage::Storage;

mod blobs;
mod delete_repository;
mod error;
mod events;
mod gc;
mod lists;
mod manifests;
mod retention;
mod runs;
mod tree;
mod uploads;
pub mod verify;

pub use self::{
    blobs::{Blob, Blobs, DeleteMode},
    error::{BodyError, Error},
    events::{Action, Caller, Event, EventSink, Events, ManifestContent, Occurrence, Request},
    gc::{Collect, Collected, CollectionOptions, Gc, GcEvent, GcObserver},
    lists::{Lists, Page, Referrers},
    manifests::{
        Accepted, IndexRules, ManifestRules, Manifests, Pattern, Platforms, PolicyOptions, Put,
        RepositoryPolicy, StoredManifest, TagImmutable, TagRules, Unacceptable, UrlRules,
        Validation,
    },
    retention::{
        Decision, Expired, Glob, InvalidGlob, KeepsNothing, Retained, Retention, RetentionOptions,
        RetentionRule, TagSelector,
    },
    runs::Runs,
    uploads::{
        Body, Chunk, InvalidUploadId, OldUpload, PurgeOptions, Purged, Upload, UploadId,
        UploadLimits, Uploads,
    },
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
    verification: Verification,
    events: Events,
}

/// What a registry allows.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many uploads anybody may have open, and begin.
    pub uploads: UploadLimits,
    /// Which manifests are taken.
    pub validation: Validation,
    /// What they may be.
    pub policy: PolicyOptions,
    /// For how long a collector leaves alone what somebody was told is there.
    pub grace: Duration,
    /// What tags may do.
    pub tags: TagRules,
    /// Who receives events.
    pub events: Events,
}

impl Default for Options {
    fn default() -> Self {
        let (validation, policy) = (Validation::default(), PolicyOptions::default());
        let grace = CollectionOptions::default().grace;
        let tags = TagRules::default();
        let uploads = UploadLimits::default();
        Self { uploads, validation, policy, grace, tags, events: Events::default() }
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
        let Options { uploads, validation, policy, grace, tags, events } = options;
        let tree = Arc::new(Tree::new(storage, grace));
        let manifests = Manifests::new(
            Arc::clone(&tree),
            Arc::clone(&clock),
            events.clone(),
            manifests::Rules { policy: ManifestPolicy::new(validation, policy), tags },
        );
        let manifests = Arc::new(manifests);
        let gc = Arc::new(Gc::new(Arc::clone(&tree), events.clone()));
        let uploads = Uploads::new(Arc::clone(&tree), Arc::clone(&clock), events.clone(), uploads);
        let blobs = Blobs::new(Arc::clone(&tree), Arc::clone(&manifests), events.clone());
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
            verification: Verification::new(Arc::clone(&tree), Arc::clone(&manifests), clock),
            tree,
            manifests,
            gc,
            events,
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

    /// Verification of the tree.
    #[must_use]
    pub fn verification(&self) -> &Verification {
        &self.0.verification
    }

    /// Waits until the work that outlives its callers has ended. The caller begins none meanwhile.
    pub async fn settle(&self) {
        self.0.tree.settle().await;
    }

    /// Looks whether the storage can be reached.
    ///
    /// # Errors
    ///
    /// When it cannot.
    pub async fn probe(&self) -> Result<(), Error> {
        Ok(self.0.tree.storage().probe().await?)
    }

    /// How many times a request came across something in the tree that is damaged or foreign.
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
