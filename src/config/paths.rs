//! Relative paths, made absolute where the configuration is read: a message about a file then names it
//! from the root, whichever part writes the message.

use std::path::{Path, PathBuf};

use super::Config;
use crate::{
    gate, server,
    server::{CertificateFiles, CertificateSource, TlsOptions},
    storage,
};

/// Makes the paths of files and directories absolute: images, users, groups, certificates and keys, files
/// that take the server out of service. The path of a Unix socket stays as it is, since its length is
/// limited.
pub(super) fn make_absolute(config: &mut Config) {
    if let storage::Options::Filesystem(options) = &mut config.storage.backend {
        from_root(&mut options.rootdirectory);
    }
    if let gate::Options::Htpasswd(options) = &mut config.auth {
        from_root(&mut options.path);
        from_root(&mut options.sessions.keyfile);
        options.tokens.file.iter_mut().for_each(from_root);
    }
    if let gate::Options::Token(options) = &mut config.auth {
        options.rootcertbundle.iter_mut().for_each(from_root);
        options.jwks.iter_mut().for_each(from_root);
    }
    for check in &mut config.health.file {
        from_root(&mut check.file);
    }
    let access = config.access.as_mut();
    if let Some(file) = access.and_then(|access| access.groupfile.as_mut()) {
        from_root(file);
    }
    let server::Options { tls, .. } = &mut config.http.server;
    if let TlsOptions::On { source, more, clients, .. } = tls {
        match source {
            CertificateSource::Files { certificate, key } => {
                from_root(certificate);
                from_root(key);
            }
            CertificateSource::LetsEncrypt(options) => {
                from_root(&mut options.cachefile);
                options.caroot.iter_mut().for_each(from_root);
            }
            CertificateSource::BuiltIn => {}
        }
        for CertificateFiles { certificate, key } in more {
            from_root(certificate);
            from_root(key);
        }
        clients.iter_mut().flat_map(|clients| &mut clients.authorities).for_each(from_root);
    }
}

/// The path from the root; as it is if the working directory is unknown.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn from_root(path: &mut PathBuf) {
    *path = absolute(path);
}
