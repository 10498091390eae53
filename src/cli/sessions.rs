//! `portcullis sessions`: the keys of session tokens.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Args, Subcommand};

use super::{failure::Failure, sources::configuration};
use crate::gate::{
    self,
    tokens::key_file::{KeyFileError, Old, rotate},
};

const EXAMPLES: &str = "\
A client that logs in gets a token, and sends it in place of the password for a
quarter of an hour (auth.htpasswd.sessions). Tokens end with the password by
themselves: a new password or a deleted user needs no rotation.

Examples:
  portcullis sessions rotate /etc/portcullis/config.yml
  portcullis sessions rotate --end     after others may have read the key file

A running registry reads the file by itself, within a second.

Exit codes: 0 done; 1 not done; 2 usage.";

/// Make a new key for the tokens that logged-in clients send.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Sessions {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new key that signs, and keep the one before, which goes on verifying
    #[command(after_help = EXAMPLES)]
    Rotate {
        /// The configuration file of the server; REGISTRY_… variables apply too
        config: Option<PathBuf>,
        /// Keep no old key: every token ends, and clients log in again by themselves
        #[arg(long)]
        end: bool,
    },
}

impl Sessions {
    /// Runs the command, and says on standard error what the file has.
    ///
    /// # Errors
    ///
    /// Code 1 when the configuration has no session tokens, and when the key file is missing or cannot be
    /// read or replaced.
    pub(super) fn run(self) -> Result<(), Failure> {
        let Command::Rotate { config, end } = self.command;
        let config = configuration(config.as_deref(), &[])?;
        let gate::Options::Htpasswd(options) = config.auth else {
            return Err(Failure::new(
                "there are no sessions: auth is not `htpasswd`, whose users get them",
            ));
        };
        let path = options.sessions.keyfile;
        let keys = rotate(&path, if end { Old::End } else { Old::Keep });
        let path = path.display();
        let keys = keys.map_err(|error| match error {
            KeyFileError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                Failure::new(format!(
                    "there is no key file {path}: the server makes it when it issues the first token; a \
                     running server whose file was deleted makes another after a restart"
                ))
            }
            error => Failure::new(format!("cannot rotate {path}: {error}")),
        })?;
        let kept = match keys {
            1 => "no other key is left, and all tokens end",
            _ => "the key before it goes on verifying, and older ones are gone",
        };
        writeln!(io::stderr().lock(), "{path}: a new key signs from now on; {kept}.")?;
        Ok(())
    }
}
