//! The first user, who is created where there is no password file.
//!
//! The default path is created with its folder. A path that the configuration names may lie on a
//! volume that is not mounted, which looks like a missing file: so the folder has to be there, and
//! the log warns of the file that was created.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::{FirstPassword, FirstUser, Password, StartError};
use crate::{
    config::{Config, Origin},
    gate::htpasswd::{UserName, file},
    http,
};

/// The name of the first user.
const FIRST_USER: &str = "admin";

/// Whether the configuration names the password file.
pub(super) fn is_named(config: &Config) -> bool {
    let origin = config.settings.origin("auth.htpasswd.path");
    origin.is_some_and(|origin| *origin != Origin::Default)
}

/// The names that clients reach the registry by, as far as the configuration says.
pub(super) fn hosts(options: &http::Options) -> Vec<String> {
    options.host.iter().cloned().collect()
}

/// Looks whether a missing password file could be created. Creates nothing.
///
/// # Errors
///
/// [`StartError::UsersFolder`] and [`StartError::NoUsers`].
pub(super) fn could_make(path: &Path, is_named: bool) -> Result<(), StartError> {
    let folder = folder_of(path);
    if !is_named && !folder.exists() {
        return Ok(());
    }
    if !folder.is_dir() {
        return Err(StartError::UsersFolder { folder: absolute(folder), path: absolute(path) });
    }
    access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| StartError::NoUsers { path: absolute(path), source: error.into() })
}

/// How the password file is created where it is missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstStart {
    /// Whether the configuration names the file.
    pub(super) is_named: bool,
    /// Where the password of the first user goes.
    pub(super) password: FirstPassword,
}

impl FirstStart {
    /// Creates the password file, with one user.
    ///
    /// # Errors
    ///
    /// Those of [`could_make`], and when the file cannot be written.
    pub(super) fn create_user(self, path: &Path) -> Result<FirstUser, StartError> {
        could_make(path, self.is_named)?;
        let failed = |source| StartError::NoUsers { path: absolute(path), source };
        let user: UserName = FIRST_USER.parse().map_err(|error| failed(io::Error::other(error)))?;
        let password = file::provision(path, &user, self.password).map_err(failed)?;
        let file = absolute(path);
        if self.is_named {
            tracing::warn!(
                file = %file.display(),
                user = FIRST_USER,
                "the password file that the configuration names was missing, and was made with one \
                 user; if it should have been there, is its volume mounted?"
            );
        }
        let kept = file::first_password_file(&file, &user);
        let kept = (self.password == FirstPassword::Kept).then_some(kept);
        Ok(FirstUser { name: FIRST_USER, password: Password(password), file, kept })
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
