//! The options of requests and responses. Keys as in registry:2's `config.yml`.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{AllowedHost, Error, LimitsOptions, debug::DebugOptions};
use crate::{
    network::{ClientsOptions, Proxy},
    oci::ErrorCode,
    registry::UploadLimits,
};

/// An invalid option.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOptions {
    /// A malformed name or value of a header.
    #[error("http.headers: `{0}` or one of its values cannot be sent as a header")]
    Header(String),
    /// A malformed host.
    #[error("http.host: `{0}` is not a host name with an optional scheme and port")]
    Host(String),
    /// An idle timeout of zero.
    #[error("http.idletimeout: must be more than zero; leave it out for one minute")]
    IdleTimeout,
}

/// The keys of section `http` for requests and responses. `hosts`, `allowedhosts`, `trustedproxies`,
/// `clients`, `idletimeout` and `limits` are ours; the others are registry:2's.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The host by which clients reach the registry, with or without a scheme and a port; used in
    /// `Location`.
    pub host: Option<String>,
    /// Further hosts by which clients reach the registry, names or addresses without a port: the
    /// built-in certificate is for them, too. Ours.
    pub hosts: Vec<String>,
    /// The hosts that requests may name, beside `host`; empty: any host. Ours.
    pub allowedhosts: Vec<AllowedHost>,
    /// The path below which the registry is served, such as `/registry/`.
    pub prefix: String,
    /// registry:2 signs upload sessions with this. Our sessions are in storage and need no signature,
    /// so the secret is discarded.
    pub secret: Option<serde::de::IgnoredAny>,
    /// Sends relative `Location` headers.
    pub relativeurls: bool,
    /// Headers that are added to each response.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Peers whose `X-Forwarded-Proto`, `X-Forwarded-Host`, `X-Forwarded-For`, `X-Real-IP` and
    /// `Forwarded` are trusted. By default no peer is: behind a proxy that passes these headers
    /// through, a client could choose the address under which its wrong passwords are counted.
    pub trustedproxies: Vec<Proxy>,
    /// The addresses that may use the registry. Ours.
    pub clients: ClientsOptions,
    /// What a caller may use: requests and bytes in a time, connections. Ours.
    pub limits: LimitsOptions,
    /// The idle timeout: here, how long the body of a request may make no progress. A connection has
    /// the same (`server::Options`).
    pub idletimeout: Duration,
    /// The debug listener.
    pub debug: DebugOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: None,
            hosts: Vec::new(),
            allowedhosts: Vec::new(),
            prefix: "/".to_owned(),
            secret: None,
            relativeurls: false,
            headers: BTreeMap::new(),
            trustedproxies: Vec::new(),
            clients: ClientsOptions::default(),
            limits: LimitsOptions::default(),
            idletimeout: Duration::from_secs(60),
            debug: DebugOptions::default(),
        }
    }
}

/// `storage.delete`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct DeleteOptions {
    /// Whether `DELETE` of manifests, tags and blobs is allowed; otherwise 405 UNSUPPORTED.
    pub enabled: bool,
    /// Which blobs may be deleted. Ours.
    pub blobs: DeletableBlobs,
}

impl DeleteOptions {
    /// Refuses a deletion unless deletions are enabled.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.enabled {
            return Ok(());
        }
        let why = "deletion is off; storage.delete.enabled: true allows it";
        Err(Error::refused(ErrorCode::Unsupported).because(why))
    }
}

impl Default for DeleteOptions {
    /// As in registry:2: disabled. (Without a configuration file deletions are enabled; `config` sets
    /// that.)
    fn default() -> Self {
        Self { enabled: false, blobs: DeletableBlobs::default() }
    }
}

/// `storage.delete.blobs`: which blobs may be deleted.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DeletableBlobs {
    /// Blobs that no manifest of the repository references; for others the response is 409 DENIED.
    #[default]
    Unneeded,
    /// All blobs, as in registry:2. An image without one of its blobs can no longer be pulled.
    Force,
}

/// `storage.maintenance.readonly`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReadOnlyOptions {
    /// Refuses writes with 405 UNSUPPORTED.
    pub enabled: bool,
}

/// `uploads`, which registry:2 does not have. A blob pushed in one request is an upload, too.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct UploadsOptions {
    /// How many uploads a user may have open at a time. An upload that began an hour ago does not
    /// count.
    pub maxopen: usize,
    /// How many uploads a user may begin within an hour without finishing them.
    pub maxperhour: usize,
}

impl Default for UploadsOptions {
    fn default() -> Self {
        let UploadLimits { open, per_hour } = UploadLimits::default();
        Self { maxopen: open, maxperhour: per_hour }
    }
}

/// `catalog`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct CatalogOptions {
    /// The largest `n` that `GET /v2/_catalog` accepts.
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
    /// The largest page of `GET /v2/<name>/tags/list?n=`.
    pub maxtags: usize,
}

impl Default for TagsOptions {
    fn default() -> Self {
        Self { maxtags: 1000 }
    }
}
