//! The settings of the HTTP interface that can change without a restart: response headers, the addresses and
//! the rates of clients, the largest blob, and read-only mode.

use std::sync::Arc;

use super::{
    reload::{Kept, Reload},
    storage,
};
use crate::{chain::Chain, config::Config, http::Api};

/// `http.headers`.
#[derive(Debug)]
pub(super) struct ResponseHeaders(pub(super) Arc<Api>);

impl Reload for ResponseHeaders {
    fn keys(&self) -> &'static [&'static str] {
        &["http.headers"]
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        self.0.set_headers(&config.http.api).map_err(|error| {
            tracing::error!(%error, "cannot use the new http.headers; the old ones stay in force");
            Kept::Unusable
        })
    }
}

/// `http.limits.blob`.
#[derive(Debug)]
pub(super) struct LargestBlob(pub(super) Arc<Api>);

impl Reload for LargestBlob {
    fn keys(&self) -> &'static [&'static str] {
        &["http.limits.blob"]
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        self.0.set_blob_limit(&config.http.api);
        Ok(())
    }
}

/// `http.clients`.
#[derive(Debug)]
pub(super) struct AddressesOfClients(pub(super) Arc<Api>);

impl Reload for AddressesOfClients {
    fn keys(&self) -> &'static [&'static str] {
        &["http.clients"]
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        self.0.set_clients(&config.http.api.clients);
        Ok(())
    }
}

/// `http.limits`, but for the connections, whose places are given out at the start.
#[derive(Debug)]
pub(super) struct Rates(pub(super) Arc<Api>);

impl Reload for Rates {
    fn keys(&self) -> &'static [&'static str] {
        &[
            "http.limits.requests",
            "http.limits.burst",
            "http.limits.delay",
            "http.limits.download",
            "http.limits.upload",
        ]
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        self.0.set_limits(&config.http.api.limits);
        Ok(())
    }
}

/// `storage.maintenance.readonly`.
#[derive(Debug)]
pub(super) struct ReadOnly {
    pub(super) api: Arc<Api>,
    /// The storage that the server has opened.
    pub(super) backend: crate::storage::Options,
}

impl Reload for ReadOnly {
    fn keys(&self) -> &'static [&'static str] {
        &["storage.maintenance.readonly.enabled"]
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        let new = &config.storage.maintenance.readonly;
        if self.api.is_readonly() && !new.enabled {
            storage::check_writable(&self.backend).map_err(|error| {
                tracing::error!(error = %Chain(&error), "the registry stays read-only");
                Kept::Unusable
            })?;
        }
        self.api.set_readonly(new);
        Ok(())
    }
}
