//! What a person types.
//!
//! Exit codes: 0; 1 for a failure, with a message on standard error that says what to do; 2 for
//! usage.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod certs;
mod failure;
mod htpasswd;
mod serve;

/// A private container registry that carries its own gate.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, max_term_width = 100, after_help = EXAMPLE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
Example:
  portcullis serve                                   an HTTPS registry on port 5000, made up as needed
  portcullis htpasswd auth/htpasswd alice            lets alice in
  docker login localhost:5000";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Htpasswd(htpasswd::Htpasswd),
    Certs(certs::Certs),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let Cli { command } = Cli::parse();
    let result = match command {
        Command::Serve(serve) => serve.run(),
        Command::Htpasswd(htpasswd) => htpasswd.run(),
        Command::Certs(certs) => certs.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
