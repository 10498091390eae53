//! The queue of events for one endpoint.
//!
//! Callers that add an event wait for its write, not for the endpoint: one task collects the events
//! of all callers and writes them at once, on a thread that may block. A write that returned
//! survives a kill of the process. [`Queue::sync`], which a job calls, makes it survive a power
//! cut.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard as Turn, Notify, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::files::{Files, Taken};
use super::{
    Counts, Place,
    post::{Delivered, DeliveryError, status_text},
};

mod files;

/// An event as a line, without the newline.
pub(super) type Line = Arc<[u8]>;

/// How many callers may have an event waiting for the writer; others wait for a place.
const ADDING: usize = 1024;

/// The mean size of events, in bytes, up to which `maxpending` is the limit. Events without
/// references take less than a quarter of it.
const MEAN: u64 = 4096;

/// The limits of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    events: u64,
    bytes: u64,
}

impl Limits {
    /// So many events, of the mean size.
    pub(super) const fn of(events: u64) -> Self {
        Self { events, bytes: events.saturating_mul(MEAN) }
    }
}

/// The events that wait for an endpoint, in order.
#[derive(Debug)]
pub(super) struct Queue {
    adding: mpsc::Sender<Adding>,
    shared: Arc<Shared>,
    closing: CancellationToken,
    /// Held by the sender that delivers from this queue.
    turn: AsyncMutex<()>,
}

#[derive(Debug)]
struct Adding {
    line: Line,
    done: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    /// Locked on threads that may block only, unless it is in memory.
    store: Mutex<Store>,
    in_memory: bool,
    arrived: Notify,
    count: Counters,
    /// Whether events are being dropped, which is logged once.
    dropping: AtomicBool,
}

#[derive(Debug, Default)]
struct Counters {
    events: AtomicU64,
    pending: Arc<AtomicU64>,
    successes: AtomicU64,
    failures: AtomicU64,
    errors: AtomicU64,
    dropped: AtomicU64,
    statuses: Mutex<BTreeMap<u16, u64>>,
}

#[derive(Debug)]
struct Store {
    kept: Kept,
    limits: Limits,
    events: u64,
    bytes: u64,
    /// The same as `events`, for readers that must not wait for the disk.
    pending: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Kept {
    Files(Box<Files>),
    Memory(VecDeque<Line>),
}

impl Queue {
    /// Opens the queue of an endpoint with its waiting events, and starts its writer. It accepts no
    /// events before it has a limit. Reads and writes files.
    ///
    /// # Errors
    ///
    /// When its folder cannot be used, or another process uses it.
    pub(super) fn open(place: &Place, name: &str, tasks: &TaskTracker) -> Result<Self, OpenError> {
        let mut events = 0;
        let mut bytes = 0;
        let kept = match place {
            Place::Memory => Kept::Memory(VecDeque::new()),
            Place::Folder(folder) => {
                let folder = folder.join(files::folder_name(name)?);
                let failed = |source| OpenError::Folder { folder: folder.clone(), source };
                let opened = Files::open(&folder).map_err(failed)?;
                events = opened.events;
                bytes = opened.bytes;
                Kept::Files(Box::new(opened.files))
            }
        };
        let in_memory = matches!(kept, Kept::Memory(_));
        let count = Counters::default();
        let pending = Arc::clone(&count.pending);
        let mut store = Store { kept, limits: Limits::of(0), events, bytes, pending };
        store.holds(events, bytes);
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            store: Mutex::new(store),
            in_memory,
            arrived: Notify::new(),
            count,
            dropping: AtomicBool::new(false),
        });
        let (adding, added) = mpsc::channel(ADDING);
        let closing = CancellationToken::new();
        tasks.spawn(Arc::clone(&shared).write(added, closing.clone()));
        Ok(Self { adding, shared, closing, turn: AsyncMutex::default() })
    }

    /// Changes the limits.
    pub(super) fn limit(&self, limits: Limits) {
        self.shared.store().limits = limits;
    }

    /// Adds an event. Returns when it is written, or counted as dropped.
    pub(super) async fn add(&self, line: Line) {
        let (done, written) = oneshot::channel();
        let sent = self.adding.send(Adding { line, done }).await;
        if sent.is_err() || written.await.is_err() {
            self.shared.dropped(1, &"the server is ending");
        }
    }

    /// Waits until no other sender delivers from this queue. Only the holder may read the front.
    pub(super) async fn turn(&self) -> Turn<'_, ()> {
        self.turn.lock().await
    }

    /// The event at the front, which stays there. Waits until there is one.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(super) async fn front(&self) -> io::Result<Line> {
        loop {
            if let Some(line) = self.shared.with(Store::front).await? {
                return Ok(line);
            }
            self.shared.arrived.notified().await;
        }
    }

    /// Removes the event at the front, which the endpoint has accepted.
    pub(super) async fn taken(&self, taken: Delivered) {
        self.shared.count.successes.fetch_add(1, Relaxed);
        self.shared.count.answered(taken.status);
        let moved = self.shared.with(Store::take).await;
        if let Err(error) = moved {
            let endpoint = &self.shared.name;
            tracing::warn!(
                endpoint,
                %error,
                "cannot record delivered events; they will be sent again after a restart"
            );
        }
    }

    /// Counts an attempt that failed.
    pub(super) fn not_taken(&self, error: &DeliveryError) {
        let count = &self.shared.count;
        match error {
            DeliveryError::Refused(status) | DeliveryError::Elsewhere(status) => {
                count.failures.fetch_add(1, Relaxed);
                count.answered(*status);
            }
            DeliveryError::NoAnswer(_) => {
                count.errors.fetch_add(1, Relaxed);
            }
        }
    }

    /// Syncs the added events.
    pub(super) async fn sync(&self) {
        if self.shared.in_memory {
            return;
        }
        let written = self.shared.with(Store::unsynced).await;
        // Without the lock, so that requests go on meanwhile.
        let synced = tokio::task::spawn_blocking(move || match written? {
            Some(written) => written.sync(),
            None => Ok(()),
        });
        let synced = synced.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        if let Err(error) = synced {
            let endpoint = &self.shared.name;
            tracing::error!(
                endpoint,
                %error,
                "cannot sync the queue of an endpoint; a power cut could lose events"
            );
        }
    }

    /// Accepts no more events; those added before are written.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    pub(super) fn pending(&self) -> u64 {
        self.shared.count.pending.load(Relaxed)
    }

    pub(super) fn counts(&self) -> Counts {
        let count = &self.shared.count;
        let statuses = count.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        Counts {
            name: self.shared.name.clone(),
            events: count.events.load(Relaxed),
            pending: self.pending(),
            successes: count.successes.load(Relaxed),
            failures: count.failures.load(Relaxed),
            errors: count.errors.load(Relaxed),
            dropped: count.dropped.load(Relaxed),
            statuses: statuses.iter().map(|(code, count)| (status_text(*code), *count)).collect(),
        }
    }
}

