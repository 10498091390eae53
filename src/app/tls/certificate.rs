//! The server's certificate: `http.tls.certificate` and `http.tls.key`, or the built-in one.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    super::{
        certificates_folder,
        permissions::{self, What},
        provision,
        reload::{Files, Kept, Reload},
    },
    expiry::{self, Renewal},
};
use crate::{
    config::Config,
    server::{
        CertificateSource, TlsOptions, authority,
        certificates::{self, CertificateError, Resolver},
    },
};

/// The time between two warnings about the expiry of the certificate.
const WARNED_AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// The certificate in force, with the files that it comes from.
#[derive(Debug)]
pub(in crate::app) struct ServerCertificate {
    resolver: Arc<Resolver>,
    files: Mutex<CertificateFiles>,
}

#[derive(Debug)]
struct CertificateFiles {
    source: certificates::Source,
    renewal: Renewal,
    /// When the expiry of the certificate was last checked.
    warned: Option<Timestamp>,
}

impl ServerCertificate {
    /// Reads the certificate and its key, and logs what an operator should know of them.
    ///
    /// # Errors
    ///
    /// When they cannot be used.
    pub(super) fn load(source: &CertificateSource) -> Result<Self, CertificateError> {
        let renewal = renewal(source);
        let mut source = files(source);
        let resolver = Arc::new(Resolver::new(source.load()?));
        describe(&source, &resolver);
        report(&source);
        let mut files = CertificateFiles { source, renewal, warned: None };
        files.warn_of_end(&resolver, Timestamp::now());
        Ok(Self { resolver, files: Mutex::new(files) })
    }

    /// Hands the certificate in force to TLS.
    pub(in crate::app) const fn resolver(&self) -> &Arc<Resolver> {
        &self.resolver
    }
}

impl Reload for ServerCertificate {
    fn keys(&self) -> &'static [&'static str] {
        &["http.tls.certificate", "http.tls.key"]
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        let TlsOptions::On { source, .. } = &config.http.server.tls else {
            return Err(Kept::UntilRestart);
        };
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = self::files(source);
        if new.has_files_of(&files.source) {
            return Ok(());
        }
        new.reload(&self.resolver).map_err(|error| {
            unusable(&error);
            Kept::Unusable
        })?;
        report(&new);
        *files = CertificateFiles { source: new, renewal: renewal(source), warned: None };
        tracing::info!("the certificate of the new file is in force");
        Ok(())
    }

    fn watch(&self) -> Option<Duration> {
        Some(super::WATCH)
    }

    fn read_files(&self, which: Files) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let reloaded = match which {
            Files::All => files.source.reload(&self.resolver).map(|()| true),
            Files::Changed => files.source.reload_if_changed(&self.resolver),
        };
        match reloaded {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!("the certificate is in force");
                remark(&files.source);
                files.warned = None;
            }
            Err(error) => unusable(&error),
        }
        if which == Files::All {
            permissions::warn(files.source.key(), What::Key);
        }
        files.warn_of_end(&self.resolver, Timestamp::now());
    }
}

impl CertificateFiles {
    /// Logs once a day that the certificate in force expires soon or has expired.
    fn warn_of_end(&mut self, resolver: &Resolver, now: Timestamp) {
        if self.warned.is_some_and(|warned| warned.duration_until(now) < WARNED_AGAIN) {
            return;
        }
        let current = resolver.current();
        let leaf = current.cert.first().and_then(|leaf| certificates::describe(leaf).ok());
        let certificate = self.source.certificate();
        let warning = leaf.and_then(|leaf| expiry::warning(&leaf, now, self.renewal, certificate));
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        self.warned = Some(now);
    }
}

/// The files of a certificate and its key.
fn files(source: &CertificateSource) -> certificates::Source {
    match source {
        CertificateSource::Files { certificate, key } => {
            certificates::Source::new(certificate.clone(), key.clone())
        }
        CertificateSource::BuiltIn => {
            let folder = certificates_folder();
            certificates::Source::new(
                folder.join(authority::SERVER_CERTIFICATE),
                folder.join(authority::SERVER_KEY),
            )
        }
    }
}

/// Where the next certificate comes from.
fn renewal(source: &CertificateSource) -> Renewal {
    match source {
        CertificateSource::Files { .. } => Renewal::Files,
        CertificateSource::BuiltIn => {
            match certificates_folder().join(authority::CA_KEY).exists() {
                true => Renewal::Authority,
                false => Renewal::KeyElsewhere,
            }
        }
    }
}

/// Logs the names and the end of the certificate in force.
fn describe(source: &certificates::Source, resolver: &Resolver) {
    let current = resolver.current();
    let leaf = current.cert.first().and_then(|leaf| certificates::describe(leaf).ok());
    if let Some(leaf) = leaf {
        let file = provision::absolute(source.certificate());
        tracing::info!(
            until = %leaf.not_after.strftime("%Y-%m-%d"),
            names = leaf.names.join(" "),
            file = %file.display(),
            "certificate of the server"
        );
    }
}

/// Logs what an operator should know of files that are new to the server.
fn report(source: &certificates::Source) {
    remark(source);
    permissions::warn(source.key(), What::Key);
}

fn remark(source: &certificates::Source) {
    if let Some(remark) = source.remark() {
        tracing::info!("{remark}");
    }
}

fn unusable(error: &CertificateError) {
    tracing::error!(%error, "cannot use the new certificate; the old one stays in force");
}
