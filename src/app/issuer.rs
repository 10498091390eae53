//! The keys of the external issuer (`auth.token`), and their reload.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    StartError,
    reload::{Files, Kept, Reload},
};
use crate::{
    config::Config,
    gate::{
        Issuer, IssuerOptions,
        issuer::{TrustError, TrustFiles},
    },
};

/// A changed file is in force within a second, as a changed password file is.
const WATCH: Duration = Duration::from_millis(400);

/// The files of the issuer's keys.
#[derive(Debug)]
pub(super) struct IssuerKeys {
    issuer: Arc<Issuer>,
    files: Mutex<TrustFiles>,
}

impl IssuerKeys {
    /// Reads the keys.
    ///
    /// # Errors
    ///
    /// When a file cannot be used.
    pub(super) fn open(options: &IssuerOptions) -> Result<Self, StartError> {
        let (files, trust) = TrustFiles::open(options.clone())?;
        tracing::info!(
            issuer = options.issuer,
            service = options.service,
            keys = trust.len(),
            "tokens of an external issuer let callers in (auth.token)"
        );
        let issuer = Arc::new(Issuer::new(options.clone(), trust));
        Ok(Self { issuer, files: Mutex::new(files) })
    }

    pub(super) const fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }
}

impl Reload for IssuerKeys {
    fn keys(&self) -> &'static [&'static str] {
        &[]
    }

    fn apply(&self, _: &Config) -> Result<(), Kept> {
        Ok(())
    }

    fn watch(&self) -> Option<Duration> {
        Some(WATCH)
    }

    fn read_files(&self, files: Files) {
        let mut keys = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.reload(files == Files::All) {
            Ok(None) => {}
            Ok(Some(trust)) => {
                tracing::info!(keys = trust.len(), "the keys of auth.token are in force");
                self.issuer.set_trust(trust);
            }
            Err(error) => unusable(&error),
        }
    }
}

fn unusable(error: &TrustError) {
    tracing::error!(%error, "cannot use the new keys of auth.token; the old ones stay in force");
}