impl Counters {
    fn answered(&self, status: u16) {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        *statuses.entry(status).or_default() += 1;
    }
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs work on the store, on a thread that may block.
    async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Store) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        if self.in_memory {
            return work(&mut self.store());
        }
        let shared = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&mut shared.store()));
        done.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
    }

    /// Writes the added events, until the queue is closed.
    async fn write(self: Arc<Self>, mut added: mpsc::Receiver<Adding>, closing: CancellationToken) {
        let mut batch = Vec::new();
        loop {
            let count = tokio::select! {
                biased;
                count = added.recv_many(&mut batch, ADDING) => count,
                () = closing.cancelled(), if !added.is_closed() => {
                    added.close();
                    continue;
                }
            };
            if count == 0 {
                return;
            }
            let lines: Vec<Line> = batch.iter().map(|adding| Arc::clone(&adding.line)).collect();
            let count = lines.len() as u64;
            match self.with(move |store| store.append(&lines)).await {
                Ok(appended) => {
                    self.count.events.fetch_add(appended, Relaxed);
                    match count - appended {
                        0 => self.dropping.store(false, Relaxed),
                        dropped => self.dropped(dropped, &"as many wait as may"),
                    }
                }
                Err(error) => self.dropped(count, &error),
            }
            self.arrived.notify_one();
            for adding in batch.drain(..) {
                // The caller may have gone.
                let _ = adding.done.send(());
            }
        }
    }

    /// Counts dropped events, and logs the first of a series.
    fn dropped(&self, events: u64, why: &dyn fmt::Display) {
        self.count.dropped.fetch_add(events, Relaxed);
        if !self.dropping.swap(true, Relaxed) {
            tracing::error!(
                endpoint = self.name,
                %why,
                "the queue of an endpoint is full; further events are dropped and counted"
            );
        }
    }
}

impl Store {
    /// Adds as many lines as there is room for, and returns their number. Waiting events win over
    /// new ones, for their delivery is promised.
    fn append(&mut self, lines: &[Line]) -> io::Result<u64> {
        let mut events = self.events;
        let mut bytes = self.bytes;
        let fits = |line: &&Line| {
            events += 1;
            bytes += line.len() as u64;
            events <= self.limits.events && bytes <= self.limits.bytes
        };
        let fitting = lines.iter().take_while(fits).count();
        let lines = &lines[..fitting];
        match &mut self.kept {
            Kept::Files(files) => files.append(lines)?,
            Kept::Memory(kept) => kept.extend(lines.iter().cloned()),
        }
        let added = lines.iter().map(|line| line.len() as u64).sum::<u64>();
        self.holds(self.events + lines.len() as u64, self.bytes + added);
        Ok(lines.len() as u64)
    }

    fn holds(&mut self, events: u64, bytes: u64) {
        (self.events, self.bytes) = (events, bytes);
        self.pending.store(events, Relaxed);
    }

    fn front(&mut self) -> io::Result<Option<Line>> {
        let front = match &mut self.kept {
            Kept::Files(files) => files.front()?,
            Kept::Memory(kept) => kept.front().cloned(),
        };
        if front.is_none() {
            // Damaged lines no longer count.
            self.holds(0, 0);
        }
        Ok(front)
    }

    fn take(&mut self) -> io::Result<()> {
        let Taken { line, written } = match &mut self.kept {
            Kept::Files(files) => files.take(),
            Kept::Memory(kept) => Taken { line: kept.pop_front(), written: Ok(()) },
        };
        if let Some(line) = line {
            let left = self.bytes.saturating_sub(line.len() as u64);
            self.holds(self.events.saturating_sub(1), left);
        }
        written
    }

    fn unsynced(&mut self) -> io::Result<Option<files::Written>> {
        match &mut self.kept {
            Kept::Files(files) => files.unsynced(),
            Kept::Memory(_) => Ok(None),
        }
    }
}

/// Why the queue of an endpoint cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The endpoint's name makes no name of a folder.
    #[error("notifications.endpoints: `{0}` is too long for a name")]
    Name(String),
    /// Its folder cannot be used.
    #[error("cannot keep events in {}; make it writable for this user", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
}
