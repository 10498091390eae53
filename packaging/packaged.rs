//! The `portcullis` command with the features of the test build, so that the tests package it without
//! compiling a dependency once more; `make dist` packages `src/main.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    portcullis::cli::run()
}
