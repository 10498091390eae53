//! The core: blobs, uploads, manifests, tags, referrers and the catalog, over a [`Storage`].
//!
//! It knows no HTTP and no policy: whoever calls a method may do so. One file per subject extends
//! [`Registry`]; where things lie is written in `layout.rs` and nowhere else.
//!
//! The order of writes is the same everywhere: a name is written after what it names is durable.
//! Blob data, then its link; manifest data, then its referrer entry, its revision, its tag.
//! Deletion runs the other way. So a crash between two writes leaves something that nobody names,
//! never a name for something that is not there.
//!
//! [`Storage`]: crate::storage::Storage

use std::{fmt, future::Future, sync::Arc};

use tokio_util::task::TaskTracker;

use self::{contents::Contents, locks::RepositoryLocks, sessions::Sessions};
pub use crate::storage::ByteStream;
use crate::storage::Storage;

mod blobs;
mod catalog;
mod contents;
mod error;
mod layout;
mod link;
mod locks;
mod manifests;
mod page;
mod referrers;
mod sessions;
mod tags;
mod uploads;
pub mod verify;

pub use blobs::Blob;
pub use error::{BodyError, Error};
pub use manifests::{Accepted, Put, StoredManifest};
pub use page::Page;
pub use referrers::Referrers;
use uploads::Opened;
pub use uploads::{Body, Chunk, InvalidUploadId, Upload, UploadId};

/// A registry over some storage. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    sessions: Sessions,
    opened: Opened,
    locks: RepositoryLocks,
    contents: Contents,
    /// Work that goes on when whoever asked for it has gone.
    tasks: TaskTracker,
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
    /// A registry whose content is in `storage`, and in which nobody has more than `max_uploads`
    /// uploads open.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>, max_uploads: usize) -> Self {
        Self(Arc::new(Inner {
            storage,
            clock,
            sessions: Sessions::default(),
            opened: Opened::new(max_uploads),
            locks: RepositoryLocks::default(),
            contents: Contents::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Waits until the work that outlives its callers has ended. Nothing new may be asked for
    /// meanwhile.
    pub async fn settle(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
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
