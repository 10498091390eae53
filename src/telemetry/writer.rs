//! Lines on their way to standard error.
//!
//! Whoever logs leaves a line here and goes on: a write costs more than a small request, and one to
//! a pipe that nobody reads would stop the server. A thread writes what has gathered.

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

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    left_out: u64,
    /// Somebody waits for the thread to hurry.
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
    /// Leaves a line, which ends in a newline; one that is urgent is written at once.
    pub(super) fn leave(&self, line: &str, urgent: bool) {
        let mut waiting = self.waiting();
        if waiting.lines.len() + line.len() > MOST {
            waiting.left_out += 1;
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
        report: impl Fn(u64) + Send + 'static,
    ) -> std::io::Result<Writer> {
        let lines = self.clone();
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut taken = Vec::new();
            while let Some(left_out) = lines.take(&mut taken) {
                // There is nowhere to say that the log cannot be written.
                let _ = output.write_all(&taken);
                taken.clear();
                if left_out > 0 {
                    report(left_out);
                }
            }
        })?;
        Ok(Writer { lines: self.clone(), thread: Some(thread) })
    }

    /// Waits for lines and takes them all, in exchange for an empty buffer; tells how many were
    /// left out. `None` when there will be no more.
    fn take(&self, buffer: &mut Vec<u8>) -> Option<u64> {
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
        let (lines, written) = (Lines::default(), Arc::default());
        let left_out = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&left_out);
        let report = move |count| {
            counted.fetch_add(count, Ordering::Relaxed);
        };
        let writer = lines.write_to(Gated(gate, Arc::clone(&written)), report).unwrap();
        let line = format!("{}\n", "x".repeat(1023));
        let count = 3 * MOST / line.len();
        (0..count).for_each(|_| lines.leave(&line, false));
        drop(open);
        drop(writer);

        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let whole = written.lines().filter(|it| *it == line.trim_end()).count();
        let left_out = left_out.load(Ordering::Relaxed);
        assert!(left_out > 0, "more than {MOST} bytes waited");
        assert_eq!(whole as u64 + left_out, count as u64);
    }

    #[test]
    fn an_output_that_accepts_nothing_keeps_nobody_from_ending() {
        let (_never, gate) = mpsc::channel();
        let lines = Lines::default();
        let writer = lines.write_to(Gated(gate, Arc::default()), |_| {}).unwrap();
        lines.leave("one\n", true);
        drop(writer);
    }

    #[test]
    fn lines_are_written_in_their_order_before_the_writer_is_gone() {
        let (open, gate) = mpsc::channel();
        drop(open);
        let (lines, written) = (Lines::default(), Arc::default());
        let writer = lines.write_to(Gated(gate, Arc::clone(&written)), |_| {}).unwrap();
        lines.leave("one\n", false);
        lines.leave("two\n", true);
        lines.leave("three\n", false);
        drop(writer);
        assert_eq!(*written.lock().unwrap(), b"one\ntwo\nthree\n");
    }
}
