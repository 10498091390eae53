//! The server's certificates: `http.tls.certificate` and `http.tls.key`, those that `http.tls.letsencrypt`
//! obtains, or the built-in one, and `http.tls.more`.

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
        reload::{self, Kept, Reload},
    },
    expiry::{self, Renewal},
};
use crate::{
    config::Config,
    server::{
        self, CertificateSource, TlsOptions, acme, authority,
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
    /// The source that the others follow: a certificate, or one for each host of `http.tls.letsencrypt`.
    source: CertificateSource,
    own: Vec<CertificateFiles>,
    more: Vec<CertificateFiles>,
}

#[derive(Debug)]
struct CertificateFiles {
    source: certificates::Source,
    in_force: Arc<InForce>,
    /// Where the next one comes from; `None` for those that `http.tls.letsencrypt` obtains, whose task logs what
    /// fails.
    renewal: Option<Renewal>,
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
        if files.source != *source
            && [&files.source, source]
                .iter()
                .any(|source| matches!(source, CertificateSource::LetsEncrypt(_)))
        {
            return Err(Kept::UntilRestart);
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
            source: source.clone(),
            own: match source {
                CertificateSource::LetsEncrypt(options) => obtained(options)?,
                source => vec![CertificateFiles::load(files(source), renewal(source))?],
            },
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
        self.source == *source
            && self.more.len() == more.len()
            && self.more.iter().zip(more).all(are_same)
    }

    fn all(&mut self) -> impl Iterator<Item = &mut CertificateFiles> {
        self.own.iter_mut().chain(&mut self.more)
    }

    fn in_force(&self) -> Certificates {
        let mut all =
            self.own.iter().chain(&self.more).map(|files| Arc::clone(&files.in_force)).collect();
        Certificates { first: Vec::remove(&mut all, 0), more: all }
    }
}

impl CertificateFiles {
    fn load(mut source: certificates::Source, renewal: Renewal) -> Result<Self, CertificateError> {
        let in_force = Arc::new(InForce::new(source.load()?));
        Ok(Self { source, in_force, renewal: Some(renewal), warned: None })
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
            // The first one is still waited for.
            Err(CertificateError::Missing { .. }) if self.renewal.is_none() => return,
            Err(error) => unusable(&error),
        }
        if which == reload::Files::All {
            permissions::warn(self.source.key(), What::Key);
        }
        self.warn_of_end(Timestamp::now());
    }

    /// Whether the file of an obtained certificate is not there yet.
    fn is_awaited(&self) -> bool {
        self.renewal.is_none() && !self.source.certificate().exists()
    }

    /// Logs once a day that the certificate in force expires soon or has expired.
    fn warn_of_end(&mut self, now: Timestamp) {
        let Some(renewal) = self.renewal else { return };
        if self.warned.is_some_and(|warned| warned.duration_until(now) < WARNED_AGAIN) {
            return;
        }
        let current = self.in_force.current();
        let leaf = current.cert.first().and_then(|leaf| certificates::describe(leaf).ok());
        let certificate = self.source.certificate();
        let warning = leaf.and_then(|leaf| expiry::warning(&leaf, now, renewal, certificate));
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        self.warned = Some(now);
    }
}

/// The files of the certificates that `http.tls.letsencrypt` obtains. The built-in certificate is in force for a
/// host whose file is missing or cannot be used.
fn obtained(options: &acme::Options) -> Result<Vec<CertificateFiles>, CertificateError> {
    let mut built_in = None;
    let of = |host: &String| {
        let path = options.cachefile.join(host);
        let mut source = certificates::Source::new(path.clone(), path);
        let certificate = match source.load() {
            Ok(certificate) => certificate,
            Err(error) => {
                let fallback = match &built_in {
                    Some(certificate) => Arc::clone(certificate),
                    None => files(&CertificateSource::BuiltIn).load()?,
                };
                built_in = Some(Arc::clone(&fallback));
                await_first(host, &error);
                fallback
            }
        };
        let in_force = Arc::new(InForce::new(certificate));
        Ok(CertificateFiles { source, in_force, renewal: None, warned: None })
    };
    options.hosts.iter().map(of).collect()
}

fn await_first(host: &str, error: &CertificateError) {
    if !matches!(error, CertificateError::Missing { .. }) {
        tracing::error!(%error, "another certificate is ordered");
    }
    tracing::info!(
        host,
        "waiting for the first certificate; until then the built-in one is served, which clients do not trust"
    );
}

/// The files of a certificate and its key.
fn files(source: &CertificateSource) -> certificates::Source {
    match source {
        CertificateSource::Files { certificate, key } => {
            certificates::Source::new(certificate.clone(), key.clone())
        }
        CertificateSource::BuiltIn | CertificateSource::LetsEncrypt(_) => {
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
        CertificateSource::BuiltIn | CertificateSource::LetsEncrypt(_) => {
            match certificates_folder().join(authority::CA_KEY).exists() {
                true => Renewal::Authority,
                false => Renewal::KeyElsewhere,
            }
        }
    }
}

/// Logs the names and the end of a certificate in force.
fn describe(files: &CertificateFiles) {
    if files.is_awaited() {
        return;
    }
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
