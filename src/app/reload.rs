//! Reload: files that are read again while the server runs, and a new configuration applied to it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use super::{
    CERTIFICATES, Provisioned, StartError,
    expiry::{self, Renewal},
    permissions::{self, What},
    report,
};
use crate::{
    chain::Chain,
    config::Config,
    gate::{self, Gate, HtpasswdOptions, UserFile},
    http::Api,
    notify::Notifier,
    server::{
        CertificateSource, ClientCertificates, TlsOptions, authority,
        authority::ServerCertificate,
        certificates::{self, Authorities, CertificateError},
        tls,
    },
};

/// The keys that take effect without a restart, with those below them.
pub(super) const RELOADED: &[&str] = &[
    "log.level",
    "auth.htpasswd.path",
    "auth.htpasswd.legacyformats",
    "http.tls.certificate",
    "http.tls.key",
    "http.tls.clientcas",
    "http.tls.clientauth",
    "http.headers",
    "notifications",
    "storage.maintenance.readonly.enabled",
];

/// The time between two warnings of a certificate that ends.
const TOLD_AGAIN: SignedDuration = SignedDuration::from_hours(24);

pub(super) type Secured = (Option<tls::Tls>, Option<Mutex<Certificates>>);

/// Builds the TLS configuration, and makes the built-in certificates when they are missing.
pub(super) fn secure(
    config: &Config,
    provisioned: &mut Provisioned,
) -> Result<Secured, StartError> {
    let options = &config.http.server;
    let TlsOptions::On { source, minimum, suites, clients } = &options.tls else {
        return Ok((None, None));
    };
    if *source == CertificateSource::BuiltIn {
        let made = authority::ensure(Path::new(CERTIFICATES), &hosts(config))?;
        if let ServerCertificate::Outdated(reason) = &made.certificate {
            tracing::warn!(
                "the certificate in {CERTIFICATES}/{} should be renewed ({reason}), and {} is kept \
                 elsewhere: run `portcullis certs` there, and put {0} and {} into {CERTIFICATES}",
                authority::SERVER_CERTIFICATE,
                authority::CA_KEY,
                authority::SERVER_KEY,
            );
        }
        provisioned.certificates = Some(made);
    }
    let files = files(source);
    let mut source = certificates::Source::new(files.0.clone(), files.1.clone());
    let resolver = Arc::new(certificates::Resolver::new(source.load()?));
    remark(&source);
    permissions::warn(&files.1, What::Key);
    let mut authorities = Authorities::new(clients.clone());
    let clients = authorities.load().map_err(StartError::ClientAuthorities)?;
    let resolving = Arc::clone(&resolver) as Arc<_>;
    let tls = tls::Tls::new(options, (*minimum, suites), resolving, clients)?;
    let mut certificates = Certificates {
        renewal: renewal(config),
        files,
        source,
        resolver,
        authorities,
        tls: tls.clone(),
        told_of_end: None,
    };
    certificates.tell_of_end(Timestamp::now());
    Ok((Some(tls), Some(Mutex::new(certificates))))
}

/// By what names clients reach the registry, as far as the configuration says.
pub(super) fn hosts(config: &Config) -> Vec<String> {
    config.http.api.host.iter().cloned().collect()
}

/// Where a certificate and its key are.
fn files(source: &CertificateSource) -> (PathBuf, PathBuf) {
    match source {
        CertificateSource::Files { certificate, key } => (certificate.clone(), key.clone()),
        CertificateSource::BuiltIn => {
            let folder = Path::new(CERTIFICATES);
            (folder.join("server.crt"), folder.join("server.key"))
        }
    }
}

/// Where another certificate comes from.
fn renewal(config: &Config) -> Renewal {
    match &config.http.server.tls {
        TlsOptions::On { source: CertificateSource::BuiltIn, .. } => {
            match Path::new(CERTIFICATES).join(authority::CA_KEY).exists() {
                true => Renewal::Authority,
                false => Renewal::KeyElsewhere,
            }
        }
        _ => Renewal::Files,
    }
}

