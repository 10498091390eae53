//! `access.quotas`, and their reload.

use super::reload::{Kept, Reload};
use crate::{config::Config, registry::Registry};

/// The quotas of a registry.
#[derive(Debug)]
pub(super) struct QuotasOf(pub(super) Registry);

impl Reload for QuotasOf {
    fn keys(&self) -> &'static [&'static str] {
        &["access.quotas"]
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        self.0.set_quotas(config.quotas.clone());
        Ok(())
    }
}
