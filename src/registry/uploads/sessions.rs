//! The uploads that are under way in this process.
//!
//! One request at a time writes to an upload: two would mix their bytes. Between requests the
//! state of the hasher is kept here, so that the next chunk goes on without a look at the disk.
//!
//! A client whose connection broke comes back at once, often before the server has noticed, or
//! while what arrived is still being written. So a newcomer waits a little for the one before it,
//! and asks it to leave: a writer whose client still sends keeps its place, one whose client is
//! silent gives it up.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::UploadId;
use crate::oci::Hasher;

/// Uploads beyond this many that wait for their next chunk are continued from storage instead.
const MAX_PARKED: usize = 4096;

/// How long a newcomer waits for the writer before it: longer than [`SILENCE`] and a last write.
const WAIT: Duration = Duration::from_secs(5);

/// A writer that is asked to leave does so when its client sends nothing for this long.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<UploadId, Slot>>);

#[derive(Debug)]
enum Slot {
    Busy(Writer),
    Parked(Box<Hashed>),
}

/// A hasher and how many bytes it has seen.
#[derive(Clone, Debug)]
pub(super) struct Hashed {
    pub(super) hasher: Hasher,
    pub(super) length: u64,
}

/// What a writer is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// Another request wants to write to the upload.
    pub(super) to_leave: CancellationToken,
    /// The upload is no more.
    pub(super) to_end: CancellationToken,
}

/// What a writer and those who wait for it share.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer {
    asked: Asked,
    left: CancellationToken,
    /// Whether it added to the upload.
    wrote: Arc<AtomicBool>,
}

impl Sessions {
    /// Takes an upload for one request; `None` when another keeps it.
    pub(super) async fn enter(&self, id: UploadId) -> Option<Session<'_>> {
        let mut overtaken = false;
        let entered = async {
            loop {
                match self.try_enter(id) {
                    Ok(session) => return session,
                    Err(writer) => {
                        writer.asked.to_leave.cancel();
                        writer.left.cancelled().await;
                        overtaken |= writer.wrote.load(Ordering::Relaxed);
                    }
                }
            }
        };
        let mut session = tokio::time::timeout(WAIT, entered).await.ok()?;
        session.overtaken = overtaken;
        Some(session)
    }

    /// Waits until nobody writes to an upload, or for as long as [`enter`](Self::enter) would.
    pub(super) async fn settled(&self, id: UploadId) {
        let writer = match self.slots().get(&id) {
            Some(Slot::Busy(writer)) => writer.clone(),
            Some(Slot::Parked(_)) | None => return,
        };
        writer.asked.to_leave.cancel();
        // Whoever writes on may do so; then the answer is of this moment.
        let _ = tokio::time::timeout(WAIT, writer.left.cancelled()).await;
    }

    /// Forgets an upload that is no more; whoever writes to it stops.
    pub(super) fn end(&self, id: UploadId) {
        let mut slots = self.slots();
        match slots.get(&id) {
            Some(Slot::Busy(writer)) => writer.asked.to_end.cancel(),
            Some(Slot::Parked(_)) => drop(slots.remove(&id)),
            None => {}
        }
    }

    /// Takes an upload that nobody is writing to.
    pub(super) fn try_enter(&self, id: UploadId) -> Result<Session<'_>, Writer> {
        let mut slots = self.slots();
        if let Some(Slot::Busy(writer)) = slots.get(&id) {
            return Err(writer.clone());
        }
        let writer = Writer::default();
        let parked = match slots.insert(id, Slot::Busy(writer.clone())) {
            Some(Slot::Parked(hashed)) => Some(*hashed),
            Some(Slot::Busy(_)) | None => None,
        };
        Ok(Session { sessions: self, id, writer, parked, leave: None, overtaken: false })
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<UploadId, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to write to one upload, until it is dropped.
#[derive(Debug)]
pub(super) struct Session<'a> {
    sessions: &'a Sessions,
    id: UploadId,
    writer: Writer,
    parked: Option<Hashed>,
    leave: Option<Hashed>,
    overtaken: bool,
}

impl Session<'_> {
    /// What the last request left for this one.
    pub(super) const fn take_parked(&mut self) -> Option<Hashed> {
        self.parked.take()
    }

    /// Leaves something for the next request.
    pub(super) fn park(&mut self, hashed: Hashed) {
        self.leave = Some(hashed);
    }

    /// Whether another request added to the upload while this one waited: then its client cannot
    /// have known where the upload ends.
    pub(super) const fn was_overtaken(&self) -> bool {
        self.overtaken
    }

    /// Tells those who wait that this request added to the upload.
    pub(super) fn wrote(&self) {
        self.writer.wrote.store(true, Ordering::Relaxed);
    }

    /// What this writer is asked for from now on.
    pub(super) fn asked(&self) -> Asked {
        self.writer.asked.clone()
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let mut slots = self.sessions.slots();
        match self.leave.take() {
            Some(hashed) if slots.len() <= MAX_PARKED => {
                slots.insert(self.id, Slot::Parked(Box::new(hashed)));
            }
            _ => {
                slots.remove(&self.id);
            }
        }
        drop(slots);
        self.writer.left.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> UploadId {
        "6b3c9a93-af5d-473f-a4cf-9710022185cd".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_waits_for_a_writer_that_leaves() {
        let sessions = Sessions::default();
        let mut first = sessions.enter(id()).await.unwrap();
        assert!(!first.was_overtaken());
        let asked = first.asked();
        let leaving = async {
            asked.to_leave.cancelled().await;
            first.wrote();
            first.park(Hashed { hasher: Hasher::new(crate::oci::Algorithm::Sha256), length: 7 });
            drop(first);
        };
        let (second, ()) = tokio::join!(sessions.enter(id()), leaving);
        let mut second = second.unwrap();
        assert!(second.was_overtaken());
        assert_eq!(second.take_parked().unwrap().length, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_stays_keeps_its_place() {
        let sessions = Sessions::default();
        let first = sessions.enter(id()).await.unwrap();
        assert!(sessions.enter(id()).await.is_none());
        sessions.settled(id()).await;
        drop(first);
        assert!(!sessions.enter(id()).await.unwrap().was_overtaken());
    }
}
