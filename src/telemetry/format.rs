//! How an event becomes a line: registry:2's two forms, which operators' tools read already.
//!
//! Text: `time="2026-01-02T03:04:05.678Z" level=info msg="listening" addr="0.0.0.0:5000"`, every
//! value that is not plain quoted and escaped, so that nothing a client sends can begin a line or
//! a field of its own. JSON: one object per line with the same fields. In both, what a terminal
//! might obey or a reader not see as it is (controls, other ends of lines, turns of direction) is
//! escaped as JSON escapes it.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use super::{
    Formatter, Options, clip,
    writer::{Lines, Rank},
};

/// Crates that speak for themselves at this level or a more severe one only: what they say at
/// others is about their insides, and may hold headers.
const FOREIGN: Level = Level::WARN;

/// Most lines are shorter than this, in bytes.
const LINE: usize = 384;

/// The most that one field of an event takes: an error may name what a client has asked for.
const FIELD: usize = 1024;

/// The most that the fields of an event take. The rest of a line is for its time and its level;
/// `log.fields` and the place in the source come on top.
const FIELDS: usize = clip::LONGEST - 256;

/// What the fields of an event may still take.
struct Room(usize);

impl Room {
    /// As much of a value as there is room for, which it takes.
    fn clipped<'a>(&mut self, name: &str, text: &'a str) -> Cow<'a, str> {
        // A quote on each side, a space or a comma before it, and what is between.
        self.take(name.len() + 6);
        let text = clip::text(text, self.0.min(FIELD));
        self.take(clip::shown(&text));
        text
    }

    const fn take(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(bytes);
    }
}

#[derive(Debug)]
pub(super) struct LineLayer {
    formatter: Formatter,
    caller: bool,
    fields: BTreeMap<String, Value>,
    lines: Lines,
}

impl LineLayer {
    pub(super) fn new(options: &Options, lines: Lines) -> Self {
        let Options { formatter, reportcaller: caller, .. } = *options;
        Self { formatter, caller, fields: options.fields.clone(), lines }
    }

    fn line(&self, event: &Event<'_>, time: jiff::Timestamp) -> String {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let time = format_args!("{time:.3}");
        // What the event says itself comes before what is added to all.
        let added =
            self.fields.iter().filter(|(name, _)| event.fields().all(|it| it.name() != *name));
        match self.formatter {
            Formatter::Json | Formatter::Logstash => {
                let mut fields = Object(Map::new());
                event.record(&mut Fields { to: &mut fields, room: Room(FIELDS) });
                added.for_each(|(name, value)| fields.set(name, value.clone()));
                if self.caller {
                    let Caller { func, file } = Caller::of(event);
                    fields.set("func", func.into());
                    fields.set("file", file.into());
                }
                fields.set("level", level.into());
                if self.formatter == Formatter::Json {
                    fields.set("time", time.to_string().into());
                } else {
                    fields.set("@timestamp", time.to_string().into());
                    fields.set("@version", "1".into());
                    let message = fields.0.remove("msg").unwrap_or_default();
                    fields.set("message", message);
                }
                format!("{}\n", Value::Object(fields.0))
            }
            Formatter::Text => {
                let mut fields = Text(String::with_capacity(LINE));
                // Writing to a string does not fail.
                let _ = write!(fields.0, "time=\"{time}\" level={level}");
                if self.caller {
                    let Caller { func, file } = Caller::of(event);
                    fields.set_text("func", func);
                    fields.set_text("file", &file);
                }
                event.record(&mut Fields { to: &mut fields, room: Room(FIELDS) });
                added.for_each(|(name, value)| match value {
                    Value::String(text) => fields.set_text(name, text),
                    value => fields.set(name, value.clone()),
                });
                fields.0.push('\n');
                fields.0
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for LineLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let ours = metadata.target() == "access" || metadata.target().starts_with("portcullis");
        if !ours && *metadata.level() > FOREIGN {
            return;
        }
        let line = self.line(event, jiff::Timestamp::now());
        let rank = if *metadata.level() <= Level::WARN { Rank::Urgent } else { Rank::Usual };
        self.lines.leave(&visible(line), rank);
    }
}

/// Where in the source an event is.
struct Caller {
    func: &'static str,
    file: String,
}

impl Caller {
    fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let file = metadata.file().unwrap_or_default();
        let line = metadata.line().unwrap_or(0);
        Self { func: metadata.module_path().unwrap_or_default(), file: format!("{file}:{line}") }
    }
}

/// A line in which every character shows as what it is. Those that do not stand in strings only,
/// and both forms write strings as JSON does.
pub(super) fn visible(line: String) -> String {
    // Nearly all are; what ASCII has of the kind is escaped already.
    if line.is_ascii() {
        return line;
    }
    let mut shown = String::with_capacity(line.len());
    for character in line.chars() {
        if is_visible(character) {
            shown.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    }
    shown
}

/// Whether a character shows as what it is; controls of ASCII are escaped before this is asked.
pub(super) fn is_visible(character: char) -> bool {
    character.is_ascii() || character.escape_debug().count() == 1
}

/// The name of the message, which is the first of an event's fields.
fn name(field: &Field) -> &'static str {
    match field.name() {
        "message" => "msg",
        name => name,
    }
}

/// Where the fields of an event go, as far as there is room.
struct Fields<'a, T> {
    to: &'a mut T,
    room: Room,
}

