//! The options of the health checks: section `health` of the configuration.

use std::{collections::BTreeMap, num::NonZeroU16, path::PathBuf, time::Duration};

use serde::Deserialize;

/// The default interval of a check.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

/// The default timeout of a check.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// `health`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The check of the storage.
    pub storagedriver: StorageOptions,
    /// Files that take the server out of service while they exist.
    pub file: Vec<FileOptions>,
    /// URLs that must respond.
    pub http: Vec<HttpOptions>,
    /// Addresses that must accept a connection.
    pub tcp: Vec<TcpOptions>,
}

/// `health.storagedriver`: fails when the storage cannot be read.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct StorageOptions {
    /// Whether the storage is checked.
    pub enabled: bool,
    /// The time between two runs; zero means the default.
    pub interval: Duration,
    /// The number of failures in a row that make the server unhealthy; 0 means 1.
    pub threshold: u32,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self { enabled: false, interval: INTERVAL, threshold: 0 }
    }
}

/// An item of `health.file`: fails while the file exists.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct FileOptions {
    /// The file.
    pub file: PathBuf,
    /// See [`StorageOptions::interval`].
    pub interval: Duration,
    /// See [`StorageOptions::threshold`].
    pub threshold: u32,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self { file: PathBuf::new(), interval: INTERVAL, threshold: 0 }
    }
}

/// An item of `health.http`: fails when `HEAD` gets another status, or no response.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct HttpOptions {
    /// The URL.
    pub uri: String,
    /// Headers of the request.
    pub headers: BTreeMap<String, Vec<String>>,
    /// The expected status.
    pub statuscode: NonZeroU16,
    /// How long the response may take; zero means the default.
    pub timeout: Duration,
    /// See [`StorageOptions::interval`].
    pub interval: Duration,
    /// See [`StorageOptions::threshold`].
    pub threshold: u32,
}

impl Default for HttpOptions {
    fn default() -> Self {
        const OK: NonZeroU16 = NonZeroU16::MIN.saturating_add(199);
        Self {
            uri: String::new(),
            headers: BTreeMap::new(),
            statuscode: OK,
            timeout: TIMEOUT,
            interval: INTERVAL,
            threshold: 0,
        }
    }
}

/// An item of `health.tcp`: fails when no process accepts a connection there.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct TcpOptions {
    /// `host:port`.
    pub addr: String,
    /// How long connecting may take; zero means the default.
    pub timeout: Duration,
    /// See [`StorageOptions::interval`].
    pub interval: Duration,
    /// See [`StorageOptions::threshold`].
    pub threshold: u32,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self { addr: String::new(), timeout: TIMEOUT, interval: INTERVAL, threshold: 0 }
    }
}
