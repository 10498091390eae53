//! What the configuration says about requests and responses. Keys as in registry:2's `config.yml`.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{Error, debug::DebugOptions, proxies::Proxy};
use crate::{oci::ErrorCode, registry::UploadLimits};

/// Why the interface cannot be as the options say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOptions {
    /// A name or a value that cannot stand in a header.
    #[error("http.headers: `{0}` or one of its values cannot be sent as a header")]
    Header(String),
    /// Not a host.
    #[error("http.host: `{0}` is not a host name with an optional scheme and port")]
    Host(String),
    /// No time at all.
    #[error("http.idletimeout: no client can answer within no time; leave it out for a minute")]
    IdleTimeout,
}

/// What the `http` section says about requests and responses, together with the options of the
/// lists and of deletion. Keys as in registry:2's `config.yml`, but for `trustedproxies`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The address clients reach us by, with or without a scheme; used in `Location`.
    pub host: Option<String>,
    /// The path below which everything is served, such as `/registry/`.
    pub prefix: String,
    /// registry:2 signs upload sessions with this. Ours live in storage and need no signature, so
    /// the secret is not even kept.
    pub secret: Option<serde::de::IgnoredAny>,
    /// Answers with relative `Location` headers.
    pub relativeurls: bool,
    /// Headers that are added to each response.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Peers whose `X-Forwarded-Proto`, `X-Forwarded-Host`, `X-Forwarded-For`, `X-Real-IP` and
    /// `Forwarded` are believed. None, unless the configuration says so: behind a proxy that passes
    /// headers through, a client would choose the address that wrong passwords are counted by.
    pub trustedproxies: Vec<Proxy>,
    /// How long the client may send nothing of a body it announced.
    pub idletimeout: Duration,
    /// The debug listener.
    pub debug: DebugOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: None,
            prefix: "/".to_owned(),
            secret: None,
            relativeurls: false,
            headers: BTreeMap::new(),
            trustedproxies: Vec::new(),
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
    /// Which blobs may go. Ours.
    pub blobs: DeletableBlobs,
}

impl DeleteOptions {
    /// Refuses a deletion unless the configuration allows it.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.enabled {
            return Ok(());
        }
        let why = "deletion is off; storage.delete.enabled: true allows it";
        Err(Error::refused(ErrorCode::Unsupported).because(why))
    }
}

impl Default for DeleteOptions {
    /// As in registry:2: off, unless the configuration says so. (Without any configuration file
    /// deletion is on; `config` sees to that.)
    fn default() -> Self {
        Self { enabled: false, blobs: DeletableBlobs::default() }
    }
}

/// `storage.delete.blobs`: which blobs may be deleted.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DeletableBlobs {
    /// Those that no manifest of the repository needs; for others it is 409 DENIED.
    #[default]
    Unneeded,
    /// All, as in registry:2. An image without one of its blobs can no longer be pulled.
    Force,
}

/// `storage.maintenance.readonly`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReadOnlyOptions {
    /// Answers what writes with 405 UNSUPPORTED.
    pub enabled: bool,
}

/// `uploads`, which registry:2 does not have. A blob that comes in one request is an upload too.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct UploadsOptions {
    /// How many uploads a user may have open at a time; what was begun an hour ago does not count.
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
