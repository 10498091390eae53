//! The command line: subcommands, messages, exit codes.
//!
//! Exit codes: 0; 1 for a failure, with a message on standard error that says what to do; 2 for
//! usage. `verify` exits with 1 for problems in the stored content, and with 2 for other failures.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};

use self::{failure::Failure, sources::storage_configuration};

mod access;
mod certs;
mod config;
mod failure;
mod garbage_collect;
mod generated;
mod htpasswd;
mod invocation;
mod ls;
mod migrate;
mod print;
mod purge_uploads;
mod retain;
mod rm;
mod serve;
mod sessions;
mod setting_options;
mod sources;
mod token;
mod usage;
mod verify;

/// A private container registry with TLS and passwords built in.
#[derive(Debug, Parser)]
#[command(
    name = "portcullis",
    version = VERSION,
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

/// The version of this program, with the commit that it was built from where that is known.
const VERSION: &str = env!("PORTCULLIS_VERSION");

const EXAMPLE: &str = "\
Example:
  portcullis serve                          serve here, over HTTPS on port 5000
  portcullis htpasswd auth/htpasswd alice   add a user
  docker login localhost:5000
  oras login 127.0.0.1:5000                 oras speaks plain HTTP to localhost

A lost password cannot be read again: `portcullis htpasswd auth/htpasswd USER`
sets another.";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Htpasswd(htpasswd::Htpasswd),
    Access(access::Access),
    Sessions(sessions::Sessions),
    Token(token::Token),
    Certs(certs::Certs),
    Verify(verify::Verify),
    GarbageCollect(garbage_collect::GarbageCollect),
    PurgeUploads(purge_uploads::PurgeUploads),
    Retain(retain::Retain),
    Rm(rm::Rm),
    Ls(ls::Ls),
    Usage(usage::ShowUsage),
    Config(config::Show),
    Migrate(migrate::Migrate),
    Completions(generated::Completions),
    Man(generated::Man),
    /// Print the version of this program, and the commit of its source
    Version,
}

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let Cli { command, .. } = Cli::parse_from(invocation::arguments(std::env::args_os()));
    let result = match command {
        Command::Serve(serve) => serve.run(),
        Command::Htpasswd(htpasswd) => htpasswd.run(),
        Command::Access(access) => access.run(),
        Command::Sessions(sessions) => sessions.run(),
        Command::Token(token) => token.run(),
        Command::Certs(certs) => certs.run(),
        Command::Verify(verify) => verify.run(),
        Command::GarbageCollect(collect) => collect.run(),
        Command::PurgeUploads(purge) => purge.run(),
        Command::Retain(retain) => retain.run(),
        Command::Rm(rm) => rm.run(),
        Command::Ls(ls) => ls.run(),
        Command::Usage(usage) => usage.run(),
        Command::Config(config) => config.run(),
        Command::Migrate(migrate) => migrate.run(),
        Command::Completions(completions) => completions.run(Cli::command()),
        Command::Man(man) => man.run(Cli::command()),
        Command::Version => version(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn version() -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "portcullis {VERSION}")?;
    Ok(())
}

/// Runs the work of a command that serves nothing.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helps_are_in_the_imperative_and_fit_a_terminal_of_80_columns() {
        let mut program = Cli::command();
        program.build();
        let pages = program.get_subcommands().chain([&program]);
        for page in pages.filter(|page| page.get_name() != "help") {
            let name = page.get_name();
            if name != "portcullis" {
                let about = page.get_about().unwrap().to_string();
                let verb = about.split(' ').next().unwrap();
                assert!(!verb.ends_with('s'), "{name}: {about}");
            }
            // clap breaks prose; a broken example cannot be copied.
            let help = page.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter(|line| line.starts_with("  ")) {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
        }
    }
}
