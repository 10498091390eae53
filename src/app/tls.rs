//! TLS of a server: the certificates and the authorities of client certificates, each of which is
//! reloaded for itself.

use std::{sync::Arc, time::Duration};

use self::{authorities::ClientAuthorities, certificate::ServerCertificates};
use super::{StartError, certificates_folder};
use crate::{
    config::Config,
    server::{
        self, CertificateFiles, CertificateSource, Passthrough, Sites, TlsOptions,
        acme::Challenges,
        authority::{self, Hosts, Outcome, Reason},
        certificates::{Authorities, CertificateError},
        tls::{Protocols, Tls},
    },
};

pub(super) mod authorities;
pub(super) mod certificate;
pub(super) mod expiry;
pub(super) mod letsencrypt;

pub(super) use letsencrypt::LetsEncrypt;

/// A changed certificate is in force within a few seconds.
const WATCH: Duration = Duration::from_secs(2);

/// TLS, and its parts that can be reloaded.
#[derive(Debug)]
pub(super) struct Secured {
    pub(super) tls: Tls,
    pub(super) certificates: Arc<ServerCertificates>,
    pub(super) authorities: Arc<ClientAuthorities>,
    /// Sites of other servers.
    pub(super) sites: Sites,
    /// What an authority may ask for before it issues a certificate.
    pub(super) challenges: Challenges,
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
    let is_fallback = letsencrypt::options(options).is_some();
    if !is_built_in(options) && !is_fallback {
        return Ok(None);
    }
    let folder = certificates_folder();
    let made = authority::ensure(&folder, hosts)?;
    if is_fallback {
        // It is served until another is there, and no client is to trust it.
        return Ok(None);
    }
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
    let TlsOptions::On { source, more, passthrough, minimum, suites, clients } = &options.tls
    else {
        return Ok(None);
    };
    if let Some(options) = letsencrypt::options(options) {
        letsencrypt::folder(options, config)?;
    }
    let certificates = ServerCertificates::load(source, more)
        .map_err(|error| unusable(error, source, more, config))?;
    let mut authorities = Authorities::new(clients.clone());
    let clients = authorities.load().map_err(StartError::client_authorities)?;
    let protocols =
        Protocols { minimum: *minimum, cipher_suites: suites, http2: !options.http2.disabled };
    let tls = Tls::new(protocols, Arc::clone(certificates.resolver()) as Arc<_>, clients)?;
    for Passthrough { names, addr, .. } in passthrough {
        tracing::info!(names = names.join(" "), addr, "TLS of other sites is passed through");
    }
    Ok(Some(Secured {
        tls: tls.clone(),
        certificates: Arc::new(certificates),
        authorities: Arc::new(ClientAuthorities::new(authorities, tls)),
        sites: Sites::new(passthrough),
        challenges: Challenges::default(),
    }))
}

/// The error about the files of a certificate, with the place of the key that names them.
fn unusable(
    error: CertificateError,
    source: &CertificateSource,
    more: &[CertificateFiles],
    config: &Config,
) -> StartError {
    let further =
        more.iter().enumerate().map(|(index, files)| (format!("http.tls.more[{index}]"), files));
    let first = match source {
        CertificateSource::Files { certificate, key } => {
            Some(CertificateFiles { certificate: certificate.clone(), key: key.clone() })
        }
        CertificateSource::BuiltIn | CertificateSource::LetsEncrypt(_) => None,
    };
    let first = first.iter().map(|files| ("http.tls".to_owned(), files));
    let key = first.chain(further).find_map(|(section, files)| key_of(&error, &section, files));
    match key {
        Some(key) => {
            let place = config.settings.place(&key);
            StartError::At { place, source: Box::new(error.into()) }
        }
        None => error.into(),
    }
}

/// The key in a section of the configuration that names the file which an error is about, if one of
/// `files` is.
pub(super) fn key_of(
    error: &CertificateError,
    section: &str,
    files: &CertificateFiles,
) -> Option<String> {
    let path = error.path()?;
    if path == files.certificate {
        Some(format!("{section}.certificate"))
    } else if path == files.key {
        Some(format!("{section}.key"))
    } else {
        None
    }
}

/// Whether the options name no certificate of the operator's.
pub(super) const fn is_built_in(options: &server::Options) -> bool {
    matches!(options.tls, TlsOptions::On { source: CertificateSource::BuiltIn, .. })
}
