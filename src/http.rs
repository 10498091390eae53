//! HTTP: the only room that names axum.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Deserialize;

/// What the `http` section says about requests and responses, together with the options of the
/// lists and of deletion. Keys as in registry:2's `config.yml`, but for `trustedproxies`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The address clients reach us by, with or without a scheme; used in `Location`.
    pub host: Option<String>,
    /// The path below which everything is served, such as `/registry/`.
    pub prefix: String,
    /// registry:2 signs upload sessions with this. Ours live in storage and need no signature.
    pub secret: Option<String>,
    /// Answers with relative `Location` headers.
    pub relativeurls: bool,
    /// Headers that are added to each response.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Peers whose `X-Forwarded-Proto` and `X-Forwarded-Host` are believed.
    pub trustedproxies: Vec<IpNet>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: None,
            prefix: "/".to_owned(),
            secret: None,
            relativeurls: false,
            headers: BTreeMap::new(),
            trustedproxies: vec![
                IpNet::new_assert([127, 0, 0, 0].into(), 8),
                IpNet::new_assert(std::net::Ipv6Addr::LOCALHOST.into(), 128),
            ],
        }
    }
}

/// `storage.delete`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct DeleteOptions {
    /// Whether `DELETE` of manifests, tags and blobs is allowed; otherwise 405 UNSUPPORTED.
    pub enabled: bool,
}

impl Default for DeleteOptions {
    /// As in registry:2: off, unless the configuration says so. (Without any configuration file
    /// deletion is on; `config` sees to that.)
    fn default() -> Self {
        Self { enabled: false }
    }
}

/// `catalog`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct CatalogOptions {
    /// The largest `n` that `GET /v2/_catalog` takes.
    pub maxentries: usize,
}

impl Default for CatalogOptions {
    fn default() -> Self {
        Self { maxentries: 1000 }
    }
}

/// `tags`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct TagsOptions {
    /// The largest page that `GET /v2/<name>/tags/list?n=` gives.
    pub maxtags: usize,
}

impl Default for TagsOptions {
    fn default() -> Self {
        Self { maxtags: 1000 }
    }
}
