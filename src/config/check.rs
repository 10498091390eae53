//! The tree against the schema: out comes JSON that the options of each part can be read from.
//!
//! After this every value has the shape that its key takes, durations are in the form that
//! [`std::time::Duration`] is read from, and only keys that work are left. Nothing and an empty
//! text mean the default, as they do in registry:2, and are left out.

use serde_json::{Map, Value as Json, json};

use super::{
    duration,
    error::Error,
    schema::{self, Key, Kind, Support},
    suggest,
    tree::{Entry, Meaning, Node, Scalar, Value},
};

/// Checks the whole tree.
pub(super) fn check(root: &Node, warnings: &mut Vec<String>) -> Result<Json, Error> {
    let checked = Check { warnings }.value("", &schema::ROOT, root)?;
    Ok(checked.unwrap_or_else(|| json!({})))
}

struct Check<'a> {
    warnings: &'a mut Vec<String>,
}

impl Check<'_> {
    fn value(&mut self, path: &str, kind: &Kind, node: &Node) -> Result<Option<Json>, Error> {
        if is_empty(node) {
            // A section that is there but empty may be a choice: `auth: {none: }`.
            let section = matches!(kind, Kind::Section(_) | Kind::OneOf { .. } | Kind::Free);
            return Ok(section.then(|| json!({})));
        }
        let json = match kind {
            Kind::Text | Kind::Secret => json!(text(path, kind, node)?),
            Kind::Bool => match scalar(node).map(|scalar| scalar.meaning) {
                Some(Meaning::Bool(value)) => json!(value),
                _ => return Err(mismatch(path, kind, node)),
            },
            Kind::Integer => json!(whole(path, kind, node)?),
            Kind::Limit => match whole(path, kind, node)? {
                ..=0 => return Ok(None),
                limit => json!(limit),
            },
            Kind::Duration => self.duration(path, node)?,
            Kind::Word(words) => {
                let word = text(path, kind, node)?.to_lowercase();
                if !words.contains(&&*word) {
                    return Err(mismatch(path, kind, node));
                }
                json!(word)
            }
            Kind::TextList => texts(path, node)?,
            Kind::Headers => headers(path, kind, node)?,
            Kind::Free => free(node),
            Kind::List(item) => self.list(path, item, node)?,
            Kind::Switch(_) if scalar(node).is_some() => json!(switch(path, kind, node)?),
            Kind::Section(_) | Kind::Switch(_) => self.section(path, kind, node)?,
            Kind::OneOf { of, .. } => {
                only_one(path, of, node)?;
                self.section(path, kind, node)?
            }
        };
        Ok(Some(json))
    }

    fn section(&mut self, path: &str, kind: &Kind, node: &Node) -> Result<Json, Error> {
        if !matches!(node.value, Value::Map(_)) {
            return Err(mismatch(path, kind, node));
        }
        let mut section = Map::new();
        for entry in node.entries() {
            let key = known(path, kind, entry)?;
            let path = schema::join(path, key.name);
            let checked = match key.support {
                Support::Works | Support::Old => self.value(&path, &key.kind, &entry.node)?,
                Support::Later => {
                    self.set_aside(&path, key, entry)?;
                    None
                }
                Support::Refused(reason) if is_used(key, &entry.node) => {
                    return Err(Error::Refused { at: entry.origin.clone(), key: path, reason });
                }
                Support::Refused(_) => None,
            };
            if let Some(checked) = checked {
                section.insert(key.name.to_owned(), checked);
            }
        }
        Ok(Json::Object(section))
    }

    /// A key that does nothing yet is still read for typing errors in the names below it.
    fn set_aside(&mut self, path: &str, key: &Key, entry: &Entry) -> Result<(), Error> {
        names(path, &key.kind, &entry.node)?;
        if !is_empty(&entry.node) {
            self.warnings
                .push(format!("{path} ({}) is not supported yet and has no effect", entry.origin));
        }
        Ok(())
    }

    fn list(&mut self, path: &str, item: &Kind, node: &Node) -> Result<Json, Error> {
        let mut list = Vec::new();
        for (index, node) in node.items().iter().enumerate() {
            list.extend(self.value(&format!("{path}[{index}]"), item, node)?);
        }
        Ok(Json::Array(list))
    }

    fn duration(&mut self, path: &str, node: &Node) -> Result<Json, Error> {
        let wrong = |message: &str| Error::Mismatch {
            at: node.origin.clone(),
            key: path.to_owned(),
            expected: expected(&Kind::Duration),
            found: format!("{}: {message}", node.describe()),
        };
        let duration = match scalar(node) {
            Some(Scalar { meaning: Meaning::Integer(nanoseconds), .. }) => {
                if (1..1_000_000).contains(nanoseconds) {
                    self.warnings.push(format!(
                        "{path} ({}): a number without a unit counts nanoseconds; write \
                         `{nanoseconds}s` for seconds",
                        node.origin
                    ));
                }
                u128::try_from(*nanoseconds)
                    .map_err(|_| "a duration cannot be negative")
                    .and_then(duration::from_nanoseconds)
            }
            Some(Scalar { meaning: Meaning::Text, written }) => duration::parse(written),
            _ => return Err(mismatch(path, &Kind::Duration, node)),
        };
        let duration = duration.map_err(wrong)?;
        Ok(json!({ "secs": duration.as_secs(), "nanos": duration.subsec_nanos() }))
    }
}

/// Finds the entry's key, or says which was meant.
fn known(section: &str, kind: &Kind, entry: &Entry) -> Result<&'static Key, Error> {
    kind.key(&entry.key).ok_or_else(|| Error::UnknownKey {
        at: entry.origin.clone(),
        key: schema::join(section, &entry.key),
        hint: suggest::hint(&entry.key, kind.keys().map(|key| key.name), section),
    })
}

