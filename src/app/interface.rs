//! The settings of the HTTP interface that can change without a restart: response headers, and
//! read-only mode.

use std::sync::Arc;

use super::reload::{Kept, Reload};
use crate::{config::Config, http::Api};

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

/// `storage.maintenance.readonly`.
#[derive(Debug)]
pub(super) struct ReadOnly(pub(super) Arc<Api>);

impl Reload for ReadOnly {
    fn keys(&self) -> &'static [&'static str] {
        &["storage.maintenance.readonly.enabled"]
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        self.0.set_readonly(&config.storage.maintenance.readonly);
        Ok(())
    }
}
