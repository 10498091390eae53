//! How an event becomes a line: registry:2's two forms, which operators' tools read already.
//!
//! Text: `time="2026-01-02T03:04:05.678Z" level=info msg="listening" addr="0.0.0.0:5000"`, every
//! value that is not plain quoted and escaped, so that nothing a client sends can begin a line or
//! a field of its own. JSON: one object per line with the same fields.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    io::Write as _,
};

use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use super::{Formatter, Options};

/// Crates that speak for themselves at this level or a more severe one only: what they say at
/// others is about their insides, and may hold headers.
const FOREIGN: Level = Level::WARN;

#[derive(Debug)]
pub(super) struct LineLayer {
    formatter: Formatter,
    fields: BTreeMap<String, Value>,
}

impl LineLayer {
    pub(super) fn new(options: &Options) -> Self {
        Self { formatter: options.formatter, fields: options.fields.clone() }
    }

    fn line(&self, event: &Event<'_>, time: jiff::Timestamp) -> String {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { message, mut fields } = fields;
        for (name, value) in &self.fields {
            fields.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let time = time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        match self.formatter {
            Formatter::Json => {
                fields.insert("time".to_owned(), time.into());
                fields.insert("level".to_owned(), level.into());
                fields.insert("msg".to_owned(), message.into());
                format!("{}\n", Value::Object(fields))
            }
            Formatter::Text => {
                let message = Value::String(message);
                let mut line = format!("time=\"{time}\" level={level} msg={message}");
                for (name, value) in &fields {
                    // Writing to a string does not fail.
                    let _ = match value {
                        Value::String(text) if is_plain(text) => write!(line, " {name}={text}"),
                        value => write!(line, " {name}={value}"),
                    };
                }
                line.push('\n');
                line
            }
        }
    }
}

fn is_plain(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'/' | b'@');
    !text.is_empty() && text.bytes().all(plain)
}

impl<S: Subscriber> Layer<S> for LineLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let ours = metadata.target() == "access" || metadata.target().starts_with("portcullis");
        if !ours && *metadata.level() > FOREIGN {
            return;
        }
        let line = self.line(event, jiff::Timestamp::now());
        // There is nowhere to say that the log cannot be written.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    fields: Map<String, Value>,
}

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            _ => self.set(field, text.into()),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Keeps lines instead of writing them.
    struct Kept(LineLayer, Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.1.lock().unwrap().push(self.0.line(event, jiff::Timestamp::UNIX_EPOCH));
        }
    }

    fn lines(formatter: Formatter, log: impl FnOnce()) -> Vec<String> {
        let fields = BTreeMap::from([("service".to_owned(), Value::from("registry"))]);
        let layer = LineLayer::new(&Options { formatter, fields, ..Options::default() });
        let kept = Arc::default();
        let subscriber = tracing_subscriber::registry().with(Kept(layer, Arc::clone(&kept)));
        tracing::subscriber::with_default(subscriber, log);
        let lines = kept.lock().unwrap();
        lines.clone()
    }

    #[test]
    fn a_value_from_outside_cannot_begin_a_line_or_a_field() {
        let nasty = "a\" level=error\nmsg=\"b";
        let log = || tracing::warn!(nasty, tag = "v1.0", n = 3, "said \"hello\"");
        assert_eq!(
            lines(Formatter::Text, log),
            ["time=\"1970-01-01T00:00:00.000Z\" level=warning msg=\"said \\\"hello\\\"\" n=3 \
              nasty=\"a\\\" level=error\\nmsg=\\\"b\" service=registry tag=v1.0\n"]
        );
        let json: Value = serde_json::from_str(&lines(Formatter::Json, log)[0]).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "time": "1970-01-01T00:00:00.000Z", "level": "warning", "msg": "said \"hello\"",
                "nasty": nasty, "n": 3, "service": "registry", "tag": "v1.0",
            })
        );
    }
}
