//! `portcullis config`: what holds, and where it was written.

use std::{io::Write as _, path::PathBuf};

use super::{
    configuration,
    failure::{Failure, tell},
};

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
/// Warnings go to standard error, as they go to the log of `serve`. Nothing is started, and no file
/// but the configuration is looked at.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Show {
    /// A configuration file; REGISTRY_… variables count too
    config: Option<PathBuf>,
    /// Print nothing but what is wrong
    #[arg(long)]
    check: bool,
}

impl Show {
    /// Does it.
    ///
    /// # Errors
    ///
    /// Code 1 when the configuration cannot be used.
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = configuration(self.config.as_deref())?;
        for warning in &config.warnings {
            tell(&format!("warning: {warning}"));
        }
        for note in &config.notes {
            tell(&format!("note: {note}"));
        }
        if !self.check {
            // Whoever closed standard output does not want to know.
            let _ = write!(std::io::stdout().lock(), "{}", config.settings);
        }
        Ok(())
    }
}
