//! The forms of a line in the log: registry:2's, which operators' tools read already.
//!
//! Text: `time="2026-01-02T03:04:05.678Z" level=info msg="listening" addr="0.0.0.0:5000"`. A value
//! with special characters is quoted and escaped, so that no text of a client can begin a line or a
//! field. JSON: one object per line with the same fields. Both escape, as JSON does, characters that a
//! terminal would interpret or that a reader would not see (control characters, line separators,
//! changes of direction).

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
    terminal::Terminal,
    writer::{Lines, Rank},
};

/// The least severe level of other crates that is written: their less severe events are about their
/// internals, and may have headers.
const OTHER_CRATES: Level = Level::WARN;

/// The capacity of a line in bytes: most lines are shorter.
const CAPACITY: usize = 384;

/// The most bytes of one field of an event: an error may repeat text of a client.
const MAX_FIELD: usize = 1024;

/// The most bytes of all fields of an event. The rest of a line is for its time and its level;
/// `log.fields` and the place in the source come on top.
const MAX_FIELDS: usize = clip::MAX_LINE - 256;

/// The bytes that are left for the fields of an event.
struct Room(usize);

impl Room {
    /// Truncates a value to the room that is left, and takes that room.
    fn clipped<'a>(&mut self, name: &str, text: &'a str) -> Cow<'a, str> {
        // The quotes, the space or comma before the field, and the separator.
        self.take(name.len() + 6);
        let text = clip::text(text, self.0.min(MAX_FIELD));
        self.take(clip::text_width(&text));
        text
    }

    const fn take(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(bytes);
    }
}

/// Writes each event as a line.
#[derive(Debug)]
pub(super) struct LineLayer {
    formatter: Formatter,
    /// Where lines of text go to a terminal.
    terminal: Option<Terminal>,
    caller: bool,
    fields: BTreeMap<String, Value>,
    lines: Lines,
}

impl LineLayer {
    pub(super) fn new(options: &Options, terminal: Option<Terminal>, lines: Lines) -> Self {
        let Options { formatter, reportcaller: caller, .. } = *options;
        Self { formatter, terminal, caller, fields: options.fields.clone(), lines }
    }

    /// The line on a terminal: without `log.fields`, which are for the reader of several logs.
    fn on_terminal(&self, terminal: Terminal, event: &Event<'_>, time: jiff::Timestamp) -> String {
        let mut line = terminal.line(*event.metadata().level(), time);
        event.record(&mut Fields { to: &mut line, room: Room(MAX_FIELDS) });
        if self.caller {
            line.set_text("file", &Caller::of(event).file);
        }
        line.finish()
    }

    fn line(&self, event: &Event<'_>, time: jiff::Timestamp) -> String {
        if let (Formatter::Text, Some(terminal)) = (self.formatter, self.terminal) {
            return self.on_terminal(terminal, event, time);
        }
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let time = format_args!("{time:.3}");
        // A field of the event replaces one of `log.fields`.
        let added =
            self.fields.iter().filter(|(name, _)| event.fields().all(|it| it.name() != *name));
        match self.formatter {
            Formatter::Json | Formatter::Logstash => {
                let mut fields = Object(Map::new());
                event.record(&mut Fields { to: &mut fields, room: Room(MAX_FIELDS) });
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
                let mut fields = Text(String::with_capacity(CAPACITY));
                // Writing to a string does not fail.
                let _ = write!(fields.0, "time=\"{time}\" level={level}");
                if self.caller {
                    let Caller { func, file } = Caller::of(event);
                    fields.set_text("func", func);
                    fields.set_text("file", &file);
                }
                event.record(&mut Fields { to: &mut fields, room: Room(MAX_FIELDS) });
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
        if !ours && *metadata.level() > OTHER_CRATES {
            return;
        }
        let line = self.line(event, jiff::Timestamp::now());
        let rank = if *metadata.level() <= Level::WARN { Rank::Urgent } else { Rank::Usual };
        self.lines.push(&visible(line), rank);
    }
}

/// The place of an event in the source.
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

/// Escapes the invisible characters of a line. They occur in strings only, which both forms write as
/// JSON does.
pub(super) fn visible(line: String) -> String {
    // Nearly all lines are ASCII, whose control characters are escaped already.
    if line.is_ascii() {
        return line;
    }
    let mut escaped = String::with_capacity(line.len());
    for character in line.chars() {
        if is_visible(character) {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}

/// Whether a terminal displays a character as it is. The control characters of ASCII must be escaped
/// before this check.
pub(super) fn is_visible(character: char) -> bool {
    character.is_ascii() || character.escape_debug().count() == 1
}

/// The name of a field in a line: tracing's `message` is registry:2's `msg`.
fn name(field: &Field) -> &'static str {
    match field.name() {
        "message" => "msg",
        name => name,
    }
}

/// Records the fields of an event in a form, truncated to the room.
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

/// A form of lines.
pub(super) trait Form {
    fn set_text(&mut self, name: &str, text: &str);
    fn set(&mut self, name: &str, value: Value);
}

/// Fields as `name=value`, each after a space.
struct Text(String);

impl Form for Text {
    /// Quotes the message, and other texts with special characters.
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

pub(super) fn is_plain(text: &str) -> bool {
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
        let layer = LineLayer::new(options, None, Lines::default());
        let kept = Arc::default();
        let subscriber = tracing_subscriber::registry().with(Kept(layer, Arc::clone(&kept)));
        tracing::subscriber::with_default(subscriber, log);
        let lines = kept.lock().unwrap();
        lines.clone()
    }

    #[test]
    fn no_value_can_begin_a_line_or_a_field() {
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
    fn values_are_truncated_and_the_message_is_not() {
        let long = "\u{202e}".repeat(4000);
        for formatter in [Formatter::Text, Formatter::Json, Formatter::Logstash] {
            let log = || tracing::warn!(user = long, error = %long, last = long, "hello");
            let line = lines(formatter, log).remove(0);
            assert!(line.len() <= clip::MAX_LINE, "{} bytes: {line}", line.len());
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
    fn reportcaller_adds_the_place_in_the_source() {
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
    fn invisible_characters_are_escaped() {
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
