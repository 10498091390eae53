//! A non-blocking writer of log lines, on a thread of its own.
//!
//! Whoever logs leaves a line here and goes on: a write costs more than a small request, and one to
//! a pipe that nobody reads would stop the server. A thread writes what has gathered. When more
//! comes than is read, lines are left out: first those of callers who were not let in, so that
//! nobody who has no password can push out of the log what those who have one did.

use std::{
    fmt,
    io::Write,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How many bytes may wait. What comes while they do is counted and left out.
const MOST: usize = 1 << 20;

/// How many bytes may wait when the line of a caller who was not let in is left. The rest is for
/// others.
const MOST_OF_STRANGERS: usize = MOST / 4;

/// How often it is said that lines were left out, at most.
const SAID_EVERY: Duration = Duration::from_secs(1);

/// How long lines gather before they are written: with many requests, one write for all of them.
const GATHER: Duration = Duration::from_millis(5);

/// How long the last lines may take.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Where lines are left. Clones share one queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Arc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// It is written at once.
    Urgent,
    /// It is written with the others.
    Usual,
    /// It is about a caller who was not let in: the first to be left out.
    OfStranger,
}

/// How many lines were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// All of them.
    pub(super) lines: u64,
    /// Those among them about callers who were not let in.
    pub(super) of_strangers: u64,
}

impl LeftOut {
    const fn and(self, other: Self) -> Self {
        Self {
            lines: self.lines + other.lines,
            of_strangers: self.of_strangers + other.of_strangers,
        }
    }
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    left_out: LeftOut,
    /// A line that must not wait for more has come.
    urgent: bool,
    closed: bool,
}

