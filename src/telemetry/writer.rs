//! A non-blocking writer of log lines, with a thread of its own.
//!
//! The code that logs pushes a line to a queue and goes on: a write costs more than a small request,
//! and a write to a pipe without a reader would stop the server. The thread writes the queued lines.
//! When the queue is full, lines are dropped, those of unauthenticated callers first, so that a
//! client without a password cannot displace the lines of users.

use std::{
    fmt,
    io::Write,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The most bytes in the queue. Further lines are dropped and counted.
const MAX_QUEUED: usize = 1 << 20;

/// The most bytes in the queue for which it accepts the line of an unauthenticated caller. The rest
/// of the queue is for other lines.
const MAX_QUEUED_UNAUTHENTICATED: usize = MAX_QUEUED / 4;

/// The shortest time between two reports of dropped lines.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// How long the thread collects lines before it writes them: many requests share one write.
const COLLECT_FOR: Duration = Duration::from_millis(5);

/// How long the thread may take for the last lines when the writer is dropped.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The lines that wait for the thread. Clones share one queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// The rank of a line in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// The line is written at once.
    Urgent,
    /// The line is written together with others.
    Usual,
    /// The line is about an unauthenticated caller, and the first to be dropped.
    Unauthenticated,
}

/// The number of dropped lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    /// All dropped lines.
    pub(super) lines: u64,
    /// Those of unauthenticated callers.
    pub(super) unauthenticated: u64,
}

impl Dropped {
    const fn and(self, other: Self) -> Self {
        Self {
            lines: self.lines + other.lines,
            unauthenticated: self.unauthenticated + other.unauthenticated,
        }
    }
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    dropped: Dropped,
    /// Whether the lines must be written at once.
    is_urgent: bool,
    is_closed: bool,
}

/// The thread that writes. When dropped, it writes the lines that are left, within a time limit, and
/// ends.
#[derive(Debug)]
pub(super) struct Writer {
    lines: Lines,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    /// Adds a line, which ends in a newline, or drops it if the queue is full.
    pub(super) fn push(&self, line: &str, rank: Rank) {
        let is_urgent = rank == Rank::Urgent;
        let is_unauthenticated = rank == Rank::Unauthenticated;
        let limit = if is_unauthenticated { MAX_QUEUED_UNAUTHENTICATED } else { MAX_QUEUED };
        let mut queue = self.queue();
        if queue.lines.len() + line.len() > limit {
            queue.dropped.lines += 1;
            queue.dropped.unauthenticated += u64::from(is_unauthenticated);
            return;
        }
        let is_first = queue.lines.is_empty();
        queue.lines.extend_from_slice(line.as_bytes());
        queue.is_urgent |= is_urgent;
        drop(queue);
        if is_first || is_urgent {
            self.0.changed.notify_one();
        }
    }

