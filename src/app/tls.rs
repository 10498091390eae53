//! TLS of a server: the certificate and the authorities of client certificates, each of which is
//! reloaded for itself.

use std::{path::Path, sync::Arc, time::Duration};

use self::{authorities::ClientAuthorities, certificate::ServerCertificate};
use super::{StartError, certificates_folder};
use crate::{
    config::Config,
    server::{
        self, CertificateSource, TlsOptions,
        authority::{self, Hosts, Outcome, Reason},
        certificates::{Authorities, CertificateError},
        tls::{Protocols, Tls},
    },
};

pub(super) mod authorities;
pub(super) mod certificate;
pub(super) mod expiry;

/// A changed certificate is in force within a few seconds.
const WATCH: Duration = Duration::from_secs(2);

/// TLS, and its parts that can be reloaded.
#[derive(Debug)]
pub(super) struct Secured {
    pub(super) tls: Tls,
    pub(super) certificate: Arc<ServerCertificate>,
    pub(super) authorities: Arc<ClientAuthorities>,
}

/// Creates the built-in certificates, or renews them, where the options name no others. `hosts` are
/// the names by which clients reach the registry.
///
/// # Errors
///
/// When the local authority cannot issue a certificate.
pub(super) fn provision(
    options: &server::Options,
    hosts: &Hosts,
) -> Result<Option<Outcome>, StartError> {
    if !is_built_in(options) {
        return Ok(None);
    }
    let folder = certificates_folder();
    let made = authority::ensure(&folder, hosts)?;
    match &made.certificate {
        authority::ServerCertificate::Outdated(reason) => tracing::warn!(
            "the certificate {folder}/{} should be renewed ({reason}), and {} is kept elsewhere: \
             run `portcullis certs` there, and put {0} and {} into {folder}",
            authority::SERVER_CERTIFICATE,
            authority::CA_KEY,
            authority::SERVER_KEY,
            folder = folder.display(),
        ),
        authority::ServerCertificate::Issued(reason) if *reason != Reason::Missing => {
            tracing::info!("the server certificate was renewed: {reason}");
        }
        _ => {}
    }
    Ok(Some(made))
}

/// Builds TLS by the options, from files that are there; `None` where TLS is off.
///
/// # Errors
///
/// When a file cannot be used.
pub(super) fn secure(config: &Config) -> Result<Option<Secured>, StartError> {
    let options = &config.http.server;
    let TlsOptions::On { source, minimum, suites, clients } = &options.tls else {
        return Ok(None);
    };
    let certificate =
        ServerCertificate::load(source).map_err(|error| unusable(error, source, config))?;
    let mut authorities = Authorities::new(clients.clone());
    let verifier = authorities.load().map_err(StartError::client_authorities)?;
    let protocols =
        Protocols { minimum: *minimum, cipher_suites: suites, http2: !options.http2.disabled };
    let tls = Tls::new(protocols, Arc::clone(certificate.resolver()) as Arc<_>, verifier)?;
    Ok(Some(Secured {
        tls: tls.clone(),
        certificate: Arc::new(certificate),
        authorities: Arc::new(ClientAuthorities::new(authorities, tls)),
    }))
}

/// The error about the files of a certificate, with the place of the key that names them.
fn unusable(error: CertificateError, source: &CertificateSource, config: &Config) -> StartError {
    let CertificateSource::Files { certificate, key } = source else { return error.into() };
    let place = config.settings.place(key_of(&error, certificate, key));
    StartError::At { place, source: Box::new(error.into()) }
}

/// The key of the configuration whose file an error is about.
pub(super) fn key_of(error: &CertificateError, certificate: &Path, key: &Path) -> &'static str {
    match error.path() == Some(key) && certificate != key {
        true => "http.tls.key",
        false => "http.tls.certificate",
    }
}

/// Whether the options name no certificate of the operator's.
pub(super) const fn is_built_in(options: &server::Options) -> bool {
    matches!(options.tls, TlsOptions::On { source: CertificateSource::BuiltIn, .. })
}
