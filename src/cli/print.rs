//! Output that several commands share.

use std::{
    fmt,
    io::{self, Write as _},
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
};

/// A number of things: `no uploads`, `1 upload`, `7 uploads`.
pub(super) fn count(number: u64, what: &str) -> String {
    match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// Standard output of a command that prints lines while it works. The work and the command share it:
/// the work may stop when a line cannot be printed, and the command fails at the end.
#[derive(Debug, Default)]
pub(super) struct Output {
    failed: Mutex<Option<io::Error>>,
}

impl Output {
    /// Prints a line. Breaks when standard output takes no more.
    pub(super) fn line(&self, line: fmt::Arguments<'_>) -> ControlFlow<()> {
        match writeln!(io::stdout().lock(), "{line}") {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Whether every line was printed.
    ///
    /// # Errors
    ///
    /// Why standard output took no more.
    pub(super) fn end(&self) -> io::Result<()> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}
