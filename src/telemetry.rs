//! What the operator sees: the log.

use std::collections::BTreeMap;

use serde::Deserialize;

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
