//! The failure of a command: its exit code and its message.

use std::{error::Error, fmt, io::Write as _, process::ExitCode};

use crate::chain::Chain;

/// A command's failure: the exit code, and what is printed on standard error.
///
/// The codes are the same for all commands: 0 done, 1 not done, 2 invalid arguments. `?` makes any
/// error a failure with code 1 whose message has all causes in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// 1 or 2.
    pub(super) code: u8,
    /// The problem, and what to do about it. It may have several lines.
    pub(super) message: String,
}

impl Failure {
    /// Code 1: the command could not be done.
    #[must_use]
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// Code 2: the arguments are invalid.
    #[must_use]
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// Prints the message on standard error, each line with the program's name, and gives the exit
    /// code.
    #[must_use]
    pub(super) fn report(&self) -> ExitCode {
        self.message.lines().for_each(tell);
        ExitCode::from(self.code)
    }
}

/// Prints a message on standard error.
pub(super) fn tell(message: &str) {
    // There is no other place for the message if this fails.
    let _ = writeln!(std::io::stderr().lock(), "portcullis: {message}");
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Chain(&error).to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read it")]
    struct Outer(#[source] io::Error);

    #[test]
    fn message_has_all_causes() {
        let failure = Failure::from(Outer(io::Error::other("no light")));
        assert_eq!(failure.to_string(), "cannot read it: no light");
        assert_eq!(failure.code, 1);
    }
}
