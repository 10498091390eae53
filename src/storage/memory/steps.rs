//! Interruptions: another process runs before some of the steps of a process.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{Clock, Memory, Shared, locked};

/// The work of another process.
pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Counts the steps, and has the work that runs before each of them.
pub(super) struct Steps {
    taken: AtomicUsize,
    before: Mutex<Box<dyn FnMut(usize) -> Option<Work> + Send>>,
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl Steps {
    pub(super) async fn next(&self) {
        let step = self.taken.fetch_add(1, Ordering::Relaxed);
        let work = (locked(&self.before))(step);
        if let Some(work) = work {
            work.await;
        }
    }
}

impl Memory {
    /// The same memory for a process that another one interrupts before its `at`-th step.
    pub(crate) fn interrupted(&self, at: usize, work: Work) -> Self {
        self.interrupted_at([(at, work)])
    }

    /// The same memory for a process that others interrupt, each before one of its steps.
    pub(crate) fn interrupted_at(&self, works: impl IntoIterator<Item = (usize, Work)>) -> Self {
        let mut works = BTreeMap::from_iter(works);
        self.with_steps(move |step| works.remove(&step))
    }

    /// The same memory for a process that others interrupt before each step.
    pub(crate) fn interrupted_always(
        &self,
        mut work: impl FnMut() -> Work + Send + 'static,
    ) -> Self {
        self.with_steps(move |_| Some(work()))
    }

    fn with_steps(&self, before: impl FnMut(usize) -> Option<Work> + Send + 'static) -> Self {
        let before: Box<dyn FnMut(usize) -> Option<Work> + Send> = Box::new(before);
        let steps = Steps { taken: AtomicUsize::new(0), before: Mutex::new(before) };
        Self { shared: Arc::clone(&self.shared), steps: Some(Arc::new(steps)) }
    }

    /// How many steps it has taken.
    pub(crate) fn steps(&self) -> usize {
        self.steps.as_ref().map_or(0, |steps| steps.taken.load(Ordering::Relaxed))
    }

    /// Another memory with the same objects, which no process uses yet.
    pub(crate) fn copied(&self) -> Self {
        let Clock { last, ahead } = *locked(&self.shared.clock);
        let objects = locked(&self.shared.objects).clone();
        let shared = Shared {
            mode: self.shared.mode,
            objects: Mutex::new(objects),
            clock: Mutex::new(Clock { last, ahead }),
            ..Shared::default()
        };
        Self { shared: Arc::new(shared), steps: None }
    }
}

/// Lets `work` run until it has ended or waits for another process: the paused clock of the test goes on
/// only when no task can run.
#[expect(clippy::disallowed_methods, reason = "the runtime ends with the test")]
pub(crate) fn in_between(work: impl Future<Output = ()> + Send + 'static) -> (Work, Arc<Notify>) {
    let ended = Arc::new(Notify::new());
    let end = Arc::clone(&ended);
    let work = Box::pin(async move {
        tokio::spawn(async move {
            work.await;
            end.notify_one();
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
    });
    (work, ended)
}

/// Runs `outer`, and `inner` before its `at`-th step, until both have ended; `false` when there is no
/// such step.
pub(crate) async fn in_the_middle<Outer, Inner>(
    objects: &Memory,
    at: usize,
    outer: impl FnOnce(Memory) -> Outer,
    inner: impl FnOnce(Memory) -> Inner,
) -> bool
where
    Outer: Future<Output = ()>,
    Inner: Future<Output = ()> + Send + 'static,
{
    let (work, ended) = in_between(inner(objects.clone()));
    let interrupted = objects.interrupted(at, work);
    outer(interrupted.clone()).await;
    let is_reached = interrupted.steps() > at;
    if is_reached {
        ended.notified().await;
    }
    is_reached
}
