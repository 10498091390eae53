//! `portcullis migrate`: writes a configuration in place of registry:2's and nginx's.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::failure::{Failure, tell};
use crate::config::{Change, Migration, Site, migrate};

const EXAMPLES: &str = "\
Both files stay as they are. On standard error stands a line for each difference: what is set and \
where it comes from, what is dropped and why, what nginx did and a registry need not do, and, last, \
what is NOT TAKEN OVER and has to be looked at. Paths are those of nginx: in a container they have to \
be there too.

Examples:
  portcullis migrate --from /etc/docker/registry/config.yml --to new.yml
  portcullis migrate --from config.yml --nginx site.conf > new.yml
  portcullis config --check --files new.yml

Exit codes: 0 written; 1 not written, and the message says why; 2 usage.";

/// Write the configuration that replaces registry:2's file, and nginx before it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Migrate {
    /// The configuration file of registry:2 or registry:3
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The file with nginx's site of the registry
    #[arg(long, value_name = "SITE")]
    nginx: Option<PathBuf>,
    /// The new file; an existing one is not overwritten [default: standard output]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

impl Migrate {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Code 1 when a file cannot be read or moved, or the new one not be written.
    pub(super) fn run(self) -> Result<(), Failure> {
        let from = absolute(&self.from);
        let text = fs::read_to_string(&from)
            .map_err(|error| Failure::new(format!("cannot read {}: {error}", from.display())))?;
        let site = self.nginx.as_deref().map(|file| Site::read(&absolute(file))).transpose()?;
        let old_hash = site.as_ref().and_then(Site::password_file).map(has_old_hash);
        let legacy_formats = matches!(old_hash, Some(Ok(true)));
        let Migration { yaml, mut changes } = migrate(&from, &text, site.as_ref(), legacy_formats)?;
        changes.extend(old_hash.and_then(Result::err));
        match &self.to {
            Some(to) => {
                let to = absolute(to);
                write(&from, &to, &yaml)?;
                report(&mut changes);
                let to = to.display();
                tell(&format!("wrote {to}; next: portcullis config --check --files {to}"));
            }
            None => {
                io::stdout().lock().write_all(yaml.as_bytes())?;
                report(&mut changes);
            }
        }
        Ok(())
    }
}

/// Prints the differences; those that need a decision come last.
fn report(changes: &mut [Change]) {
    changes.sort_by_key(|change| match change {
        Change::Set { .. } => 0,
        Change::Dropped { .. } => 1,
        Change::Needless { .. } => 2,
        Change::Left { .. } => 3,
    });
    changes.iter().for_each(|change| tell(&change.to_string()));
}

/// Whether a user of the password file has a hash that is not bcrypt.
///
/// # Errors
///
/// What is not taken over, when the file cannot be read.
fn has_old_hash(path: &Path) -> Result<bool, Change> {
    let text = fs::read(path).map_err(|error| Change::Left {
        what: format!("the users of nginx's password file {}", path.display()),
        why: format!(
            "cannot read it: {error}; put it there, readable for the user of `serve`, and if `portcullis \
             htpasswd --upgrade {}` lists a user, set auth.htpasswd.legacyformats: true",
            path.display()
        ),
    })?;
    Ok(String::from_utf8_lossy(&text).lines().any(|line| {
        let hash = line.trim().split_once(':').map(|(_, hash)| hash);
        !line.trim_start().starts_with('#') && hash.is_some_and(|hash| !hash.starts_with("$2"))
    }))
}

/// Writes a new file with the mode of the old one: both may have secrets.
fn write(from: &Path, to: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let what = match error.kind() {
            io::ErrorKind::AlreadyExists => {
                "it exists; name another with --to, or remove it".into()
            }
            _ => error.to_string(),
        };
        Failure::new(format!("cannot write {}: {what}", to.display()))
    };
    let mode = fs::metadata(from).map_or(0o600, |found| found.permissions().mode() & 0o777);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(to).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
