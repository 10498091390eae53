//! Background jobs, which end when the server ends.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// When a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The time from the start of the server to the first run.
    pub first: Duration,
    /// The pause between the end of a run and the next one.
    pub every: Duration,
}

/// The jobs of a server.
#[derive(Debug, Default)]
pub struct Jobs {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Jobs {
    /// Runs `work` after each `period`. A run is never interrupted, and the next waits for its end.
    pub fn every<F: Future<Output = ()> + Send>(
        &self,
        period: Duration,
        mut work: impl FnMut() -> F + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(period)).await.is_some() {
                work().await;
            }
        });
    }

    /// Runs work that may be interrupted when the server stops.
    pub fn interruptible<F: Future<Output = ()> + Send>(
        &self,
        schedule: Schedule,
        mut work: impl FnMut() -> F + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let working = async {
                tokio::time::sleep(schedule.first).await;
                loop {
                    work().await;
                    tokio::time::sleep(schedule.every).await;
                }
            };
            stop.run_until_cancelled(working).await;
        });
    }

    /// Runs long work that is never interrupted, and that ends soon after the token is cancelled.
    pub fn stoppable<F: Future<Output = ()> + Send>(
        &self,
        schedule: Schedule,
        mut work: impl FnMut(CancellationToken) -> F + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let mut wait = schedule.first;
            while stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
                work(stop.clone()).await;
                wait = schedule.every;
            }
        });
    }

    /// Stops the jobs, and waits for the runs that must not be interrupted.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn interruptible_work_does_not_delay_a_stop() {
        let jobs = Jobs::default();
        let second = Duration::from_secs(1);
        let schedule = Schedule { first: second, every: second };
        jobs.interruptible(schedule, std::future::pending::<()>);
        tokio::time::sleep(second * 10).await;
        jobs.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn stoppable_work_is_waited_for() {
        let ended = Arc::new(AtomicUsize::new(0));
        let jobs = Jobs::default();
        let counted = Arc::clone(&ended);
        let second = Duration::from_secs(1);
        let schedule = Schedule { first: second, every: second };
        jobs.stoppable(schedule, move |stop| {
            let counted = Arc::clone(&counted);
            async move {
                stop.cancelled().await;
                tokio::time::sleep(second).await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        tokio::time::sleep(second * 10).await;
        jobs.stop().await;
        assert_eq!(ended.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn job_runs_until_it_is_stopped() {
        let runs = Arc::new(AtomicUsize::new(0));
        let jobs = Jobs::default();
        let counted = Arc::clone(&runs);
        jobs.every(Duration::from_secs(1), move || {
            let counted = Arc::clone(&counted);
            async move {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        tokio::time::sleep(Duration::from_millis(3500)).await;
        jobs.stop().await;
        assert_eq!(runs.load(Ordering::Relaxed), 3);
    }
}
