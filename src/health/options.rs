//! The `health` section of the configuration: the checks and their intervals.

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
    /// The storage.
    pub storagedriver: StorageOptions,
    /// Files that take the server out of service while they exist.
    pub file: Vec<FileOptions>,
    /// Addresses that must answer.
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
    /// How often.
    pub interval: Duration,
    /// How many failures in a row count; 0 is 1.
    pub threshold: u32,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self { enabled: false, interval: INTERVAL, threshold: 0 }
    }
}

/// An item of `health.file`: fails while the file is there.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct FileOptions {
    /// The file.
    pub file: PathBuf,
    /// How often.
    pub interval: Duration,
    /// As for the storage.
    pub threshold: u32,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self { file: PathBuf::new(), interval: INTERVAL, threshold: 0 }
    }
}

/// An item of `health.http`: fails when `HEAD` is answered with another status, or not at all.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct HttpOptions {
    /// The address.
    pub uri: String,
    /// Headers of the request.
    pub headers: BTreeMap<String, Vec<String>>,
    /// The status that must answer the request.
    pub statuscode: NonZeroU16,
    /// How long the answer may take.
    pub timeout: Duration,
    /// How often.
    pub interval: Duration,
    /// As for the storage.
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
    /// How long the answer may take.
    pub timeout: Duration,
    /// How often.
    pub interval: Duration,
    /// As for the storage.
    pub threshold: u32,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self { addr: String::new(), timeout: TIMEOUT, interval: INTERVAL, threshold: 0 }
    }
}
