//! The first user, where there is no password file.
//!
//! A path that nobody has written is ours, with its folder. One that the configuration names is
//! somebody's: a volume that is not mounted looks like a file that is missing, so the folder has to
//! be there, and what is made is warned of.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::{FirstPassword, FirstUser, Password, StartError};
use crate::{
    config::{Config, Origin},
    gate::htpasswd::{UserName, file},
};

/// The user that is made when there is no password file.
const FIRST_USER: &str = "admin";

/// Whether the configuration names the password file.
pub(super) fn is_named(config: &Config) -> bool {
    let origin = config.settings.origin("auth.htpasswd.path");
    origin.is_some_and(|origin| *origin != Origin::Default)
}

/// Whether a password file that is missing could be made; nothing is.
///
/// # Errors
///
/// [`StartError::UsersFolder`] and [`StartError::NoUsers`], as [`first_user`] has them.
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

/// Makes the password file, with one user.
pub(super) fn first_user(
    path: &Path,
    is_named: bool,
    password: FirstPassword,
) -> Result<FirstUser, StartError> {
    could_make(path, is_named)?;
    let failed = |source| StartError::NoUsers { path: absolute(path), source };
    let user: UserName = FIRST_USER.parse().map_err(|error| failed(io::Error::other(error)))?;
    let made = file::provision(path, &user, password).map_err(failed)?;
    let file = absolute(path);
    if is_named {
        tracing::warn!(
            file = %file.display(),
            user = FIRST_USER,
            "the password file that the configuration names was missing, and was made with one \
             user; if it should have been there, is its volume mounted?"
        );
    }
    let kept = file::first_password_file(&file, &user);
    let kept = (password == FirstPassword::Kept).then_some(kept);
    Ok(FirstUser { name: FIRST_USER, password: Password(made), file, kept })
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
