//! Client certificates: `http.tls.clientcas`, `http.tls.clientauth` and `http.tls.clientidentity`.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::super::reload::{Files, Kept, Reload};
use crate::{
    chain::Chain,
    config::Config,
    server::{
        ClientCertificates, TlsOptions,
        certificates::{Authorities, CertificateError, ClientIdentity},
        tls::Tls,
    },
};

/// The files of the authorities of client certificates, and the TLS configuration that uses them.
#[derive(Debug)]
pub(in crate::app) struct ClientAuthorities {
    authorities: Mutex<Authorities>,
    tls: Tls,
}

impl ClientAuthorities {
    /// Reloads `authorities`, which `tls` has already.
    pub(super) const fn new(authorities: Authorities, tls: Tls) -> Self {
        Self { authorities: Mutex::new(authorities), tls }
    }

    /// Puts new options in force.
    fn switch(
        &self,
        old: &mut Authorities,
        options: Option<&ClientCertificates>,
    ) -> Result<(), Kept> {
        let mut new = Authorities::new(options.cloned());
        let clients = new.load().map_err(|error| {
            unusable(&error);
            Kept::Unusable
        })?;
        self.tls.set_clients(clients);
        *old = new;
        match options {
            Some(ClientCertificates { demand, identity, .. }) => {
                let clientidentity = identity.map(ClientIdentity::word);
                tracing::info!(
                    clientauth = demand.name(),
                    clientidentity,
                    "client certificates are requested"
                );
            }
            None => tracing::info!("client certificates are no longer requested"),
        }
        Ok(())
    }
}

impl Reload for ClientAuthorities {
    fn keys(&self) -> &'static [&'static str] {
        &["http.tls.clientcas", "http.tls.clientauth", "http.tls.clientidentity"]
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        let TlsOptions::On { clients, .. } = &config.http.server.tls else {
            return Err(Kept::UntilRestart);
        };
        let mut authorities = self.authorities.lock().unwrap_or_else(PoisonError::into_inner);
        match authorities.has_options(clients.as_ref()) {
            true => Ok(()),
            false => self.switch(&mut authorities, clients.as_ref()),
        }
    }

    fn watch(&self) -> Option<Duration> {
        Some(super::WATCH)
    }

    fn read_files(&self, files: Files) {
        let mut authorities = self.authorities.lock().unwrap_or_else(PoisonError::into_inner);
        let reloaded = match files {
            Files::All => authorities.reload(&self.tls),
            Files::Changed => authorities.reload_if_changed(&self.tls),
        };
        match reloaded {
            Ok(false) => {}
            Ok(true) => tracing::info!("new http.tls.clientcas are in force"),
            Err(error) => unusable(&error),
        }
    }
}

fn unusable(error: &CertificateError) {
    tracing::error!(
        error = %Chain(error),
        "cannot use the new http.tls.clientcas; the old ones stay in force"
    );
}
