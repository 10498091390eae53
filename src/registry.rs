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

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use self::{
    lists::{Answers, Entered},
    manifests::{ImmutableTags, LastPulled, ManifestCache, ManifestPolicy},
    tree::{DamageLog, Leases, Locks},
    uploads::{Intakes, OpenUploads, Sessions},
};
pub use crate::storage::ByteStream;
use crate::storage::Storage;

mod ago;
mod blobs;
mod delete_repository;
mod error;
mod gc;
mod lists;
mod manifests;
mod retention;
mod tree;
mod uploads;
pub mod verify;

pub use self::{
    ago::Ago,
    blobs::{Blob, DeleteMode},
    error::{BodyError, Error},
    gc::{Collect, Collected, CollectionOptions, GcEvent, GcObserver},
    lists::{Page, Referrers, TagRules},
    manifests::{
        Accepted, IndexRules, ManifestRules, Pattern, Platforms, PolicyOptions, Put,
        RepositoryPolicy, StoredManifest, TagImmutable, Unacceptable, UrlRules, Validation,
    },
    retention::{
        Decision, Expired, Glob, InvalidGlob, KeepsNothing, Retained, RetentionOptions,
        RetentionRule, TagSelector,
    },
    uploads::{
        Body, Chunk, InvalidUploadId, OldUpload, PurgeOptions, Purged, Upload, UploadId,
        UploadLimits,
    },
};

/// A registry over some storage. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    sessions: Sessions,
    opened: OpenUploads,
    intakes: Intakes,
    locks: Locks,
    contents: ManifestCache,
    answers: Answers,
    acceptance: ManifestPolicy,
    immutable: ImmutableTags,
    /// Where a rule asks when something was pulled.
    pulls: Option<LastPulled>,
    entered: Entered,
    renewed: Leases,
    skipped: DamageLog,
    /// Work that goes on when whoever asked for it has gone.
    tasks: TaskTracker,
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
}

impl Default for Options {
    fn default() -> Self {
        let (validation, policy) = (Validation::default(), PolicyOptions::default());
        let grace = CollectionOptions::default().grace;
        let tags = TagRules::default();
        let uploads = UploadLimits::default();
        Self { uploads, validation, policy, grace, tags }
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
        let Options { uploads, validation, policy, grace, tags } = options;
        let intakes = Intakes::new(Arc::clone(&storage));
        Self(Arc::new(Inner {
            storage,
            clock,
            sessions: Sessions::default(),
            opened: OpenUploads::new(uploads),
            intakes,
            locks: Locks::default(),
            contents: ManifestCache::new(),
            answers: Answers::default(),
            acceptance: ManifestPolicy::new(validation, policy),
            pulls: tags.retention.asks_for_pulls().then(LastPulled::new),
            immutable: ImmutableTags::new(tags.immutabletags),
            entered: Entered::default(),
            renewed: Leases::new(grace),
            skipped: DamageLog::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Waits until the work that outlives its callers has ended. Nothing new may be asked for
    /// meanwhile.
    pub async fn settle(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Looks whether the storage can be reached.
    ///
    /// # Errors
    ///
    /// When it cannot.
    pub async fn probe(&self) -> Result<(), Error> {
        Ok(self.storage().probe().await?)
    }

    fn storage(&self) -> &dyn Storage {
        &*self.0.storage
    }

    /// Does `work` to its end, even when the caller stops waiting for it: a client that hangs up
    /// must not stop a sequence of writes half-way. What changes anything here is done so anyway;
    /// others can have done what belongs to a change. [`settle`](Self::settle) waits for it.
    ///
    /// # Errors
    ///
    /// As `work`; when it panics.
    pub async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        match self.0.tasks.spawn(work).await {
            Ok(result) => result,
            Err(panicked) => Err(Error::Panicked(panicked)),
        }
    }
}
