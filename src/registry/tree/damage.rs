//! Damaged and foreign objects in the tree that requests skip: each time is counted, each object is
//! logged once.
//!
//! Trees of other registries have seen full disks and power cuts, and operators put files into them. A
//! client that repeats a request for a damaged object must not fill the log.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Tree;
use crate::storage::Key;

/// How many objects are logged, which takes a few hundred KiB for their names. With more damage the log
/// is no help, and `portcullis verify` names all.
const LOGGED: usize = 4096;

#[derive(Debug, Default)]
pub(in crate::registry) struct DamageLog {
    times: AtomicU64,
    logged: Mutex<HashSet<Key>>,
}

/// The log line for a skipped object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    /// The object and its damage.
    Place,
    /// That further objects are not logged.
    TooMany,
    /// No line.
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
    /// How many times a request skipped a damaged or foreign object.
    pub(in crate::registry) fn skipped(&self) -> u64 {
        self.damage.times.load(Ordering::Relaxed)
    }

    /// Counts a skipped object, and logs it the first time.
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
    fn each_key_is_logged_once_up_to_a_limit() {
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
