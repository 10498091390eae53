//! The `portcullis` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use portcullis::cli::{certs::Certs, htpasswd::Htpasswd};

/// A private container registry that carries its own gate.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Htpasswd(Htpasswd),
    Certs(Certs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Htpasswd(command) => command.run(),
        Command::Certs(command) => command.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