/// Logs what an operator should know about the files that were read.
fn remark(source: &certificates::Source) {
    if let Some(remark) = source.remark() {
        tracing::info!("{remark}");
    }
}

#[derive(Debug)]
pub(super) struct Certificates {
    files: (PathBuf, PathBuf),
    renewal: Renewal,
    /// When it was last said that the certificate ends.
    told_of_end: Option<Timestamp>,
    source: certificates::Source,
    resolver: Arc<certificates::Resolver>,
    authorities: Authorities,
    tls: tls::Tls,
}

impl Certificates {
    /// Replaces the files, if the new ones can be used.
    fn move_to(
        &mut self,
        files: (PathBuf, PathBuf),
        renewal: Renewal,
    ) -> Result<(), CertificateError> {
        let mut source = certificates::Source::new(files.0.clone(), files.1.clone());
        self.resolver.replace(source.load()?);
        remark(&source);
        permissions::warn(&files.1, What::Key);
        (self.files, self.source, self.renewal) = (files, source, renewal);
        self.told_of_end = None;
        Ok(())
    }

    /// Logs once a day that the certificate in force ends soon or has ended.
    fn tell_of_end(&mut self, now: Timestamp) {
        if self.told_of_end.is_some_and(|told| told.duration_until(now) < TOLD_AGAIN) {
            return;
        }
        let current = self.resolver.current();
        let leaf = current.cert.first().and_then(|leaf| certificates::describe(leaf).ok());
        let told = leaf.and_then(|leaf| expiry::told(&leaf, now, self.renewal, &self.files.0));
        if let Some(told) = told {
            tracing::warn!("{told}");
        }
        self.told_of_end = Some(now);
    }

    /// Applies the options of client certificates; false when the old ones stay in force.
    fn ask_clients(&mut self, options: Option<&ClientCertificates>) -> bool {
        if self.authorities.are_those_of(options) {
            return true;
        }
        let mut authorities = Authorities::new(options.cloned());
        match authorities.load() {
            Ok(clients) => {
                self.tls.ask_clients(clients);
                self.authorities = authorities;
                match options {
                    Some(ClientCertificates { demand, .. }) => {
                        tracing::info!(clientauth = ?demand, "client certificates are requested");
                    }
                    None => tracing::info!("client certificates are no longer requested"),
                }
                true
            }
            Err(error) => {
                keeps_authorities(&error);
                false
            }
        }
    }

    /// Reads the authorities of client certificates again.
    fn reload_authorities(&mut self, unchanged_too: bool) {
        let reloaded = match unchanged_too {
            true => self.authorities.reload(&self.tls),
            false => self.authorities.reload_if_changed(&self.tls),
        };
        match reloaded {
            Ok(false) => {}
            Ok(true) => tracing::info!("new http.tls.clientcas are in force"),
            Err(error) => keeps_authorities(&error),
        }
    }
}

fn keeps_authorities(error: &CertificateError) {
    tracing::error!(
        error = %Chain(error),
        "cannot use the new http.tls.clientcas; the old ones stay in force"
    );
}

/// The parts that can be reloaded while the server runs.
#[derive(Debug)]
pub(super) struct Reloads {
    pub(super) gate: Arc<Gate>,
    pub(super) api: Arc<Api>,
    pub(super) notifier: Notifier,
    pub(super) users: Option<Mutex<UserFile>>,
    pub(super) certificates: Option<Mutex<Certificates>>,
}

