//! Delivers the events of a queue to its endpoint, one after the other.
//!
//! As in registry:2, an event is tried until the endpoint accepts it: again at once after a
//! failure, and after `threshold` failures in a row with a pause of `backoff` before each attempt.
//! No event overtakes another.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    EndpointOptions,
    event::envelope,
    post::{Delivered, DeliveryError, Post},
    queue::Queue,
};

/// How long an attempt may go on after the sender was stopped.
const LAST: Duration = Duration::from_secs(3);

/// The pause after a queue could not be read.
const UNREADABLE: Duration = Duration::from_secs(10);

/// Delivers until `stop`. Waits first for another sender that still has the queue.
pub(super) async fn run(
    options: Arc<EndpointOptions>,
    queue: Arc<Queue>,
    post: Arc<dyn Post>,
    stop: CancellationToken,
) {
    let Some(_turn) = stop.run_until_cancelled(queue.turn()).await else { return };
    let mut sender = Sender { options, post, stop, failures: 0 };
    while sender.next(&queue).await.is_some() {}
}

#[derive(Debug)]
struct Sender {
    options: Arc<EndpointOptions>,
    post: Arc<dyn Post>,
    stop: CancellationToken,
    /// How many attempts in a row have failed.
    failures: u64,
}

impl Sender {
    /// Delivers the event at the front of the queue, however long that takes; `None` when stopped.
    async fn next(&mut self, queue: &Queue) -> Option<()> {
        let line = match self.stop.run_until_cancelled(queue.front()).await? {
            Ok(line) => line,
            Err(error) => {
                let endpoint = &self.options.name;
                tracing::error!(endpoint, %error, "cannot read the queue of an endpoint");
                return self.stop.run_until_cancelled(sleep(UNREADABLE)).await;
            }
        };
        loop {
            if self.failures >= u64::from(self.options.threshold) {
                self.stop.run_until_cancelled(sleep(self.options.backoff)).await?;
            }
            match self.attempt(&line).await? {
                Ok(taken) => {
                    self.recovered();
                    queue.taken(taken).await;
                    return Some(());
                }
                Err(error) => {
                    queue.not_taken(&error);
                    self.failed(&error);
                }
            }
        }
    }

    /// One attempt; `None` when it was abandoned because the sender was stopped.
    async fn attempt(&self, line: &[u8]) -> Option<Result<Delivered, DeliveryError>> {
        if self.stop.is_cancelled() {
            return None;
        }
        let ending = async {
            self.stop.cancelled().await;
            sleep(LAST).await;
        };
        tokio::select! {
            biased;
            outcome = self.post.post(envelope(line)) => Some(outcome),
            () = ending => None,
        }
    }

    /// Logs that the endpoint fails, at the first failure and at the threshold.
    fn failed(&mut self, error: &DeliveryError) {
        self.failures += 1;
        let endpoint = &self.options.name;
        if self.failures == 1 {
            tracing::warn!(
                endpoint,
                %error,
                "the endpoint refused an event; it will be sent again"
            );
        } else if self.failures == u64::from(self.options.threshold) {
            tracing::error!(
                endpoint,
                %error,
                failures = self.failures,
                backoff = format_args!("{:?}", self.options.backoff),
                "the endpoint accepts no events; they stay queued, and delivery is retried"
            );
        }
    }

