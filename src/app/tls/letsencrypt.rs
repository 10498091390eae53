//! Certificates that an authority issues: `http.tls.letsencrypt`.

use std::{net::SocketAddr, sync::Arc};

use super::{
    super::{
        StartError,
        reload::{Files, Kept, Reload},
    },
    Secured,
};
use crate::{
    config::Config,
    server::{
        self, CertificateSource, TlsOptions,
        acme::{self, Folder, Parts, Reachable, Renewals},
    },
};

/// The port to which authorities connect for tls-alpn-01.
const HTTPS: u16 = 443;

/// The options; `None` where no certificate is obtained.
pub(in crate::app) fn options(options: &server::Options) -> Option<&acme::Options> {
    match &options.tls {
        TlsOptions::On { source: CertificateSource::LetsEncrypt(options), .. } => Some(options),
        _ => None,
    }
}

/// Opens the folder of the certificates.
///
/// # Errors
///
/// When the folder cannot be used, with the place of the key.
pub(super) fn folder(options: &acme::Options, config: &Config) -> Result<Folder, StartError> {
    Folder::open(&options.cachefile).map_err(|error| {
        let place = config.settings.place("http.tls.letsencrypt.cachefile");
        StartError::At { place, source: Box::new(error.into()) }
    })
}

impl Secured {
    /// The task that obtains and renews certificates; `None` where none is obtained. `addr` is the address of
    /// the TLS listener.
    ///
    /// # Errors
    ///
    /// When no request can be sent to the authority.
    pub(in crate::app) fn renewals(
        &self,
        config: &Config,
        addr: Option<SocketAddr>,
    ) -> Result<Option<Arc<Renewals>>, StartError> {
        let server = &config.http.server;
        let Some(options) = options(server) else { return Ok(None) };
        let certificates = Arc::clone(&self.certificates);
        let parts = Parts {
            folder: folder(options, config)?,
            challenges: self.challenges.clone(),
            reachable: Reachable {
                https: addr.is_some_and(|addr| addr.port() == HTTPS),
                redirect: !server.redirectaddr.is_empty(),
            },
            put_in_force: Arc::new(move || certificates.read_files(Files::Changed)),
        };
        Ok(Some(Arc::new(Renewals::new(options, parts)?)))
    }
}

/// The renewals, which SIGHUP has tried at once. Other options need a restart.
#[derive(Debug)]
pub(in crate::app) struct LetsEncrypt {
    renewals: Arc<Renewals>,
    options: Option<acme::Options>,
}

impl LetsEncrypt {
    pub(in crate::app) fn new(renewals: Arc<Renewals>, config: &Config) -> Self {
        Self { renewals, options: options(&config.http.server).cloned() }
    }
}

impl Reload for LetsEncrypt {
    fn keys(&self) -> &'static [&'static str] {
        &["http.tls.letsencrypt"]
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        let is_same = options(&config.http.server) == self.options.as_ref();
        if is_same { Ok(()) } else { Err(Kept::UntilRestart) }
    }

    fn read_files(&self, files: Files) {
        if files == Files::All {
            self.renewals.hurry();
        }
    }
}