impl Reloads {
    /// What hands the certificate in force to TLS, where there is TLS: always the same.
    pub(super) fn resolver(&self) -> Option<Arc<certificates::Resolver>> {
        let certificates = self.certificates.as_ref()?;
        let certificates = certificates.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&certificates.resolver))
    }

    /// Runs work on files on a thread that may block.
    pub(super) async fn run(self: Arc<Self>, work: impl FnOnce(&Self) + Send + 'static) {
        if let Err(error) = tokio::task::spawn_blocking(move || work(&self)).await {
            tracing::error!(%error, "a reload task panicked");
        }
    }

    pub(super) fn users(&self, unchanged_too: bool) {
        let Some(source) = &self.users else { return };
        let mut source = source.lock().unwrap_or_else(PoisonError::into_inner);
        match source.reload(unchanged_too) {
            Ok(None) if unchanged_too => permissions::warn(source.path(), What::Passwords),
            Ok(None) => {}
            Ok(Some(users)) => {
                tracing::info!(users = users.entries().len(), "the password file is in force");
                report(source.path(), &users);
                self.gate.set_users(&users);
            }
            Err(error) => tracing::error!(
                file = %source.path().display(),
                %error,
                "cannot read the password file; the users last read stay in force"
            ),
        }
    }

    pub(super) fn certificates(&self, unchanged_too: bool) {
        let Some(certificates) = &self.certificates else {
            return;
        };
        let mut certificates = certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let Certificates { source, resolver, .. } = &mut *certificates;
        let reloaded = match unchanged_too {
            true => source.reload(resolver).map(|()| true),
            false => source.reload_if_changed(resolver),
        };
        match reloaded {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!("the certificate is in force");
                remark(source);
                certificates.told_of_end = None;
            }
            Err(error) => {
                tracing::error!(
                    %error,
                    "cannot use the new certificate; the old one stays in force"
                );
            }
        }
        if unchanged_too {
            permissions::warn(&certificates.files.1, What::Key);
        }
        certificates.tell_of_end(Timestamp::now());
        certificates.reload_authorities(unchanged_too);
    }

    /// Puts in force what another configuration says of the keys that are [`RELOADED`], but for the
    /// level of the log. What it says of a file that cannot be used is left as it was.
    /// Gives the keys of which that is not so; why has been logged.
    pub(super) fn apply(&self, config: &Config) -> Vec<&'static str> {
        let mut kept = Vec::new();
        match (&config.auth, &self.users) {
            (gate::Options::Htpasswd(options), Some(users)) if self.move_users(options, users) => {}
            // Who is asked for a password at all takes a restart.
            _ => kept.push("auth.htpasswd"),
        }
        if let (TlsOptions::On { source, clients, .. }, Some(certificates)) =
            (&config.http.server.tls, &self.certificates)
        {
            let mut certificates = certificates.lock().unwrap_or_else(PoisonError::into_inner);
            if !certificates.ask_clients(clients.as_ref()) {
                kept.extend(["http.tls.clientcas", "http.tls.clientauth"]);
            }
            let files = files(source);
            if files != certificates.files {
                match certificates.move_to(files, renewal(config)) {
                    Ok(()) => tracing::info!("the certificate of the new file is in force"),
                    Err(error) => {
                        kept.extend(["http.tls.certificate", "http.tls.key"]);
                        tracing::error!(
                            %error,
                            "cannot use the new certificate; the old one stays in force"
                        );
                    }
                }
            }
        } else {
            kept.push("http.tls");
        }
        if let Err(error) = self.api.adjust(&config.http.api, &config.storage.maintenance.readonly)
        {
            kept.push("http.headers");
            tracing::error!(%error, "cannot use the new http.headers; the old ones stay in force");
        }
        if let Err(error) = self.notifier.set(&config.notifications) {
            kept.push("notifications");
            let error = Chain(&error);
            tracing::error!(
                %error,
                "cannot use the new notification endpoints; the old ones stay in force"
            );
        }
        kept
    }

    /// Applies the options of the password file; false when the old users stay in force.
    fn move_users(&self, options: &HtpasswdOptions, users: &Mutex<UserFile>) -> bool {
        let mut source = users.lock().unwrap_or_else(PoisonError::into_inner);
        if source.is_that_of(options) {
            return true;
        }
        let path = &options.path;
        match UserFile::open(options) {
            Ok((file, users)) => {
                tracing::info!(
                    file = %path.display(),
                    users = users.entries().len(),
                    "the new password file is in force"
                );
                report(path, &users);
                self.gate.set_users(&users);
                *source = file;
                true
            }
            Err(error) => {
                tracing::error!(
                    file = %path.display(),
                    %error,
                    "cannot read the new password file; the users of the old one stay in force"
                );
                false
            }
        }
    }
}