    /// Starts the thread that writes the lines to `output`. It calls `report` with the number of
    /// dropped lines.
    pub(super) fn write_to(
        &self,
        mut output: impl Write + Send + 'static,
        report: impl Fn(Dropped) + Send + 'static,
    ) -> std::io::Result<Writer> {
        let lines = self.clone();
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut taken = Vec::new();
            let mut unreported = Dropped::default();
            let mut last_report = None::<Instant>;
            while let Some(dropped) = lines.take(&mut taken) {
                // An error of the log cannot be logged.
                let _ = output.write_all(&taken);
                taken.clear();
                unreported = unreported.and(dropped);
                if unreported.lines > 0
                    && last_report.is_none_or(|last| last.elapsed() >= REPORT_EVERY)
                {
                    report(mem::take(&mut unreported));
                    last_report = Some(Instant::now());
                }
            }
            if unreported.lines > 0 {
                report(unreported);
            }
        })?;
        Ok(Writer { lines: self.clone(), thread: Some(thread) })
    }

    /// Waits for lines and exchanges them for an empty buffer. Returns the number of lines dropped
    /// meanwhile; `None` when the queue is closed and empty.
    fn take(&self, buffer: &mut Vec<u8>) -> Option<Dropped> {
        let changed = &self.0.changed;
        let recovered = PoisonError::into_inner;
        let queue = changed
            .wait_while(self.queue(), |queue| queue.lines.is_empty() && !queue.is_closed)
            .unwrap_or_else(recovered);
        let (mut queue, _) = changed
            .wait_timeout_while(queue, COLLECT_FOR, |queue| !queue.is_urgent && !queue.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        if queue.lines.is_empty() {
            return None;
        }
        queue.is_urgent = false;
        mem::swap(&mut queue.lines, buffer);
        Some(mem::take(&mut queue.dropped))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lines.queue().is_closed = true;
        self.lines.0.changed.notify_one();
        let Some(thread) = self.thread.take() else { return };
        // The reader of the output may have stopped, which must not keep the server from ending.
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(COLLECT_FOR);
        }
        if thread.is_finished() {
            // The panic hook has reported a panic of the thread.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    };

    use super::*;

    /// An output that keeps the written bytes, and accepts none before its gate opens.
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
    fn blocked_output_delays_no_caller_and_dropped_lines_are_counted() {
        let (open, gate) = mpsc::channel();
        let lines = Lines::default();
        let written = Arc::default();
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        let report = move |dropped: Dropped| {
            assert_eq!(dropped.unauthenticated, 0);
            counted.fetch_add(dropped.lines, Ordering::Relaxed);
        };
        let writer = lines.write_to(Gated(gate, Arc::clone(&written)), report).unwrap();
        let line = format!("{}\n", "x".repeat(1023));
        let count = 3 * MAX_QUEUED / line.len();
        (0..count).for_each(|_| lines.push(&line, Rank::Usual));
        drop(open);
        drop(writer);

        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let whole = written.lines().filter(|it| *it == line.trim_end()).count();
        let dropped = dropped.load(Ordering::Relaxed);
        assert!(dropped > 0, "the queue had more than {MAX_QUEUED} bytes");
        assert_eq!(whole as u64 + dropped, count as u64);
    }

    #[test]
    fn lines_of_unauthenticated_callers_leave_room_for_others() {
        let (open, gate) = mpsc::channel();
        let lines = Lines::default();
        let written = Arc::default();
        let (sender, reports) = mpsc::channel();
        let report = move |dropped| sender.send(dropped).unwrap();
        let writer = lines.write_to(Gated(gate, Arc::clone(&written)), report).unwrap();
        let unknown = format!("unknown {}\n", "x".repeat(200));
        let user = format!("user {}\n", "x".repeat(200));
        // Lines of users for all of their room; before and after them, lines of unauthenticated
        // callers for twice the queue.
        let users = (MAX_QUEUED - MAX_QUEUED_UNAUTHENTICATED) / user.len() - 1;
        let unknowns = 2 * MAX_QUEUED / unknown.len();
        for (line, rank, count) in [
            (&unknown, Rank::Unauthenticated, unknowns),
            (&user, Rank::Usual, users),
            (&unknown, Rank::Unauthenticated, unknowns),
        ] {
            (0..count).for_each(|_| lines.push(line, rank));
        }
        drop(open);
        drop(writer);

        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let count = |line: &str| written.lines().filter(|it| *it == line.trim_end()).count();
        assert_eq!(count(&user), users, "no line of a user is dropped");
        assert!(count(&unknown) > 0);
        let dropped = reports.iter().fold(Dropped::default(), Dropped::and);
        let missing = (2 * unknowns - count(&unknown)) as u64;
        assert_eq!(dropped, Dropped { lines: missing, unauthenticated: missing });
    }

    #[test]
    fn blocked_output_does_not_keep_the_writer_from_ending() {
        let (_never, gate) = mpsc::channel();
        let lines = Lines::default();
        let writer = lines.write_to(Gated(gate, Arc::default()), |_| {}).unwrap();
        lines.push("one\n", Rank::Urgent);
        drop(writer);
    }

    #[test]
    fn lines_are_written_in_their_order_before_the_writer_is_gone() {
        let (open, gate) = mpsc::channel();
        drop(open);
        let lines = Lines::default();
        let written = Arc::default();
        let writer = lines.write_to(Gated(gate, Arc::clone(&written)), |_| {}).unwrap();
        lines.push("one\n", Rank::Usual);
        lines.push("two\n", Rank::Urgent);
        lines.push("three\n", Rank::Usual);
        drop(writer);
        assert_eq!(*written.lock().unwrap(), b"one\ntwo\nthree\n");
    }
}
