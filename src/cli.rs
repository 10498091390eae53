//! The command line: subcommands, messages, exit codes.
//!
//! Exit codes: 0; 1 for a failure, with a message on standard error that says what to do; 2 for
//! usage. `verify` exits with 1 for problems in the stored content, and with 2 for other failures.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::{
    failure::Failure,
    sources::{configuration, storage_configuration},
};

mod certs;
mod config;
mod failure;
mod garbage_collect;
mod htpasswd;
mod invocation;
mod migrate;
mod print;
mod purge_uploads;
mod retain;
mod rm;
mod serve;
mod sources;
mod verify;

/// A private container registry with TLS and passwords built in.
#[derive(Debug, Parser)]
#[command(
    name = "portcullis",
    version,
    disable_version_flag = true,
    max_term_width = 100,
    after_help = EXAMPLE
)]
struct Cli {
    /// Print the version; `-v`, too, as with registry:2
    #[arg(short = 'V', short_alias = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
Example:
  portcullis serve                                   an HTTPS registry on port 5000; creates what is missing
  portcullis htpasswd auth/htpasswd alice            adds the user alice
  docker login localhost:5000
  oras login 127.0.0.1:5000                          (to localhost:5000 oras speaks plain HTTP unless
                                                     it gets --plain-http=false)";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Htpasswd(htpasswd::Htpasswd),
    Certs(certs::Certs),
    Verify(verify::Verify),
    GarbageCollect(garbage_collect::GarbageCollect),
    PurgeUploads(purge_uploads::PurgeUploads),
    Retain(retain::Retain),
    Rm(rm::Rm),
    Config(config::Show),
    Migrate(migrate::Migrate),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let Cli { command, .. } = Cli::parse_from(invocation::arguments(std::env::args_os()));
    let result = match command {
        Command::Serve(serve) => serve.run(),
        Command::Htpasswd(htpasswd) => htpasswd.run(),
        Command::Certs(certs) => certs.run(),
        Command::Verify(verify) => verify.run(),
        Command::GarbageCollect(collect) => collect.run(),
        Command::PurgeUploads(purge) => purge.run(),
        Command::Retain(retain) => retain.run(),
        Command::Rm(rm) => rm.run(),
        Command::Config(config) => config.run(),
        Command::Migrate(migrate) => migrate.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Runs the work of a command that serves nothing.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
