//! How many connections there may be.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many connections a server has and had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// How many there are.
    pub open: usize,
    /// How many there may be.
    pub limit: usize,
    /// How many there were since the start, with those that there are.
    pub accepted: u64,
    /// How many times the limit was reached, so that clients had to wait.
    pub full: u64,
}

/// The slots of a server, one for each connection.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    limit: usize,
    open: AtomicUsize,
    accepted: AtomicU64,
    full: AtomicU64,
    /// Whether it was said that there is no slot left.
    said: AtomicBool,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _permit: Option<OwnedSemaphorePermit>,
    /// Whether there is a connection on it.
    used: bool,
    slots: Arc<Slots>,
}

impl Slots {
    pub(super) fn new(limit: NonZeroU32) -> Arc<Self> {
        let limit = usize::try_from(limit.get()).unwrap_or(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            free: Arc::new(Semaphore::new(limit)),
            limit,
            open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            full: AtomicU64::new(0),
            said: AtomicBool::new(false),
        })
    }

    /// Waits for a slot.
    pub(super) async fn take(self: &Arc<Self>) -> Slot {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                self.full.fetch_add(1, Ordering::Relaxed);
                if !self.said.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        limit = self.limit,
                        "as many connections as there may be; further clients wait \
                         (http.maxconnections)"
                    );
                }
                // Nobody closes it.
                Arc::clone(&self.free).acquire_owned().await.ok()
            }
        };
        Slot { _permit: permit, used: false, slots: Arc::clone(self) }
    }

    pub(super) fn count(&self) -> Connections {
        Connections {
            open: self.open.load(Ordering::Relaxed),
            limit: self.limit,
            accepted: self.accepted.load(Ordering::Relaxed),
            full: self.full.load(Ordering::Relaxed),
        }
    }
}

impl Slot {
    /// Notes that there is a connection.
    pub(super) fn accepted(mut self) -> Self {
        self.used = true;
        self.slots.open.fetch_add(1, Ordering::Relaxed);
        self.slots.accepted.fetch_add(1, Ordering::Relaxed);
        self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let slots = &self.slots;
        if self.used {
            slots.open.fetch_sub(1, Ordering::Relaxed);
        }
        // Not for each client that comes and goes at the limit.
        let has_room = slots.free.available_permits() >= slots.limit / 10;
        if has_room && slots.said.swap(false, Ordering::Relaxed) {
            tracing::info!(limit = slots.limit, "there is room for connections again");
        }
    }
}