/// The thread that writes. Dropped, it writes what is left, as far as that is read, and ends.
#[derive(Debug)]
pub(super) struct Writer {
    lines: Lines,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    /// Leaves a line, which ends in a newline.
    pub(super) fn leave(&self, line: &str, rank: Rank) {
        let urgent = rank == Rank::Urgent;
        let most = if rank == Rank::OfStranger { MOST_OF_STRANGERS } else { MOST };
        let mut waiting = self.waiting();
        if waiting.lines.len() + line.len() > most {
            waiting.left_out.lines += 1;
            waiting.left_out.of_strangers += u64::from(rank == Rank::OfStranger);
            return;
        }
        let first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line.as_bytes());
        waiting.urgent |= urgent;
        drop(waiting);
        if first || urgent {
            self.0.changed.notify_one();
        }
    }

    /// Starts the thread that writes them to `output`, and tells `report` how many were left out.
    pub(super) fn write_to(
        &self,
        mut output: impl Write + Send + 'static,
        report: impl Fn(LeftOut) + Send + 'static,
    ) -> std::io::Result<Writer> {
        let lines = self.clone();
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut taken = Vec::new();
            let mut unsaid = LeftOut::default();
            let mut said = None::<Instant>;
            while let Some(left_out) = lines.take(&mut taken) {
                // There is nowhere to say that the log cannot be written.
                let _ = output.write_all(&taken);
                taken.clear();
                unsaid = unsaid.and(left_out);
                if unsaid.lines > 0 && said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
                    report(mem::take(&mut unsaid));
                    said = Some(Instant::now());
                }
            }
            if unsaid.lines > 0 {
                report(unsaid);
            }
        })?;
        Ok(Writer { lines: self.clone(), thread: Some(thread) })
    }

    /// Waits for lines and takes them all, in exchange for an empty buffer; tells how many were
    /// left out. `None` when there will be no more.
    fn take(&self, buffer: &mut Vec<u8>) -> Option<LeftOut> {
        let changed = &self.0.changed;
        let recovered = PoisonError::into_inner;
        let waiting = changed
            .wait_while(self.waiting(), |it| it.lines.is_empty() && !it.closed)
            .unwrap_or_else(recovered);
        let (mut waiting, _) = changed
            .wait_timeout_while(waiting, GATHER, |it| !it.urgent && !it.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if waiting.lines.is_empty() {
            return None;
        }
        waiting.urgent = false;
        mem::swap(&mut waiting.lines, buffer);
        Some(mem::take(&mut waiting.left_out))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lines.waiting().closed = true;
        self.lines.0.changed.notify_one();
        let Some(thread) = self.thread.take() else { return };
        // Whoever reads may have stopped to: that must not keep a server from ending.
        let given_up = Instant::now() + LAST_LINES;
        while !thread.is_finished() && Instant::now() < given_up {
            thread::sleep(GATHER);
        }
        if thread.is_finished() {
            // It does not panic; if it did, the panic was reported.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    };

    use super::*;

    /// An output that keeps what is written, and that does not accept anything before it may.
    struct Gated(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_output_that_accepts_nothing_delays_nobody_and_what_is_left_out_is_counted() {
        let (open, gate) = mpsc::channel();
        let lines = Lines::default();
        let written = Arc::default();
        let left_out = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&left_out);
        let report = move |left_out: LeftOut| {
            assert_eq!(left_out.of_strangers, 0);
            counted.fetch_add(left_out.lines, Ordering::Relaxed);
        };
        let writer = lines.write_to(Gated(gate, Arc::clone(&written)), report).unwrap();
        let line = format!("{}\n", "x".repeat(1023));
        let count = 3 * MOST / line.len();
        (0..count).for_each(|_| lines.leave(&line, Rank::Usual));
        drop(open);
        drop(writer);

        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let whole = written.lines().filter(|it| *it == line.trim_end()).count();
        let left_out = left_out.load(Ordering::Relaxed);
        assert!(left_out > 0, "more than {MOST} bytes waited");
        assert_eq!(whole as u64 + left_out, count as u64);
    }

    #[test]
    fn lines_of_strangers_leave_room_for_those_of_who_was_let_in() {
        let (open, gate) = mpsc::channel();
        let lines = Lines::default();
        let written = Arc::default();
        let (said, left_out) = mpsc::channel();
        let report = move |left_out| said.send(left_out).unwrap();
        let writer = lines.write_to(Gated(gate, Arc::clone(&written)), report).unwrap();
        let stranger = format!("stranger {}\n", "x".repeat(200));
        let user = format!("user {}\n", "x".repeat(200));
        // As much as there is room for in all, and twice as much of strangers before it and behind.
        let users = (MOST - MOST_OF_STRANGERS) / user.len() - 1;
        let strangers = 2 * MOST / stranger.len();
        for (line, rank, count) in [
            (&stranger, Rank::OfStranger, strangers),
            (&user, Rank::Usual, users),
            (&stranger, Rank::OfStranger, strangers),
        ] {
            (0..count).for_each(|_| lines.leave(line, rank));
        }
        drop(open);
        drop(writer);

        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let count = |line: &str| written.lines().filter(|it| *it == line.trim_end()).count();
        assert_eq!(count(&user), users, "none is left out");
        assert!(count(&stranger) > 0);
        let left_out = left_out.iter().fold(LeftOut::default(), LeftOut::and);
        let missing = (2 * strangers - count(&stranger)) as u64;
        assert_eq!(left_out, LeftOut { lines: missing, of_strangers: missing });
    }

    #[test]
    fn an_output_that_accepts_nothing_keeps_nobody_from_ending() {
        let (_never, gate) = mpsc::channel();
        let lines = Lines::default();
        let writer = lines.write_to(Gated(gate, Arc::default()), |_| {}).unwrap();
        lines.leave("one\n", Rank::Urgent);
        drop(writer);
    }

    #[test]
    fn lines_are_written_in_their_order_before_the_writer_is_gone() {
        let (open, gate) = mpsc::channel();
        drop(open);
        let lines = Lines::default();
        let written = Arc::default();
        let writer = lines.write_to(Gated(gate, Arc::clone(&written)), |_| {}).unwrap();
        lines.leave("one\n", Rank::Usual);
        lines.leave("two\n", Rank::Urgent);
        lines.leave("three\n", Rank::Usual);
        drop(writer);
        assert_eq!(*written.lock().unwrap(), b"one\ntwo\nthree\n");
    }
}
