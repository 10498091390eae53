//! Reads and drops what a client still sends after its response, for a limited time and at a limited
//! rate.
//!
//! Many clients send all of a request before they read the response. Such a client loses the response
//! when the server closes the connection or resets the stream meanwhile: a socket that is closed with
//! unread data discards the data not yet sent (RFC 9112 §9.6). So the server reads on for a while, as
//! nginx does (`lingering_time`, `lingering_timeout`). The rate limit bounds the processor time that
//! an unauthenticated client can use up.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// How long the server waits for the next byte.
pub(super) const LINGERING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the server reads in all.
pub(super) const LINGERING_TIME: Duration = Duration::from_secs(30);

/// How many bytes the server reads per second.
const RATE: usize = 16 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// The time limits and the rate limit of bytes that are discarded.
#[derive(Debug)]
pub(super) struct Discard {
    /// Elapses at the end of a pause, and otherwise when the next byte is overdue.
    timer: Pin<Box<Sleep>>,
    end: Instant,
    /// When the current second of the rate limit began.
    since: Instant,
    /// How many bytes were read since then.
    taken: usize,
    paused: bool,
}

impl Discard {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let timer = Box::pin(sleep(LINGERING_TIMEOUT));
        Self { timer, end: now + LINGERING_TIME, since: now, taken: 0, paused: false }
    }

    /// Calls `read`, which returns the number of bytes that it dropped, and `None` at the end. Ready
    /// at the end, or when a time limit has elapsed.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(&mut Context<'_>) -> Poll<Option<usize>>,
    ) -> Poll<()> {
        loop {
            if self.paused {
                ready!(self.timer.as_mut().poll(cx));
                self.paused = false;
            }
            match read(cx) {
                Poll::Ready(Some(bytes)) if self.note(bytes) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.timer.as_mut().poll(cx),
            }
        }
    }

    /// Counts the bytes, sets the timer, and returns whether the server reads on.
    fn note(&mut self, bytes: usize) -> bool {
        let now = Instant::now();
        if now >= self.since + SECOND {
            self.since = now;
            self.taken = 0;
        }
        self.taken += bytes;
        self.paused = self.taken >= RATE;
        let until = if self.paused { self.since + SECOND } else { now + LINGERING_TIMEOUT };
        self.timer.as_mut().reset(until.min(self.end));
        now < self.end
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// How long, and how much, the server reads from a client that has sent `bytes` at each read.
    async fn read_for(bytes: Option<usize>) -> (Duration, usize) {
        let begun = Instant::now();
        let mut discard = Discard::new();
        let mut heard = 0;
        poll_fn(|cx| {
            discard.poll(cx, |_| match bytes {
                Some(bytes) if heard < 100 * RATE => {
                    heard += bytes;
                    Poll::Ready(Some(bytes))
                }
                Some(_) => Poll::Ready(None),
                None => Poll::Pending,
            })
        })
        .await;
        (begun.elapsed(), heard)
    }

    #[tokio::test(start_paused = true)]
    async fn discarding_ends_after_the_lingering_timeout_without_a_byte() {
        let (took, _) = read_for(None).await;
        assert_eq!(took.as_secs(), LINGERING_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn discarding_of_an_endless_body_is_slow_and_ends_after_the_lingering_time() {
        let (took, heard) = read_for(Some(1 << 20)).await;
        assert_eq!(took.as_secs(), LINGERING_TIME.as_secs());
        let most = RATE * (LINGERING_TIME.as_secs() as usize + 1);
        assert!((most / 2..=most).contains(&heard), "{heard}");
    }
}
