//! The configuration: registry:2's YAML file, the `REGISTRY_*` variables over it, defaults below.

use crate::{gate, http, server, storage, telemetry};

/// Everything that can be told to the server.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `log`
    pub log: telemetry::Options,
    /// `storage`
    pub storage: Storage,
    /// `auth`
    pub auth: gate::Options,
    /// `http`
    pub http: Http,
    /// `catalog`
    pub catalog: http::CatalogOptions,
    /// `tags`
    pub tags: http::TagsOptions,
    /// warnings
    pub warnings: Vec<String>,
}

/// `storage`
#[derive(Clone, Debug, Default)]
pub struct Storage {
    /// The driver.
    pub backend: storage::Options,
    /// `storage.delete`
    pub delete: http::DeleteOptions,
}

/// `http`
#[derive(Clone, Debug, Default)]
pub struct Http {
    /// What is about sockets.
    pub server: server::Options,
    /// What is about requests and responses.
    pub api: http::Options,
}

impl Config {
    /// stub
    pub fn load(
        _: Option<&std::path::Path>,
        _: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, std::io::Error> {
        let mut c = Self::default();
        c.storage.delete.enabled = true;
        Ok(c)
    }
}
