//! What is wrong in the tree and is passed over: counted each time, logged once.
//!
//! Trees of other registries have seen full disks and power cuts, and people put files into them. A
//! client that asks again and again for what is damaged must not fill the log.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Tree;
use crate::storage::Key;

/// So many places are logged, each once: a few hundred KiB of their names. Beyond that a log is no
/// help, and `portcullis verify` names all.
const LOGGED: usize = 4096;

#[derive(Debug, Default)]
pub(in crate::registry) struct DamageLog {
    times: AtomicU64,
    logged: Mutex<HashSet<Key>>,
}

/// What is logged of a place that is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    /// What is wrong with it.
    Place,
    /// That there are too many such places.
    TooMany,
    /// Nothing.
    Nothing,
}

impl DamageLog {
    fn count(&self, key: &Key) -> Log {
        self.times.fetch_add(1, Ordering::Relaxed);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() > LOGGED || !logged.insert(key.clone()) {
            return Log::Nothing;
        }
        if logged.len() > LOGGED { Log::TooMany } else { Log::Place }
    }
}

impl Tree {
    /// How many times a request came across something in the tree that is damaged or foreign.
    pub(in crate::registry) fn skipped(&self) -> u64 {
        self.damage.times.load(Ordering::Relaxed)
    }

    /// Counts what is passed over, and logs it unless that was done before.
    pub(in crate::registry) fn skip(&self, key: &Key, why: &'static str) {
        match self.damage.count(key) {
            Log::Place => tracing::warn!(%key, "skipping {why}"),
            Log::TooMany => tracing::warn!(
                "more in the storage tree is skipped than is logged; `portcullis verify` names all"
            ),
            Log::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_logged_once_and_of_too_many_no_more() {
        let skipped = DamageLog::default();
        let place = |n: usize| Key::new(n.to_string());
        for n in 0..LOGGED {
            assert_eq!(skipped.count(&place(n)), Log::Place);
            assert_eq!(skipped.count(&place(n)), Log::Nothing);
        }
        assert_eq!(skipped.count(&place(LOGGED)), Log::TooMany);
        assert_eq!(skipped.count(&place(LOGGED + 1)), Log::Nothing);
        assert_eq!(skipped.count(&place(0)), Log::Nothing);
        assert_eq!(skipped.times.load(Ordering::Relaxed), 2 * LOGGED as u64 + 3);
    }
}
