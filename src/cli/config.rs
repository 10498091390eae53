//! `portcullis config`: the configuration in force, with the origin of each value.

use std::{io::Write as _, path::PathBuf};

use super::{
    failure::{Failure, tell},
    setting_options::SettingOptions,
    sources::configuration,
};
use crate::app::{Findings, Scope, inspect};

const EXAMPLES: &str = "\
Behind each value stands its origin: file:line:column, the REGISTRY_… variable, the option, or default.
Secrets are shown as ***; everything else can be used as a configuration file.

Examples:
  portcullis config               the configuration without a file
  portcullis config /etc/docker/registry/config.yml
  portcullis config --check config.yml && systemctl reload portcullis
  portcullis config --check --files config.yml

Exit codes: 0 it can be used; 1 it cannot, and the message says where and why.";

/// Print the configuration in force, with the origin of each value.
///
/// Warnings go to standard error, as they go to the log of `serve`. Nothing is started. --check
/// also opens, as this user, the certificates, keys and password file that the configuration names,
/// looks through the directory of the images for files that this user may not use, and binds the
/// addresses for a moment; it creates and changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Show {
    /// A configuration file; REGISTRY_… variables apply too
    config: Option<PathBuf>,
    /// Open the named files and addresses too, and print nothing but problems: all, not only the
    /// first
    #[arg(long)]
    check: bool,
    /// With --check: bind no address, for a check beside the program that is to be replaced
    #[arg(long, requires = "check")]
    files: bool,
    #[command(flatten)]
    settings: SettingOptions,
}

impl Show {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Code 1 when the configuration cannot be used, or, with --check, a file or address that it
    /// names.
    pub(super) fn run(self) -> Result<(), Failure> {
        let options = self.settings.overrides();
        let config = configuration(self.config.as_deref(), &options)?;
        for warning in &config.warnings {
            tell(&format!("warning: {warning}"));
        }
        for note in &config.notes {
            tell(&format!("note: {note}"));
        }
        if self.check {
            let scope = if self.files { Scope::Files } else { Scope::Everything };
            let Findings { problems, warnings, notes } = inspect(&config, scope);
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
            // A reader that has closed standard output wants no more of it.
            let _ = write!(std::io::stdout().lock(), "{}", config.settings);
        }
        Ok(())
    }
}
