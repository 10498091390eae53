//! YAML to tree. The only module that names the YAML crate.
//!
//! The parser's limits stay on (nesting, aliases, nodes): YAML beyond them is refused with its place.
//! Its messages are used without the excerpts that it can add, for those would print the lines around
//! an error, secrets included.

use std::{fs, io, path::Path, sync::Arc};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};

use super::{
    error::Error,
    tree::{Entry, Meaning, Node, Origin, Scalar, Value},
};

/// The content of a configuration file.
pub(super) fn text(path: &Path) -> Result<String, Error> {
    let file = path.to_owned();
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing { files: vec![file.clone()], named_by: None },
        io::ErrorKind::IsADirectory => Error::Directory { file: file.clone() },
        _ => Error::Read { file: file.clone(), source },
    };
    let bytes = fs::read(path).map_err(failed)?;
    if matches!(bytes.as_slice(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return Err(Error::Utf16 { file: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|error| failed(io::Error::other(error.utf8_error())))
}

/// The value of a text without its quotes; `None` if it would not be a scalar.
pub(super) fn unquoted(text: &str) -> Option<Scalar> {
    let place = Place::Variable("".into());
    match (Source { text, place }).parse().ok()?.value {
        Value::Scalar(scalar) => Some(scalar),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// Parses the content of the configuration file `path`.
pub(super) fn parse_file(path: &Path, text: &str) -> Result<Node, Error> {
    Source { text, place: Place::File(path.into()) }.parse()
}

/// Reads the value of an environment variable, which is YAML too.
pub(super) fn parse_variable(name: &str, value: &str) -> Result<Node, Error> {
    Source { text: value, place: Place::Variable(name.into()) }.parse()
}

struct Source<'a> {
    text: &'a str,
    place: Place,
}

enum Place {
    File(Arc<Path>),
    Variable(Arc<str>),
}

impl Source<'_> {
    fn parse(&self) -> Result<Node, Error> {
        let options = serde_saphyr::options! {
            with_snippet: false,
            non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::PassThrough,
        };
        match serde_saphyr::from_str_with_options::<Spanned<Raw>>(self.text, options) {
            Ok(raw) => self.node(raw),
            Err(error) => {
                let error = error.without_snippet();
                let says = UserMessageFormatter.format_message(error);
                let is_alias = matches!(error, serde_saphyr::Error::UnknownAnchor { .. });
                let advice = match self.place {
                    _ if is_alias || says.contains("alias") => {
                        "; YAML takes a text that begins with `*` for the name of another value: put \
                         it in quotes, as in \"**/app\""
                    }
                    Place::File(_) => "",
                    Place::Variable(_) => "; a text with special characters needs quotes",
                };
                Err(Error::Syntax {
                    at: self.origin(error.location().unwrap_or(Location::UNKNOWN)),
                    message: plain(&says) + advice,
                })
            }
        }
    }

    fn node(&self, raw: Spanned<Raw>) -> Result<Node, Error> {
        // Behind an alias, the value is written at the anchor and used at the alias; a message
        // points at the use.
        let origin = self.origin(raw.referenced);
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Text(written) => Value::Scalar(Scalar { written, meaning: Meaning::Text }),
            Raw::Other(meaning) => {
                Value::Scalar(Scalar { written: self.written(raw.defined, meaning), meaning })
            }
            Raw::List(items) => {
                Value::List(items.into_iter().map(|raw| self.node(raw)).collect::<Result<_, _>>()?)
            }
            Raw::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, raw)| self.entry(key, raw))
                    .collect::<Result<_, _>>()?,
            ),
        };
        Ok(Node { value, origin })
    }

    fn entry(&self, key: Spanned<String>, raw: Spanned<Raw>) -> Result<Entry, Error> {
        let origin = self.origin(key.referenced);
        let key = key.value;
        // No key has such a name, and messages print keys.
        if key.contains(char::is_control) {
            let message = "a key has a control character in it".to_owned();
            return Err(Error::Syntax { at: origin, message });
        }
        Ok(Entry { key, origin, node: self.node(raw)? })
    }

    /// The characters of a number or boolean, which the parser keeps to itself.
    fn written(&self, location: Location, meaning: Meaning) -> String {
        let span = location.span();
        let slice = span.byte_offset().zip(span.byte_len()).and_then(|(start, len)| {
            let start = usize::try_from(start).ok()?;
            let len = usize::try_from(len).ok()?;
            self.text.get(start..start.checked_add(len)?)
        });
        match (slice, meaning) {
            (Some(slice), _) => slice.trim().to_owned(),
            (None, Meaning::Bool(value)) => value.to_string(),
            (None, Meaning::Integer(value)) => value.to_string(),
            (None, Meaning::Float(value)) => value.to_string(),
            (None, Meaning::Text) => String::new(),
        }
    }

    fn origin(&self, location: Location) -> Origin {
        match &self.place {
            Place::File(file) => Origin::File {
                file: Arc::clone(file),
                line: location.line().max(1),
                column: location.column().max(1),
            },
            Place::Variable(name) => Origin::Variable(Arc::clone(name)),
        }
    }
}

/// The message may quote the text, which may contain control characters of terminals.
fn plain(message: &str) -> String {
    message.replace(char::is_control, " ")
}

/// Any YAML, as serde hands it over.
enum Raw {
    Null,
    Text(String),
    Other(Meaning),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Other(Meaning::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Other(Meaning::Integer(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Other(Meaning::Integer(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Other(Meaning::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}
