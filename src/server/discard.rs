//! What is still read of a client that has been answered, and dropped.
//!
//! Many clients send all of a request before they look for its answer. One whose connection is
//! closed or whose stream is reset meanwhile loses the answer: with something unread in it, a socket
//! that is closed throws away what was not yet sent (RFC 9112 §9.6). So unwanted bytes are read
//! for a while, as nginx does (`lingering_time`, `lingering_timeout`), and no faster than a stranger
//! may use up processor time.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// A client that says nothing for this long is not waited for; nor one that goes on for longer than
/// that.
pub(super) const QUIET: Duration = Duration::from_secs(5);
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// So many bytes are taken in a second.
const RATE: usize = 16 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// How long, and how fast, something unwanted is read.
#[derive(Debug)]
pub(super) struct Discard {
    /// Runs out when the client has been quiet for long, or when the pause is over.
    timer: Pin<Box<Sleep>>,
    end: Instant,
    /// Since when `taken` bytes were.
    since: Instant,
    taken: usize,
    paused: bool,
}

impl Discard {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let timer = Box::pin(sleep(QUIET));
        Self { timer, end: now + LONGEST, since: now, taken: 0, paused: false }
    }

    /// Reads by `read`, which gives how many bytes it dropped, and `None` when there are no more.
    /// Ready when that is so, or when the client need not be listened to any longer.
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
                Poll::Ready(Some(bytes)) if self.goes_on(bytes) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.timer.as_mut().poll(cx),
            }
        }
    }

    /// Notes that something has come, and says whether there may be more.
    fn goes_on(&mut self, bytes: usize) -> bool {
        let now = Instant::now();
        if now >= self.since + SECOND {
            (self.since, self.taken) = (now, 0);
        }
        self.taken += bytes;
        self.paused = self.taken >= RATE;
        let until = if self.paused { self.since + SECOND } else { now + QUIET };
        self.timer.as_mut().reset(until.min(self.end));
        now < self.end
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// How long a client is read that has sent `bytes` each time it is looked for.
    async fn read_for(bytes: Option<usize>) -> (Duration, usize) {
        let (begun, mut discard, mut heard) = (Instant::now(), Discard::new(), 0);
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
    async fn a_client_that_is_quiet_is_let_go() {
        let (took, _) = read_for(None).await;
        assert_eq!(took.as_secs(), QUIET.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_on_and_on_is_read_slowly_and_let_go() {
        let (took, heard) = read_for(Some(1 << 20)).await;
        assert_eq!(took.as_secs(), LONGEST.as_secs());
        let most = RATE * (LONGEST.as_secs() as usize + 1);
        assert!((most / 2..=most).contains(&heard), "{heard}");
    }
}
