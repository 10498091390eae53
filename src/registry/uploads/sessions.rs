//! The sessions of uploads in this process.
//!
//! One request at a time writes to an upload, because two would mix their bytes. Between requests the
//! session keeps the state of the hasher, so that the next chunk needs no look at the disk.
//!
//! A client whose connection broke reconnects at once, often before the server has noticed, or while
//! the received bytes are still being written. So a newcomer waits a little for the writer before it,
//! and asks it to leave: a writer whose client still sends keeps the session, one whose client is silent
//! gives it up.

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

/// How many suspended uploads keep their hasher in memory; others resume from storage.
const MAX_PARKED: usize = 4096;

/// How long a newcomer waits for the writer before it: longer than [`SILENCE`] and a last write.
const WAIT: Duration = Duration::from_secs(5);

/// A writer that is asked to leave does so when its client is silent for this long.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<UploadId, Slot>>);

#[derive(Debug)]
enum Slot {
    Busy(Writer),
    Parked(Box<Hashed>),
}

/// A hasher, and the number of bytes that it has seen.
#[derive(Clone, Debug)]
pub(super) struct Hashed {
    pub(super) hasher: Hasher,
    pub(super) length: u64,
}

/// The requests to a writer.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// Another request wants to write to the upload.
    pub(super) to_leave: CancellationToken,
    /// The upload has been removed.
    pub(super) to_end: CancellationToken,
}

/// The state that a writer shares with the requests that wait for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer {
    asked: Asked,
    left: CancellationToken,
    /// Whether the writer added to the upload.
    wrote: Arc<AtomicBool>,
}

impl Sessions {
    /// Enters the session of an upload; `None` when another request keeps it.
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

    /// Waits until no request writes to an upload, at most for as long as [`enter`](Self::enter) would.
    pub(super) async fn settled(&self, id: UploadId) {
        let writer = match self.slots().get(&id) {
            Some(Slot::Busy(writer)) => writer.clone(),
            Some(Slot::Parked(_)) | None => return,
        };
        writer.asked.to_leave.cancel();
        // A writer that keeps the session may go on; the answer is of this moment then.
        let _ = tokio::time::timeout(WAIT, writer.left.cancelled()).await;
    }

    /// Ends the session of a removed upload; its writer stops.
    pub(super) fn end(&self, id: UploadId) {
        let mut slots = self.slots();
        match slots.get(&id) {
            Some(Slot::Busy(writer)) => writer.asked.to_end.cancel(),
            Some(Slot::Parked(_)) => drop(slots.remove(&id)),
            None => {}
        }
    }

    /// Enters the session of an upload that no request writes to.
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
    /// The hasher that the last request left.
    pub(super) const fn take_parked(&mut self) -> Option<Hashed> {
        self.parked.take()
    }

    /// Leaves the hasher for the next request.
    pub(super) fn park(&mut self, hashed: Hashed) {
        self.leave = Some(hashed);
    }

    /// The id of the upload.
    pub(super) const fn id(&self) -> UploadId {
        self.id
    }

    /// Leaves nothing: the upload ends with this request.
    pub(super) fn forget(&mut self) {
        self.leave = None;
    }

    /// Whether another request added to the upload while this one waited: its client did not know the
    /// length of the upload then.
    pub(super) const fn was_overtaken(&self) -> bool {
        self.overtaken
    }

    /// Tells waiting requests that this one added to the upload.
    pub(super) fn wrote(&self) {
        self.writer.wrote.store(true, Ordering::Relaxed);
    }

    /// The requests to this writer from now on.
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
    async fn second_writer_waits_until_the_first_leaves() {
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
    async fn second_writer_is_refused_while_the_first_stays() {
        let sessions = Sessions::default();
        let first = sessions.enter(id()).await.unwrap();
        assert!(sessions.enter(id()).await.is_none());
        sessions.settled(id()).await;
        drop(first);
        assert!(!sessions.enter(id()).await.unwrap().was_overtaken());
    }
}
