//! The server's certificates: `http.tls.certificate` and `http.tls.key`, or the built-in one, and
//! `http.tls.more`.

use std::{
    iter,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    super::{
        certificates_folder,
        permissions::{self, What},
        provision,
        reload::{self, Kept, Reload},
    },
    expiry::{self, Renewal},
};
use crate::{
    config::Config,
    server::{
        self, CertificateSource, TlsOptions, authority,
        certificates::{self, CertificateError, Certificates, InForce, Resolver},
    },
};

/// The time between two warnings about the expiry of the certificate.
const WARNED_AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// The certificates in force, with the files that they come from: the first, and those of `http.tls.more`.
#[derive(Debug)]
pub(in crate::app) struct ServerCertificates {
    resolver: Arc<Resolver>,
    files: Mutex<Files>,
}

/// The files of all certificates.
#[derive(Debug)]
struct Files {
    first: CertificateFiles,
    more: Vec<CertificateFiles>,
}

#[derive(Debug)]
struct CertificateFiles {
    source: certificates::Source,
    in_force: Arc<InForce>,
    renewal: Renewal,
    /// When the expiry of the certificate was last checked.
    warned: Option<Timestamp>,
}

impl ServerCertificates {
    /// Reads the certificates and their keys, and logs what an operator should know of them.
    ///
    /// # Errors
    ///
    /// When one cannot be used.
    pub(super) fn load(
        source: &CertificateSource,
        more: &[server::CertificateFiles],
    ) -> Result<Self, CertificateError> {
        let mut files = Files::load(source, more)?;
        for files in files.all() {
            describe(files);
            report(&files.source);
            files.warn_of_end(Timestamp::now());
        }
        Ok(Self { resolver: Arc::new(Resolver::new(files.in_force())), files: Mutex::new(files) })
    }

    /// Hands the certificates in force to TLS.
    pub(in crate::app) const fn resolver(&self) -> &Arc<Resolver> {
        &self.resolver
    }
}

impl Reload for ServerCertificates {
    fn keys(&self) -> &'static [&'static str] {
        &["http.tls.certificate", "http.tls.key", "http.tls.more"]
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        let TlsOptions::On { source, more, .. } = &config.http.server.tls else {
            return Err(Kept::UntilRestart);
        };
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.are_those_of(source, more) {
            return Ok(());
        }
        let mut new = Files::load(source, more).map_err(|error| {
            unusable(&error);
            Kept::Unusable
        })?;
        for files in new.all() {
            describe(files);
            report(&files.source);
        }
        self.resolver.replace(new.in_force());
        *files = new;
        tracing::info!("the certificates of the new files are in force");
        Ok(())
    }

    fn watch(&self) -> Option<Duration> {
        Some(super::WATCH)
    }

    fn read_files(&self, which: reload::Files) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.all().for_each(|files| files.read(which));
    }
}

impl Files {
    fn load(
        source: &CertificateSource,
        more: &[server::CertificateFiles],
    ) -> Result<Self, CertificateError> {
        Ok(Self {
            first: CertificateFiles::load(files(source), renewal(source))?,
            more: more
                .iter()
                .map(|files| CertificateFiles::load(further(files), Renewal::Files))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether the options name these files.
    fn are_those_of(&self, source: &CertificateSource, more: &[server::CertificateFiles]) -> bool {
        let are_same = |(ours, theirs): (&CertificateFiles, &server::CertificateFiles)| {
            ours.source.has_files_of(&further(theirs))
        };
        self.first.source.has_files_of(&files(source))
            && self.more.len() == more.len()
            && self.more.iter().zip(more).all(are_same)
    }

    fn all(&mut self) -> impl Iterator<Item = &mut CertificateFiles> {
        iter::once(&mut self.first).chain(&mut self.more)
    }

    fn in_force(&self) -> Certificates {
        Certificates {
            first: Arc::clone(&self.first.in_force),
            more: self.more.iter().map(|files| Arc::clone(&files.in_force)).collect(),
        }
    }
}

impl CertificateFiles {
    fn load(mut source: certificates::Source, renewal: Renewal) -> Result<Self, CertificateError> {
        let in_force = Arc::new(InForce::new(source.load()?));
        Ok(Self { source, in_force, renewal, warned: None })
    }

    /// Reads the files again. Where they cannot be used, their certificate stays in force, and so do those
    /// of other files.
    fn read(&mut self, which: reload::Files) {
        let reloaded = match which {
            reload::Files::All => self.source.reload(&self.in_force).map(|()| true),
            reload::Files::Changed => self.source.reload_if_changed(&self.in_force),
        };
        match reloaded {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(file = %self.source.certificate().display(), "the certificate is in force");
                remark(&self.source);
                self.warned = None;
            }
            Err(error) => unusable(&error),
        }
        if which == reload::Files::All {
            permissions::warn(self.source.key(), What::Key);
        }
        self.warn_of_end(Timestamp::now());
    }

    /// Logs once a day that the certificate in force expires soon or has expired.
    fn warn_of_end(&mut self, now: Timestamp) {
        if self.warned.is_some_and(|warned| warned.duration_until(now) < WARNED_AGAIN) {
            return;
        }
        let current = self.in_force.current();
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

/// The files of a certificate of `http.tls.more`.
fn further(files: &server::CertificateFiles) -> certificates::Source {
    certificates::Source::new(files.certificate.clone(), files.key.clone())
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

/// Logs the names and the end of a certificate in force.
fn describe(files: &CertificateFiles) {
    let current = files.in_force.current();
    let leaf = current.cert.first().and_then(|leaf| certificates::describe(leaf).ok());
    if let Some(leaf) = leaf {
        let file = provision::absolute(files.source.certificate());
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
