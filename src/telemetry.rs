//! The log, on standard error, one line per event; the access log, on standard output, one line per
//! request; and the metrics.

pub mod access;
mod clip;
mod format;
pub mod histogram;
pub mod metrics;
pub mod operations;
pub mod process;
pub mod requests;
mod terminal;
mod threshold;
mod writer;

use std::{collections::BTreeMap, io};

use serde::Deserialize;
use tracing_subscriber::{Registry, layer::SubscriberExt as _};

use self::{
    format::LineLayer,
    terminal::Terminal,
    threshold::Threshold,
    writer::{Dropped, Lines, Writer},
};

/// `log`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The access log.
    pub accesslog: AccessLogOptions,
    /// The least severe level that is written.
    pub level: Level,
    /// The form of a line.
    pub formatter: Formatter,
    /// Adds to each line the place in the source that logged it.
    pub reportcaller: bool,
    /// Fields that are added to each line.
    pub fields: BTreeMap<String, serde_json::Value>,
}

/// Starts the log and the access log by the options, until the returned [`Log`] is dropped. Earlier
/// events are not written.
///
/// # Errors
///
/// When the process has a log already, or a thread cannot be started.
pub fn init(options: &Options) -> Result<Log, InitError> {
    let threshold = Threshold::new(options.level);
    let lines = Lines::default();
    let layer = LineLayer::new(options, Terminal::of_standard_error(), lines.clone());
    let subscriber = Registry::default().with(threshold.clone()).with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| InitError::AlreadyStarted)?;
    let report = |Dropped { lines, .. }| {
        tracing::warn!(lines, "the log is written faster than it is read; lines dropped");
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
    /// From now on, writes the events of this level and of more severe ones.
    pub fn set_level(&self, level: Level) {
        self.threshold.set(level);
    }
}

/// Why the log cannot start.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The process has a log already.
    #[error("the log was started already")]
    AlreadyStarted,
    /// The thread that writes the log cannot be started.
    #[error("cannot start a thread for the log")]
    NoThread(#[from] io::Error),
}

/// `log.accesslog`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AccessLogOptions {
    /// Disables the access log.
    pub disabled: bool,
    /// The form of a line.
    pub formatter: AccessFormatter,
}

/// `log.accesslog.formatter`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AccessFormatter {
    /// Apache's combined log format, followed by further fields.
    #[default]
    Combined,
    /// One JSON object per line.
    Json,
}

/// `log.level`, in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Events that need an operator.
    Error,
    /// Events that may need one soon.
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
    /// `time="…" level=info msg="…" key=value`; shorter on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
    /// As [`Json`](Self::Json), with Logstash's names of time and message.
    Logstash,
}
