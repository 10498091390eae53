//! What the operator sees: the log, on standard error, one line per event; the access log, on
//! standard output, one line per request; and the metrics.

pub mod access;
mod clip;
mod format;
pub mod histogram;
pub mod metrics;
pub mod operations;
pub mod process;
pub mod requests;
mod threshold;
mod writer;

use std::{collections::BTreeMap, io};

use serde::Deserialize;
use tracing_subscriber::{Registry, layer::SubscriberExt as _};

use self::{
    format::LineLayer,
    threshold::Threshold,
    writer::{LeftOut, Lines, Writer},
};

/// `log`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The access log.
    pub accesslog: AccessLogOptions,
    /// The least severe level that is written.
    pub level: Level,
    /// How a line looks.
    pub formatter: Formatter,
    /// Says in each line where in the source it comes from.
    pub reportcaller: bool,
    /// Fields that are added to each line.
    pub fields: BTreeMap<String, serde_json::Value>,
}

/// Starts to write the log as the options say, until it is dropped. Before this nothing is written.
///
/// # Errors
///
/// When the process has a log already, or can have no more threads.
pub fn init(options: &Options) -> Result<Log, InitError> {
    let threshold = Threshold::new(options.level);
    let lines = Lines::default();
    let layer = LineLayer::new(options, lines.clone());
    let subscriber = Registry::default().with(threshold.clone()).with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| InitError::AlreadyStarted)?;
    let report = |LeftOut { lines, .. }| {
        tracing::warn!(lines, "the log grows faster than it can be written: left out");
    };
    let _writer = lines.write_to(io::stderr(), report)?;
    Ok(Log { threshold, _access: access::init(&options.accesslog)?, _writer })
}

/// The log of this process.
#[derive(Debug)]
pub struct Log {
    threshold: Threshold,
    _access: Option<Writer>,
    _writer: Writer,
}

impl Log {
    /// From now on, writes what is at least of this level.
    pub fn set_level(&self, level: Level) {
        self.threshold.set(level);
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The process has one already.
    #[error("the log was started already")]
    AlreadyStarted,
    /// There is no thread to write it.
    #[error("the log cannot have a thread")]
    NoThread(#[from] io::Error),
}

/// `log.accesslog`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AccessLogOptions {
    /// Writes no line per request.
    pub disabled: bool,
    /// How a line looks.
    pub formatter: AccessFormatter,
}

/// `log.accesslog.formatter`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AccessFormatter {
    /// The combined log format, with more behind it.
    #[default]
    Combined,
    /// One JSON object per line.
    Json,
}

/// `log.level`, in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Only what needs a person.
    Error,
    /// What may need one soon.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// Why it happened.
    Debug,
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        match word.to_ascii_lowercase().as_str() {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            _ => Err(serde::de::Error::custom(format!(
                "expected error, warn, info or debug, not `{word}`"
            ))),
        }
    }
}

/// `log.formatter`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Formatter {
    /// `time="…" level=info msg="…" key=value`
    #[default]
    Text,
    /// One JSON object per line.
    Json,
    /// The same with the names that Logstash gives time and message.
    Logstash,
}