impl<T: Form> Visit for Fields<'_, T> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.to.set_text(name(field), &self.room.clipped(name(field), &text));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.to.set_text(name(field), &self.room.clipped(name(field), value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.to.set(name(field), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.to.set(name(field), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.to.set(name(field), value.into());
    }
}

/// One of the forms that a line has.
trait Form {
    fn set_text(&mut self, name: &str, text: &str);
    fn set(&mut self, name: &str, value: Value);
}

/// Fields as `name=value`, each behind a space.
struct Text(String);

impl Form for Text {
    /// Quotes the message always, and other texts where they must be.
    fn set_text(&mut self, name: &str, text: &str) {
        if name == "msg" || !is_plain(text) {
            self.set(name, text.into());
        } else {
            let _ = write!(self.0, " {name}={text}");
        }
    }

    fn set(&mut self, name: &str, value: Value) {
        let _ = write!(self.0, " {name}={value}");
    }
}

fn is_plain(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'/' | b'@');
    !text.is_empty() && text.bytes().all(plain)
}

/// Fields of a JSON object.
struct Object(Map<String, Value>);

impl Form for Object {
    fn set_text(&mut self, name: &str, text: &str) {
        self.set(name, text.into());
    }

    fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
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
            let line = self.0.line(event, jiff::Timestamp::UNIX_EPOCH);
            self.1.lock().unwrap().push(visible(line));
        }
    }

    fn lines(formatter: Formatter, log: impl FnOnce()) -> Vec<String> {
        let fields = BTreeMap::from([("service".to_owned(), Value::from("registry"))]);
        kept(&Options { formatter, fields, ..Options::default() }, log)
    }

    fn kept(options: &Options, log: impl FnOnce()) -> Vec<String> {
        let layer = LineLayer::new(options, Lines::default());
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
            ["time=\"1970-01-01T00:00:00.000Z\" level=warning msg=\"said \\\"hello\\\"\" \
              nasty=\"a\\\" level=error\\nmsg=\\\"b\" tag=v1.0 n=3 service=registry\n"]
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

    #[test]
    fn what_a_client_has_named_is_cut_and_the_message_is_not() {
        let long = "\u{202e}".repeat(4000);
        for formatter in [Formatter::Text, Formatter::Json, Formatter::Logstash] {
            let log = || tracing::warn!(user = long, error = %long, last = long, "hello");
            let line = lines(formatter, log).remove(0);
            assert!(line.len() <= clip::LONGEST, "{} bytes: {line}", line.len());
            assert!(line.contains("hello") && line.matches("...[12000]").count() == 3, "{line}");
            assert!(line.matches("\\u202e").count() > 200, "{line}");
            let log = || tracing::error!(error = "x".repeat(1024), "hello");
            let line = lines(formatter, log).remove(0);
            assert!(line.contains(&"x".repeat(1024)), "{line}");
        }
    }

    #[test]
    fn logstash_has_names_of_its_own() {
        let line = lines(Formatter::Logstash, || tracing::info!(n = 3, "hello")).remove(0);
        let json: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "@timestamp": "1970-01-01T00:00:00.000Z", "@version": "1", "level": "info",
                "message": "hello", "n": 3, "service": "registry",
            })
        );
    }

    #[test]
    fn whoever_asks_is_told_where_a_line_comes_from() {
        let options = Options { reportcaller: true, ..Options::default() };
        let text = kept(&options, || tracing::info!("x")).remove(0);
        assert!(text.contains("func=") && text.contains("format.rs:"), "{text}");
        let options = Options { formatter: Formatter::Json, ..options };
        let line = kept(&options, || tracing::info!("x")).remove(0);
        let json: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["func"], module_path!());
        assert!(json["file"].as_str().unwrap().starts_with(file!()), "{json}");
    }

    #[test]
    fn what_does_not_show_as_it_is_is_escaped() {
        let nasty = "\u{9b}31m\u{85}\u{2028}\u{202e}\u{200b}\u{e0041}é漢\u{7f}";
        for formatter in [Formatter::Text, Formatter::Json] {
            let line = lines(formatter, || tracing::info!(nasty, "x")).remove(0);
            let escaped = "\\u009b31m\\u0085\\u2028\\u202e\\u200b\\udb40\\udc41é漢";
            assert!(line.contains(escaped), "{line}");
            if formatter == Formatter::Json {
                let json: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(json["nasty"], nasty);
            }
        }
    }
}
