//! What the server has been told to change, and what it may still go by.

use std::{fmt, sync::Mutex};

/// A row of states, each of which follows the one before it at a moment that only the server knows.
///
/// A state is announced before it is written, and confirmed when the server has been seen to go by
/// it. A request may be answered by any state from the last that was confirmed before it was sent
/// to the last that was announced before it was answered: so no clock is asked.
pub(crate) struct Changing<T>(Mutex<States<T>>);

struct States<T> {
    all: Vec<T>,
    confirmed: usize,
}

/// A place in the row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(usize);

impl<T: Clone> Changing<T> {
    /// A row that begins with the state that is in force.
    pub(crate) fn new(first: T) -> Self {
        Self(Mutex::new(States { all: vec![first], confirmed: 0 }))
    }

    /// Something is about to be changed.
    pub(crate) fn announce(&self, next: T) -> Place {
        let mut states = self.0.lock().unwrap();
        states.all.push(next);
        Place(states.all.len() - 1)
    }

    /// Says what a state is that was announced before it was known.
    pub(crate) fn name(&self, place: Place, state: T) {
        self.0.lock().unwrap().all[place.0] = state;
    }

    /// The server goes by this state or by a later one: no request that is sent from now on is
    /// answered by an earlier one.
    pub(crate) fn confirm(&self, place: Place) {
        let mut states = self.0.lock().unwrap();
        states.confirmed = states.confirmed.max(place.0);
    }

    /// The earliest state that a request may meet which is sent now.
    pub(crate) fn now(&self) -> Place {
        Place(self.0.lock().unwrap().confirmed)
    }

    /// The states that a request may have met which was sent then and has just been answered.
    pub(crate) fn since(&self, sent: Place) -> Vec<T> {
        self.0.lock().unwrap().all[sent.0..].to_vec()
    }

    /// The state that was announced last.
    pub(crate) fn last(&self) -> T {
        self.0.lock().unwrap().all.last().unwrap().clone()
    }
}

impl<T> fmt::Debug for Changing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changing").finish_non_exhaustive()
    }
}