    fn recovered(&mut self) {
        let failures = std::mem::take(&mut self.failures);
        if failures > 0 {
            tracing::info!(
                endpoint = self.options.name,
                failures,
                "the endpoint accepts events again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use async_trait::async_trait;
    use tokio::{sync::mpsc, time::Instant};
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::notify::{Place, queue::Limits};

    /// An endpoint with prepared responses. It reports the time and the event of each request.
    #[derive(Debug)]
    struct Scripted {
        answers: Mutex<VecDeque<u16>>,
        asked: mpsc::UnboundedSender<(Instant, String)>,
    }

    #[async_trait]
    impl Post for Scripted {
        async fn post(&self, envelope: Vec<u8>) -> Result<Delivered, DeliveryError> {
            let envelope: serde_json::Value = serde_json::from_slice(&envelope).unwrap();
            let event = envelope["events"][0]["id"].as_str().unwrap().to_owned();
            self.asked.send((Instant::now(), event)).unwrap();
            let answer = self.answers.lock().unwrap().pop_front().unwrap_or(200);
            match answer {
                0 => Err(DeliveryError::NoAnswer("none".to_owned())),
                1 => std::future::pending().await,
                status @ 200..400 => Ok(Delivered { status }),
                status => Err(DeliveryError::Refused(status)),
            }
        }
    }

    struct Stage {
        queue: Arc<Queue>,
        asked: mpsc::UnboundedReceiver<(Instant, String)>,
        tasks: TaskTracker,
        stop: CancellationToken,
    }

    impl Stage {
        fn new(answers: &[u16]) -> Self {
            let tasks = TaskTracker::new();
            let queue = Arc::new(Queue::open(&Place::Memory, "hook", &tasks).unwrap());
            queue.limit(Limits::of(100));
            let (asked, receiver) = mpsc::unbounded_channel();
            let answers = Mutex::new(answers.iter().copied().collect());
            let post = Arc::new(Scripted { answers, asked });
            let options = EndpointOptions {
                name: "hook".to_owned(),
                threshold: 3,
                backoff: Duration::from_secs(60),
                ..EndpointOptions::default()
            };
            let stop = CancellationToken::new();
            let sender = run(Arc::new(options), Arc::clone(&queue), post, stop.clone());
            tasks.spawn(sender);
            Self { queue, asked: receiver, tasks, stop }
        }

        async fn add(&self, id: &str) {
            self.queue.add(format!("{{\"id\":\"{id}\"}}").into_bytes().into()).await;
        }

        async fn asked(&mut self) -> (Instant, String) {
            self.asked.recv().await.unwrap()
        }

        async fn end(self) {
            self.stop.cancel();
            self.queue.close();
            self.tasks.close();
            self.tasks.wait().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refused_event_is_not_overtaken() {
        let mut stage = Stage::new(&[500, 0, 200, 302]);
        for id in ["a", "b", "c"] {
            stage.add(id).await;
        }
        let mut order = Vec::new();
        for _ in 0..5 {
            order.push(stage.asked().await.1);
        }
        assert_eq!(order, ["a", "a", "a", "b", "c"]);
        let queue = Arc::clone(&stage.queue);
        stage.end().await;
        let counts = queue.counts();
        assert_eq!((counts.successes, counts.failures, counts.errors), (3, 1, 1));
        assert_eq!((counts.events, counts.pending), (3, 0));
        let expected = [("200 OK", 2), ("302 Found", 1), ("500 Internal Server Error", 1)];
        assert_eq!(counts.statuses, expected.map(|(status, count)| (status.to_owned(), count)));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_pause_after_the_threshold() {
        let mut stage = Stage::new(&[500, 500, 500, 500, 200, 500, 200]);
        let begun = Instant::now();
        stage.add("a").await;
        stage.add("b").await;
        let mut waited = Vec::new();
        for _ in 0..7 {
            waited.push((stage.asked().await.0 - begun).as_secs());
        }
        // Three attempts at once, then one a minute until an attempt succeeds; then the count restarts.
        assert_eq!(waited, [0, 0, 0, 60, 120, 120, 120]);
        stage.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn sender_ends_although_the_endpoint_never_answers() {
        let mut stage = Stage::new(&[1]);
        stage.add("a").await;
        stage.asked().await;
        let queue = Arc::clone(&stage.queue);
        stage.end().await;
        assert_eq!(queue.counts().pending, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn second_sender_waits_for_the_first() {
        let mut stage = Stage::new(&[1, 1]);
        stage.add("a").await;
        stage.asked().await;
        stage.stop.cancel();
        let (asked, mut receiver) = mpsc::unbounded_channel();
        let post = Arc::new(Scripted { answers: Mutex::default(), asked });
        let stop = CancellationToken::new();
        let options = EndpointOptions { threshold: 1, ..EndpointOptions::default() };
        let second = run(Arc::new(options), Arc::clone(&stage.queue), post, stop.clone());
        let began = Instant::now();
        stage.tasks.spawn(second);
        let (at, event) = receiver.recv().await.unwrap();
        assert_eq!((at - began, &*event), (LAST, "a"));
        stop.cancel();
        stage.end().await;
    }
}
