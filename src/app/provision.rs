//! The first user, who is created where there is no password file, and the names of the built-in
//! certificate.
//!
//! The default path is created with its folder. A path that the configuration names may lie on a
//! volume that is not mounted, which looks like a missing file: so the folder has to be there, and
//! the log warns of the file that was created.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::{CERTIFICATES, FirstPassword, FirstUser, Password, StartError, tls};
use crate::{
    config::{Config, Origin},
    gate::htpasswd::{UserName, file},
    http::{self, authority},
    server::{
        Listener, Net,
        authority::{Hosts, SERVER_CERTIFICATE},
        machine,
    },
};

/// The name of the first user.
const FIRST_USER: &str = "admin";

/// Whether the configuration names the password file.
pub(super) fn is_named(config: &Config) -> bool {
    let origin = config.settings.origin("auth.htpasswd.path");
    origin.is_some_and(|origin| *origin != Origin::Default)
}

/// The names by which the operator has clients reach the registry: `http.host` and `http.hosts`.
pub(super) fn required_hosts(options: &http::Options) -> Vec<String> {
    options.host.iter().chain(&options.hosts).cloned().collect()
}

/// The names of the built-in certificate: `http.host`, the host of the listener's address, and where that
/// is the unspecified one, the addresses of this machine. The address of a container changes at each
/// start, and another machine does not reach it, so it goes into the first certificate only.
pub(super) fn hosts(config: &Config, listener: Option<&Listener>) -> Hosts {
    let configured = &config.http.server;
    let addr = match (listener.map(Listener::addr), configured.net) {
        (Some(addr), _) => addr.tcp().map(|addr| addr.to_string()),
        (None, Net::Tcp) => Some(configured.addr.clone()),
        (None, Net::Unix) => None,
    };
    let has_certificate = || Path::new(CERTIFICATES).join(SERVER_CERTIFICATE).exists();
    let optional = match addr.as_deref().map(authority::split_port) {
        None => Vec::new(),
        Some((host, _)) if !is_unspecified(host) => vec![host.to_owned()],
        Some(_) if machine::container().is_some() && has_certificate() => Vec::new(),
        Some(_) => machine::addresses().iter().map(ToString::to_string).collect(),
    };
    if let Some(obtained) = tls::letsencrypt::options(configured) {
        // The built-in certificate stands in until another is there, and must not keep the server from starting.
        return Hosts { required: Vec::new(), optional: obtained.hosts.clone() };
    }
    Hosts { required: required_hosts(&config.http.api), optional }
}

/// Whether the host of a listener's address stands for all addresses of this machine.
pub(super) fn is_unspecified(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.is_empty() || host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}

/// Looks whether a missing password file could be created. Creates nothing.
///
/// # Errors
///
/// [`StartError::UsersFolder`] and [`StartError::NoUsers`].
pub(super) fn could_make(path: &Path, is_named: bool) -> Result<(), StartError> {
    let folder = folder_of(path);
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => {}
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            return Err(StartError::users(path, source));
        }
        Err(_) if !is_named => return Ok(()),
        Ok(_) | Err(_) => {
            return Err(StartError::UsersFolder { folder: absolute(folder), path: absolute(path) });
        }
    }
    access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| StartError::no_users(absolute(path), error.into()))
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
        let failed = |source| StartError::no_users(absolute(path), source);
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

/// Removes a first user whose password was to be shown, and is not, since the start has failed: the
/// next start creates another one.
pub(super) fn withdraw(user: &FirstUser) {
    if user.kept.is_some() {
        return;
    }
    let file = &user.file;
    if let Err(error) = fs::remove_file(file) {
        let file = file.display();
        tracing::warn!(
            %error,
            "{file} has the user {FIRST_USER}, whose password was not shown, since the start failed: \
             remove it, and the next start creates another"
        );
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A path as messages name it.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
