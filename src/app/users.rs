//! The users: the gate, the password file that they come from, and its reload.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    FirstUser, StartError,
    issuer::IssuerKeys,
    permissions::{self, What},
    provision::{FirstStart, absolute},
    reload::{Files, Kept, Reload},
};
use crate::{
    config::Config,
    gate::{self, Gate, HtpasswdOptions, Policy, UserFile, htpasswd::Htpasswd},
};

/// A changed password file is in force within a second: twice this, and the time to read it.
const WATCH: Duration = Duration::from_millis(400);

/// The gate, with the file that its users come from.
#[derive(Debug)]
pub(super) struct Users {
    gate: Arc<Gate>,
    /// `None` with `auth: none`.
    file: Option<Mutex<UserFile>>,
    /// The file of the keys of session tokens; `None` with `auth: none`.
    keys: Option<PathBuf>,
    /// The keys of the external issuer; `None` without `auth.token`.
    issuer: Option<Arc<IssuerKeys>>,
}

impl Users {
    /// Builds the gate of these options, with the policy. Creates the password file when it is missing, with the
    /// user that is returned.
    ///
    /// # Errors
    ///
    /// When the password file can neither be read nor created, and when the system has no
    /// randomness.
    pub(super) fn open(
        options: &gate::Options,
        first_start: FirstStart,
        policy: Policy,
    ) -> Result<(Self, Option<FirstUser>), StartError> {
        let options = match options {
            gate::Options::Htpasswd(options) => options,
            gate::Options::Token(options) => {
                let keys = Arc::new(IssuerKeys::open(options)?);
                let gate = Arc::new(Gate::issuer(Arc::clone(keys.issuer()), policy));
                return Ok((Self { gate, file: None, keys: None, issuer: Some(keys) }, None));
            }
            gate::Options::None => {
                match policy.access() {
                    None => tracing::info!("no users: every client may do everything (auth: none)"),
                    Some(_) => tracing::info!("no users: rules for `anyone` apply (auth: none)"),
                }
                let gate = Arc::new(Gate::open(policy));
                return Ok((Self { gate, file: None, keys: None, issuer: None }, None));
            }
        };
        let failed = |source| StartError::users(&options.path, source);
        // A file that this process may not see is not missing: another must not take its place.
        let first_user = match exists(&options.path).map_err(failed)? {
            true => None,
            false => Some(first_start.create_user(&options.path)?),
        };
        let (file, users) = UserFile::open(options).map_err(failed)?;
        let count = users.entries().len();
        let path = absolute(&options.path);
        tracing::info!(users = count, file = %path.display(), "users of the password file");
        report(&options.path, &users);
        let gate = Arc::new(Gate::htpasswd(options, &users, policy)?);
        let keys = options.sessions.keyfile.clone();
        read_session_keys(&gate, &keys, Files::All);
        let users = Self { gate, file: Some(Mutex::new(file)), keys: Some(keys), issuer: None };
        Ok((users, first_user))
    }

    pub(super) const fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The keys of the external issuer; `None` without `auth.token`.
    pub(super) const fn issuer(&self) -> Option<&Arc<IssuerKeys>> {
        self.issuer.as_ref()
    }

    /// Applies the users of another file.
    fn switch(&self, file: &mut UserFile, options: &HtpasswdOptions) -> Result<(), Kept> {
        let path = &options.path;
        let (opened, users) = UserFile::open(options).map_err(|error| {
            tracing::error!(
                file = %path.display(),
                %error,
                "cannot read the new password file; the users of the old one stay in force"
            );
            Kept::Unusable
        })?;
        tracing::info!(
            file = %path.display(),
            users = users.entries().len(),
            "the new password file is in force"
        );
        report(path, &users);
        self.gate.set_users(&users);
        *file = opened;
        Ok(())
    }
}

impl Reload for Users {
    fn keys(&self) -> &'static [&'static str] {
        &["auth.htpasswd.path", "auth.htpasswd.legacyformats"]
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        let (gate::Options::Htpasswd(options), Some(file)) = (&config.auth, &self.file) else {
            return Err(Kept::UntilRestart);
        };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.is_that_of(options) { Ok(()) } else { self.switch(&mut file, options) }
    }

    fn watch(&self) -> Option<Duration> {
        self.file.as_ref().map(|_| WATCH)
    }

    fn read_files(&self, files: Files) {
        if let Some(keys) = &self.keys {
            read_session_keys(&self.gate, keys, files);
        }
        let Some(file) = &self.file else { return };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        match file.reload(files == Files::All) {
            Ok(None) if files == Files::All => permissions::warn(file.path(), What::Passwords),
            Ok(None) => {}
            Ok(Some(users)) => {
                tracing::info!(users = users.entries().len(), "the password file is in force");
                report(file.path(), &users);
                self.gate.set_users(&users);
            }
            Err(error) => tracing::error!(
                file = %file.path().display(),
                %error,
                "cannot read the password file; the users last read stay in force"
            ),
        }
    }
}

/// Puts the keys of session tokens in force that are in a file, if it has changed.
fn read_session_keys(gate: &Gate, path: &Path, files: Files) {
    let file = path.display();
    match gate.reload_session_keys(files == Files::All) {
        Ok(None) if files == Files::All => permissions::warn(path, What::SessionKeys),
        Ok(None) => {}
        Ok(Some(keys)) => {
            tracing::info!(keys, %file, "keys of session tokens");
            permissions::warn(path, What::SessionKeys);
        }
        Err(error) => tracing::error!(
            %file,
            %error,
            "cannot use the key file of session tokens; the keys that were read last stay in force"
        ),
    }
}

/// Whether there is a file at this path.
///
/// # Errors
///
/// When this process may not see it.
pub(super) fn exists(path: &Path) -> io::Result<bool> {
    match path.try_exists() {
        // A file is in the place of the folder.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        result => result,
    }
}

/// Logs the problems of a password file: the permissions of other users, and its lines.
fn report(path: &Path, users: &Htpasswd) {
    permissions::warn(path, What::Passwords);
    problems(users, path, |line, problem| {
        tracing::warn!(file = %path.display(), line, "{problem}");
    });
}

/// Calls `tell` for each line of a password file with which no user can log in, or should not for
/// long, with its number; and when no user can log in at all.
pub(super) fn problems(users: &Htpasswd, path: &Path, mut tell: impl FnMut(Option<usize>, &str)) {
    for outdated in users.outdated() {
        tell(Some(outdated.line), &outdated.to_string());
    }
    for problem in users.problems() {
        tell(Some(problem.line), &problem.to_string());
    }
    if users.entries().is_empty() {
        let path = path.display();
        tell(None, &format!("no user can log in; `portcullis htpasswd {path} USER` adds one"));
    }
}
