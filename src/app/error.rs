//! Why the server does not start.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::denied::{Denied, Need};
use crate::{
    gate::{self, access::GroupFileError},
    health, http, notify,
    server::{
        BindError,
        acme::{FolderError, InvalidClient},
        authority::AuthorityError,
        certificates::CertificateError,
    },
};

/// Why the server does not start. The text is for its operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What a key of the configuration names cannot be used.
    #[error("{place}")]
    At {
        /// The key, behind the place of its value.
        place: String,
        /// Why.
        source: Box<Self>,
    },
    /// The built-in authority cannot work.
    #[error(transparent)]
    Authority(AuthorityError),
    /// The folder of obtained certificates cannot be used.
    #[error(transparent)]
    Acme(#[from] FolderError),
    /// No request can be sent to the authority of `http.tls.letsencrypt`.
    #[error("http.tls.letsencrypt cannot be used")]
    AcmeClient(#[from] InvalidClient),
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(CertificateError),
    /// A file or folder exists, and this process may not use it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The group file cannot be used.
    #[error("cannot use the group file {}; correct it, or access.groupfile", .path.display())]
    Groups {
        /// The file.
        path: PathBuf,
        /// Why.
        source: GroupFileError,
    },
    /// Rules name groups that the group file does not define: a sentence for each, in lines.
    #[error("{0}")]
    UnknownGroups(String),
    /// A health check is invalid.
    #[error(transparent)]
    Health(#[from] health::InvalidCheck),
    /// The keys of the external issuer cannot be used.
    #[error("auth.token cannot be used")]
    Issuer(#[from] gate::issuer::TrustError),
    /// The authorities of client certificates cannot be read.
    #[error("http.tls.clientcas cannot be used")]
    ClientAuthorities(#[source] CertificateError),
    /// An option of the HTTP interface is invalid.
    #[error(transparent)]
    Http(#[from] http::InvalidOptions),
    /// The system has no random numbers.
    #[error(transparent)]
    NoRandomness(#[from] gate::NoRandomness),
    /// The storage that the configuration names does not exist.
    #[error(
        "there is no directory {}; name the configuration that the registry is served with, or set \
         storage.filesystem.rootdirectory",
        .root.display()
    )]
    NoStorage {
        /// The root.
        root: PathBuf,
    },
    /// Events cannot be sent to an endpoint.
    #[error(transparent)]
    Notifications(#[from] notify::SetError),
    /// The storage is the memory of a process.
    #[error("storage.inmemory keeps nothing that another process could look at")]
    NothingKept,
    /// The root of the storage cannot be used.
    #[error(
        "cannot use {} for storage; choose another storage.filesystem.rootdirectory",
        .root.display()
    )]
    Storage {
        /// The root.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The token file cannot be read.
    #[error(
        "cannot use the token file {}; choose another auth.htpasswd.tokens.file",
        .path.display()
    )]
    Tokens {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The password file cannot be read.
    #[error(
        "cannot use the password file {}; choose another auth.htpasswd.path",
        .path.display()
    )]
    Users {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder of the password file that the configuration names is missing.
    #[error(
        "there is no folder {} for the password file {}: is its volume mounted? Else `mkdir -m 700 {0}` \
         makes it; or correct auth.htpasswd.path",
        .folder.display(), .path.display()
    )]
    UsersFolder {
        /// The folder.
        folder: PathBuf,
        /// The file.
        path: PathBuf,
    },
    /// There is no password file, and it cannot be created.
    #[error(
        "there is no password file {}, and it cannot be made: put it there, make its folder writable \
         for this user, or correct auth.htpasswd.path",
        .path.display()
    )]
    NoUsers {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The threads that serve connections cannot be started.
    #[error(
        "the threads that serve cannot be started; raise the limits of threads (ulimit -u) and \
         descriptors (ulimit -n)"
    )]
    Workers(#[source] io::Error),
}

impl StartError {
    /// The error about a password file that exists.
    pub(super) fn users(path: &Path, source: io::Error) -> Self {
        match Denied::new("the password file ", path, Need::Read, source) {
            Ok(denied) => Self::Denied(denied),
            Err(source) => Self::Users { path: path.to_owned(), source },
        }
    }

    /// The error about a group file.
    pub(super) fn groups(path: &Path, source: GroupFileError) -> Self {
        let source = match source {
            GroupFileError::Read(source) => {
                match Denied::new("the group file ", path, Need::Read, source) {
                    Ok(denied) => return Self::Denied(denied),
                    Err(source) => GroupFileError::Read(source),
                }
            }
            source => source,
        };
        Self::Groups { path: path.to_owned(), source }
    }

    /// The error about a token file that exists.
    pub(crate) fn tokens(path: &Path, source: io::Error) -> Self {
        match Denied::new("the token file ", path, Need::Read, source) {
            Ok(denied) => Self::Denied(denied),
            Err(source) => Self::Tokens { path: path.to_owned(), source },
        }
    }

    /// The error about the authorities of client certificates.
    pub(super) fn client_authorities(error: CertificateError) -> Self {
        match Self::from(error) {
            Self::Certificate(error) => Self::ClientAuthorities(error),
            error => error,
        }
    }

    /// The error about a password file that cannot be created in its folder.
    pub(super) fn no_users(path: PathBuf, source: io::Error) -> Self {
        let folder = path.parent().unwrap_or(&path);
        let source = match Denied::new("", folder, Need::Write, source) {
            Ok(denied) => io::Error::other(denied),
            Err(source) => source,
        };
        Self::NoUsers { path, source }
    }
}

impl From<CertificateError> for StartError {
    fn from(error: CertificateError) -> Self {
        match error {
            CertificateError::Read { path, source } => {
                match Denied::new("", &path, Need::Read, source) {
                    Ok(denied) => Self::Denied(denied),
                    Err(source) => Self::Certificate(CertificateError::Read { path, source }),
                }
            }
            error => Self::Certificate(error),
        }
    }
}

impl From<AuthorityError> for StartError {
    fn from(error: AuthorityError) -> Self {
        use AuthorityError::{Directory, Read, Write};
        let denied = |path: &Path, need, source| Denied::new("", path, need, source);
        match error {
            Directory { path, source } => match denied(&path, Need::Write, source) {
                Ok(denied) => Self::Denied(denied),
                Err(source) => Self::Authority(Directory { path, source }),
            },
            Write { path, source } => match denied(&path, Need::Write, source) {
                Ok(denied) => Self::Denied(denied),
                Err(source) => Self::Authority(Write { path, source }),
            },
            Read { path, source } => match denied(&path, Need::Read, source) {
                Ok(denied) => Self::Denied(denied),
                Err(source) => Self::Authority(Read { path, source }),
            },
            error => Self::Authority(error),
        }
    }
}