fn names(path: &str, kind: &Kind, node: &Node) -> Result<(), Error> {
    if let Kind::List(item) = kind {
        for (index, node) in node.items().iter().enumerate() {
            names(&format!("{path}[{index}]"), item, node)?;
        }
        return Ok(());
    }
    if kind.keys().next().is_none() {
        return Ok(());
    }
    for entry in node.entries() {
        let key = known(path, kind, entry)?;
        names(&schema::join(path, key.name), &key.kind, &entry.node)?;
    }
    Ok(())
}

/// Whether a key that is refused asks for anything. An empty text or `false` does not; a storage
/// driver does so by its name alone.
fn is_used(key: &Key, node: &Node) -> bool {
    match key.kind {
        Kind::Free => true,
        Kind::Bool => !is_empty(node) && node.written() != Some("false"),
        Kind::TextList => !is_empty(node) && !matches!(&node.value, Value::List(l) if l.is_empty()),
        _ => !is_empty(node),
    }
}

fn is_empty(node: &Node) -> bool {
    node.is_null() || node.written() == Some("")
}

fn scalar(node: &Node) -> Option<&Scalar> {
    match &node.value {
        Value::Scalar(scalar) => Some(scalar),
        _ => None,
    }
}

/// Any scalar will do, for the characters are kept: `realm: 017` is a fine realm.
fn text<'a>(path: &str, kind: &Kind, node: &'a Node) -> Result<&'a str, Error> {
    node.written().ok_or_else(|| mismatch(path, kind, node))
}

fn texts(path: &str, node: &Node) -> Result<Json, Error> {
    match &node.value {
        Value::List(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| text(&format!("{path}[{index}]"), &Kind::Text, item))
            .collect(),
        _ => text(path, &Kind::TextList, node).map(|text| json!([text])),
    }
}

fn headers(path: &str, kind: &Kind, node: &Node) -> Result<Json, Error> {
    if !matches!(node.value, Value::Map(_)) {
        return Err(mismatch(path, kind, node));
    }
    node.entries()
        .iter()
        .filter(|entry| !entry.node.is_null())
        .map(|entry| {
            let path = schema::join(path, &entry.key);
            Ok((entry.key.clone(), texts(&path, &entry.node)?))
        })
        .collect()
}

fn whole(path: &str, kind: &Kind, node: &Node) -> Result<i64, Error> {
    match scalar(node).map(|scalar| scalar.meaning) {
        Some(Meaning::Integer(value)) => i64::try_from(value).ok(),
        _ => None,
    }
    .ok_or_else(|| mismatch(path, kind, node))
}

/// `off` or `false`, also in quotes: a switch that is off by mistake is what must not be, and there
/// is no mistaking these.
fn switch(path: &str, kind: &Kind, node: &Node) -> Result<bool, Error> {
    match scalar(node) {
        Some(Scalar { meaning: Meaning::Bool(value), .. }) => Ok(*value),
        Some(Scalar { written, .. }) if written == "off" || written == "false" => Ok(false),
        _ => Err(mismatch(path, kind, node)),
    }
}

fn free(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::List(items) => items.iter().map(free).collect(),
        Value::Map(entries) => {
            entries.iter().map(|entry| (entry.key.clone(), free(&entry.node))).collect()
        }
        Value::Scalar(scalar) => match scalar.meaning {
            Meaning::Bool(value) => json!(value),
            Meaning::Integer(value) => {
                i64::try_from(value).map_or_else(|_| json!(scalar.written), |value| json!(value))
            }
            Meaning::Float(value) if value.is_finite() => json!(value),
            Meaning::Float(_) | Meaning::Text => json!(scalar.written),
        },
    }
}

fn only_one(path: &str, of: &[Key], node: &Node) -> Result<(), Error> {
    let mut chosen =
        node.entries().iter().filter(|entry| of.iter().any(|key| key.name == entry.key));
    match (chosen.next(), chosen.next()) {
        (Some(first), Some(second)) => Err(Error::Several {
            section: path.to_owned(),
            first: first.key.clone(),
            first_at: first.origin.clone(),
            second: second.key.clone(),
            second_at: second.origin.clone(),
        }),
        _ => Ok(()),
    }
}

fn mismatch(path: &str, kind: &Kind, node: &Node) -> Error {
    let found = match (kind, &node.value) {
        (Kind::Secret, Value::Scalar(_)) => "something else".to_owned(),
        _ => node.describe(),
    };
    Error::Mismatch {
        at: node.origin.clone(),
        key: if path.is_empty() { "the file" } else { path }.to_owned(),
        expected: expected(kind),
        found,
    }
}

fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Text | Kind::Secret => "a text (in quotes, if it has special characters)".to_owned(),
        Kind::Bool => "`true` or `false`".to_owned(),
        Kind::Integer | Kind::Limit => "a whole number".to_owned(),
        Kind::Duration => "a duration such as `30s` or `1h30m`".to_owned(),
        Kind::Word(words) => alternatives(words.iter().copied()),
        Kind::TextList => "a list of texts".to_owned(),
        Kind::Headers => "a section of names, each with a list of texts".to_owned(),
        Kind::Free | Kind::Section(_) => "a section".to_owned(),
        Kind::Switch(_) => "a section, or `off`".to_owned(),
        Kind::OneOf { of, .. } => {
            let works = of.iter().filter(|key| matches!(key.support, Support::Works));
            format!("a section, or {}", alternatives(works.map(|key| key.name)))
        }
        Kind::List(_) => "a list".to_owned(),
    }
}

fn alternatives<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.map(|word| format!("`{word}`")).collect();
    words.join(" or ")
}
