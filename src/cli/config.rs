//! `portcullis config`: what holds, and where it was written.

use std::{io::Write as _, path::PathBuf};

use super::{
    configuration,
    failure::{Failure, tell},
};
use crate::app::{Findings, inspect};

const EXAMPLES: &str = "\
Behind each value stands where it comes from: file:line:column, the REGISTRY_… variable, or default.
Secrets are shown as ***; everything else can be used as a configuration file.

Examples:
  portcullis config                                       what holds without a file
  portcullis config /etc/docker/registry/config.yml
  portcullis config --check config.yml && systemctl reload portcullis

Exit codes: 0 it can be used; 1 it cannot, and the message says where and why.";

/// Prints the configuration that holds, with the origin of each value.
///
/// Warnings go to standard error, as they go to the log of `serve`. Nothing is started. With --check
/// the certificates, keys and password file that it names are read, the directory of the images is
/// looked at, and its addresses are bound for a moment; nothing is made or changed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Show {
    /// A configuration file; REGISTRY_… variables count too
    config: Option<PathBuf>,
    /// Open what it names too, and print nothing but what is wrong: everything, not only the first
    #[arg(long)]
    check: bool,
}

impl Show {
    /// Does it.
    ///
    /// # Errors
    ///
    /// Code 1 when the configuration cannot be used, or with --check what it names cannot.
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = configuration(self.config.as_deref())?;
        for warning in &config.warnings {
            tell(&format!("warning: {warning}"));
        }
        for note in &config.notes {
            tell(&format!("note: {note}"));
        }
        if self.check {
            let Findings { problems, warnings, notes } = inspect(&config);
            for warning in warnings {
                tell(&format!("warning: {warning}"));
            }
            for note in notes {
                tell(&format!("note: {note}"));
            }
            if !problems.is_empty() {
                return Err(Failure::new(problems.join("\n")));
            }
        } else {
            // Whoever closed standard output does not want to know.
            let _ = write!(std::io::stdout().lock(), "{}", config.settings);
        }
        Ok(())
    }
}
