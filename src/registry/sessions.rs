//! The uploads that are under way in this process.
//!
//! One request at a time writes to an upload: two would mix their bytes. Between requests the
//! state of the hasher is kept here, so that the next chunk goes on without a look at the disk.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::UploadId;
use crate::oci::Hasher;

/// Uploads beyond this many that wait for their next chunk are continued from storage instead.
const MAX_PARKED: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<UploadId, Slot>>);

#[derive(Debug)]
enum Slot {
    Busy,
    Parked(Box<Hashed>),
}

/// A hasher and how many bytes it has seen.
#[derive(Clone, Debug)]
pub(super) struct Hashed {
    pub(super) hasher: Hasher,
    pub(super) length: u64,
}

impl Sessions {
    /// Takes an upload for one request; `None` when another has it.
    pub(super) fn enter(&self, id: UploadId) -> Option<Session<'_>> {
        match self.slots().insert(id, Slot::Busy) {
            Some(Slot::Busy) => None,
            Some(Slot::Parked(hashed)) => {
                Some(Session { sessions: self, id, parked: Some(*hashed), leave: None })
            }
            None => Some(Session { sessions: self, id, parked: None, leave: None }),
        }
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
    parked: Option<Hashed>,
    leave: Option<Hashed>,
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
    }
}
