//! Interruptions: at one of the things that a process asks for, another process runs first.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Memory, locked};

/// What runs in between.
pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Counts what is asked for, and does something else first when the `at`-th comes.
pub(super) struct Steps {
    taken: AtomicUsize,
    at: usize,
    work: Mutex<Option<Work>>,
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Steps {
    pub(super) async fn next(&self) {
        if self.taken.fetch_add(1, Ordering::Relaxed) == self.at {
            let work = locked(&self.work).take();
            if let Some(work) = work {
                work.await;
            }
        }
    }
}

impl Memory {
    /// The same memory for a process that another one interrupts before its `at`-th step.
    pub(crate) fn interrupted(&self, at: usize, work: Work) -> Self {
        let steps = Steps { taken: AtomicUsize::new(0), at, work: Mutex::new(Some(work)) };
        Self { shared: Arc::clone(&self.shared), steps: Some(Arc::new(steps)) }
    }

    /// How many steps it has taken.
    pub(crate) fn steps(&self) -> usize {
        self.steps.as_ref().map_or(0, |steps| steps.taken.load(Ordering::Relaxed))
    }
}
