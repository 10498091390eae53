//! Worker threads: they serve connections.
//!
//! Each worker has a runtime of its own, and a connection stays on the worker that it is assigned to:
//! an event of the connection wakes that thread and no other. The threads of one shared runtime wake
//! each other to share tasks, which costs a quarter of the processor time of small requests
//! (docs/PERFORMANCE.md).

use std::{
    io,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The least number of workers. With two workers on two processors, a client on the same machine
/// interrupts the worker that has just written to it; more than four are no faster
/// (docs/PERFORMANCE.md).
const MIN_WORKERS: usize = 4;

/// The number of threads for blocking disk access of each worker: four times as many keep any disk
/// busy.
const BLOCKING: usize = 16;

/// How long a worker that stops waits for its blocking tasks. A task may never return, such as a read
/// from a disk that does not answer.
const BLOCKING_GRACE: Duration = Duration::from_secs(2);

/// The worker threads. When this is stopped or dropped, their tasks end at the next point where they
/// wait.
#[derive(Debug)]
pub struct Workers {
    pool: WorkerPool,
    threads: Vec<JoinHandle<()>>,
    end: DropGuard,
}

impl Workers {
    /// Starts a worker for each processor, and at least four.
    ///
    /// # Errors
    ///
    /// When the system refuses more threads or descriptors.
    pub fn start() -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let end = CancellationToken::new();
        let mut pool = Vec::new();
        let mut threads = Vec::new();
        // An early return ends the workers that run already.
        let guard = end.clone().drop_guard();
        for _ in 0..processors.max(MIN_WORKERS) {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(BLOCKING)
                .thread_name("disk")
                .build()?;
            pool.push(Worker {
                runtime: runtime.handle().clone(),
                connections: Arc::new(AtomicUsize::new(0)),
            });
            let end = end.clone();
            threads.push(thread::Builder::new().name("serving".to_owned()).spawn(move || {
                runtime.block_on(end.cancelled());
                runtime.shutdown_timeout(BLOCKING_GRACE);
            })?);
        }
        Ok(Self { pool: WorkerPool(pool.into()), threads, end: guard })
    }

    /// Ends the workers, and waits for the blocking tasks that they have begun.
    pub async fn stop(self) {
        let Self { pool: _, threads, end } = self;
        drop(end);
        let join = move || threads.into_iter().all(|thread| thread.join().is_ok());
        if !tokio::task::spawn_blocking(join).await.unwrap_or(false) {
            tracing::error!("a worker thread has panicked");
        }
    }

    /// The number of live tasks of all workers: those that serve and watch connections, those of
    /// requests over HTTP/2, and work that runs to its end although its client has disconnected.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.pool.0.iter().map(|worker| worker.runtime.metrics().num_alive_tasks()).sum()
    }

    pub(super) fn pool(&self) -> WorkerPool {
        self.pool.clone()
    }
}

/// The workers, to which connections are assigned.
#[derive(Clone, Debug)]
pub(super) struct WorkerPool(Arc<[Worker]>);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

/// The assignment of one connection to a worker. It counts among the worker's connections until it is
/// dropped.
#[derive(Debug)]
pub(super) struct Assignment {
    /// The worker's index among the [`runtimes`](WorkerPool::runtimes).
    pub(super) worker: usize,
    connections: Arc<AtomicUsize>,
}

impl WorkerPool {
    /// The runtime of each worker.
    pub(super) fn runtimes(&self) -> impl Iterator<Item = &Handle> {
        self.0.iter().map(|worker| &worker.runtime)
    }

    /// Assigns one more connection to the worker with the fewest.
    pub(super) fn assign(&self) -> Assignment {
        let connections = |&at: &usize| self.0[at].connections.load(Ordering::Relaxed);
        let worker = (0..self.0.len()).min_by_key(connections).unwrap_or(0);
        let connections = &self.0[worker].connections;
        connections.fetch_add(1, Ordering::Relaxed);
        Assignment { worker, connections: Arc::clone(connections) }
    }
}

impl Drop for Assignment {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn connection_is_assigned_to_the_worker_with_the_fewest() {
        let workers = Workers::start().unwrap();
        let pool = workers.pool();
        let count = pool.0.len();
        let mut assignments: Vec<_> = (0..2 * count).map(|_| pool.assign()).collect();
        let open = || pool.0.iter().map(|worker| worker.connections.load(Ordering::Relaxed));
        assert!(open().all(|open| open == 2), "{:?}", open().collect::<Vec<_>>());
        let left = Arc::clone(&assignments.swap_remove(3).connections);
        assert_eq!(left.load(Ordering::Relaxed), 1);
        let next = pool.assign();
        assert!(Arc::ptr_eq(&next.connections, &left));
        workers.stop().await;
    }

    #[tokio::test]
    async fn stop_waits_for_blocking_tasks() {
        let workers = Workers::start().unwrap();
        let pool = workers.pool();
        let runtime = pool.runtimes().next().unwrap();
        let (begun, has_begun) = oneshot::channel();
        let done = Arc::new(AtomicUsize::new(0));
        let set_done = Arc::clone(&done);
        runtime.spawn_blocking(move || {
            begun.send(()).unwrap();
            thread::sleep(Duration::from_millis(100));
            set_done.store(1, Ordering::SeqCst);
        });
        has_begun.await.unwrap();
        workers.stop().await;
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn tasks_end_when_the_workers_are_dropped() {
        let workers = Workers::start().unwrap();
        let pool = workers.pool();
        let runtime = pool.runtimes().next().unwrap();
        let (waiting, ends) = oneshot::channel::<()>();
        let _waits = runtime.spawn(async move {
            let _waiting = waiting;
            std::future::pending::<()>().await;
        });
        drop(workers);
        assert!(ends.await.is_err(), "the waiting task has ended");
    }
}
