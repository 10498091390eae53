//! What the operator sees: the log, on standard error, one line per event; and the metrics.

mod format;
pub mod metrics;
mod writer;

use std::{collections::BTreeMap, io};

use serde::Deserialize;
use tracing_subscriber::{Registry, filter::LevelFilter, layer::SubscriberExt as _};

use self::{format::LineLayer, writer::Lines};

pub use self::writer::Writer;

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
    /// Fields that are added to each line.
    pub fields: BTreeMap<String, serde_json::Value>,
}

/// Starts to write the log as the options say, until the writer is dropped. Before this nothing is
/// written.
///
/// # Errors
///
/// When the process has a log already, or can have no more threads.
pub fn init(options: &Options) -> Result<Writer, InitError> {
    let level = match options.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let lines = Lines::default();
    let layer = LineLayer::new(options, lines.clone());
    let subscriber = Registry::default().with(level).with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| InitError::AlreadyStarted)?;
    let report =
        |lines| tracing::warn!(lines, "the log grows faster than it can be written: left out");
    Ok(lines.write_to(io::stderr(), report)?)
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
}
