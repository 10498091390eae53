//! The states of a changing file, and which of them the server may still use.

use std::{fmt, sync::Mutex};

/// A sequence of states; only the server knows the moment at which the next one is in force.
///
/// A state is announced before it is written, and confirmed when the server has been seen to use
/// it. The server may answer a request by any state from the last one confirmed before the request
/// to the last one announced before the response. So the test needs no clock.
pub(crate) struct Changing<T>(Mutex<States<T>>);

struct States<T> {
    all: Vec<T>,
    confirmed: usize,
}

/// A position in the sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(usize);

impl<T: Clone> Changing<T> {
    /// A sequence that begins with the state in force.
    pub(crate) fn new(first: T) -> Self {
        Self(Mutex::new(States { all: vec![first], confirmed: 0 }))
    }

    /// Announces a change.
    pub(crate) fn announce(&self, next: T) -> Place {
        let mut states = self.0.lock().unwrap();
        states.all.push(next);
        Place(states.all.len() - 1)
    }

    /// Sets a state that was announced before it was known.
    pub(crate) fn name(&self, place: Place, state: T) {
        self.0.lock().unwrap().all[place.0] = state;
    }

    /// Confirms that the server uses this state or a later one: it answers no later request by an
    /// earlier state.
    pub(crate) fn confirm(&self, place: Place) {
        let mut states = self.0.lock().unwrap();
        states.confirmed = states.confirmed.max(place.0);
    }

    /// The earliest state that a request sent now may meet.
    pub(crate) fn now(&self) -> Place {
        Place(self.0.lock().unwrap().confirmed)
    }

    /// The states that a request sent then, with a response now, may have met.
    pub(crate) fn since(&self, sent: Place) -> Vec<T> {
        self.0.lock().unwrap().all[sent.0..].to_vec()
    }

    /// The last announced state.
    pub(crate) fn last(&self) -> T {
        self.0.lock().unwrap().all.last().unwrap().clone()
    }
}

impl<T> fmt::Debug for Changing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changing").finish_non_exhaustive()
    }
}
