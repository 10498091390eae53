//! Why the server does not start.

use std::{io, path::PathBuf};

use crate::{
    gate, health, http, notify,
    server::{BindError, authority, certificates::CertificateError},
};

/// Why the server does not start. The text is for its operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The built-in authority cannot work.
    #[error(transparent)]
    Authority(#[from] authority::AuthorityError),
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A health check is invalid.
    #[error(transparent)]
    Health(#[from] health::InvalidCheck),
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
        "cannot use {} for storage; make it writable for this user, or choose another \
         storage.filesystem.rootdirectory",
        .root.display()
    )]
    Storage {
        /// The root.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The password file cannot be read.
    #[error(
        "cannot use the password file {}; make it readable for this user, or choose \
         another auth.htpasswd.path",
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
