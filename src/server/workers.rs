//! The threads that serve connections.
//!
//! Each has a runtime of its own, and a connection stays where it was given to: what it waited for
//! wakes that thread and no other. The threads of one runtime for all wake each other to share what
//! there is to do, and for small requests that costs a quarter of all there is (docs/PERFORMANCE.md).

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

/// How many there are at least. With two on two processors each is interrupted by the client that it
/// has just sent something to; more than four are no better (docs/PERFORMANCE.md).
const AT_LEAST: usize = 4;

/// How many threads each has that wait for the disk: four times this can keep any disk busy.
const BLOCKING: usize = 16;

/// Work that blocks and goes on when nobody waits for it any more, such as a look at a disk that
/// stands still, is waited for no longer at the end.
const LAST_WORK: Duration = Duration::from_secs(2);

/// Threads that serve connections, until this is stopped or dropped: then what they still do ends
/// where it waits.
#[derive(Debug)]
pub struct Workers {
    pool: WorkerPool,
    threads: Vec<JoinHandle<()>>,
    end: DropGuard,
}

impl Workers {
    /// Starts one for each processor, and at least four.
    ///
    /// # Errors
    ///
    /// When the system has no room for more threads or descriptors.
    pub fn start() -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let (end, mut pool, mut threads) = (CancellationToken::new(), Vec::new(), Vec::new());
        // From here on an early return ends those that run.
        let guard = end.clone().drop_guard();
        for _ in 0..processors.max(AT_LEAST) {
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
                runtime.shutdown_timeout(LAST_WORK);
            })?);
        }
        Ok(Self { pool: WorkerPool(pool.into()), threads, end: guard })
    }

    /// Ends them, and waits for what they have begun to do on the disk.
    pub async fn stop(self) {
        let Self { pool: _, threads, end } = self;
        drop(end);
        let join = move || threads.into_iter().all(|thread| thread.join().is_ok());
        if !tokio::task::spawn_blocking(join).await.unwrap_or(false) {
            tracing::error!("a thread that served connections has panicked");
        }
    }

    /// How many tasks are alive on them all: a connection is one, and so are a stream of HTTP/2 that
    /// waits for something and work that goes on when its client is gone.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.pool.0.iter().map(|worker| worker.runtime.metrics().num_alive_tasks()).sum()
    }

    pub(super) fn pool(&self) -> WorkerPool {
        self.pool.clone()
    }
}

/// Who connections are given to.
#[derive(Clone, Debug)]
pub(super) struct WorkerPool(Arc<[Worker]>);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

/// A worker that serves one more connection, until this is dropped.
#[derive(Debug)]
pub(super) struct Assignment {
    /// Its index among the [`runtimes`](WorkerPool::runtimes).
    pub(super) worker: usize,
    connections: Arc<AtomicUsize>,
}

impl WorkerPool {
    /// The runtimes of the workers, one for each.
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
    async fn a_connection_goes_where_there_are_fewest() {
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
    async fn what_has_been_begun_on_the_disk_is_done_when_they_have_stopped() {
        let workers = Workers::start().unwrap();
        let pool = workers.pool();
        let runtime = pool.runtimes().next().unwrap();
        let (begun, has_begun) = oneshot::channel();
        let done = Arc::new(AtomicUsize::new(0));
        let told = Arc::clone(&done);
        runtime.spawn_blocking(move || {
            begun.send(()).unwrap();
            thread::sleep(Duration::from_millis(100));
            told.store(1, Ordering::SeqCst);
        });
        has_begun.await.unwrap();
        workers.stop().await;
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn they_end_when_they_are_dropped() {
        let workers = Workers::start().unwrap();
        let pool = workers.pool();
        let runtime = pool.runtimes().next().unwrap();
        let (waiting, ends) = oneshot::channel::<()>();
        let _waits = runtime.spawn(async move {
            let _waiting = waiting;
            std::future::pending::<()>().await;
        });
        drop(workers);
        assert!(ends.await.is_err(), "what waited has ended");
    }
}
