//! Single values: whether a node has the type that its key takes, and the message if not.

use serde_json::{Value as Json, json};

use crate::config::{
    error::Error,
    schema::{self, Kind, Support},
    tree::{Meaning, Node, Scalar, Value},
};

pub(super) fn is_empty(node: &Node) -> bool {
    node.is_null() || node.written() == Some("")
}

pub(super) fn scalar(node: &Node) -> Option<&Scalar> {
    match &node.value {
        Value::Scalar(scalar) => Some(scalar),
        _ => None,
    }
}

/// Any scalar will do, for the characters are kept: `realm: 017` is a fine realm.
pub(super) fn text<'a>(path: &str, kind: &Kind, node: &'a Node) -> Result<&'a str, Error> {
    node.written().ok_or_else(|| mismatch(path, kind, node))
}

pub(super) fn texts(path: &str, node: &Node) -> Result<Json, Error> {
    match &node.value {
        Value::List(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| text(&format!("{path}[{index}]"), &Kind::Text, item))
            .collect(),
        _ => text(path, &Kind::TextList, node).map(|text| json!([text])),
    }
}

pub(super) fn headers(path: &str, kind: &Kind, node: &Node) -> Result<Json, Error> {
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

pub(super) fn whole(path: &str, kind: &Kind, node: &Node) -> Result<i64, Error> {
    match scalar(node).map(|scalar| scalar.meaning) {
        Some(Meaning::Integer(value)) => i64::try_from(value).ok(),
        _ => None,
    }
    .ok_or_else(|| mismatch(path, kind, node))
}

/// `off` or `false`, also in quotes: a switch must not be off by mistake, and these are unambiguous.
pub(super) fn switch(path: &str, kind: &Kind, node: &Node) -> Result<bool, Error> {
    match scalar(node) {
        Some(Scalar { meaning: Meaning::Bool(value), .. }) => Ok(*value),
        Some(Scalar { written, .. }) if written == "off" || written == "false" => Ok(false),
        _ => Err(mismatch(path, kind, node)),
    }
}

pub(in crate::config) fn free(node: &Node) -> Json {
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

pub(super) fn mismatch(path: &str, kind: &Kind, node: &Node) -> Error {
    let found = match (kind, &node.value) {
        (Kind::Secret, Value::Scalar(_)) => "something else".to_owned(),
        _ => node.describe(),
    };
    Error::Mismatch {
        at: node.origin.clone(),
        key: path.to_owned(),
        expected: expected(kind),
        found,
    }
}

pub(super) fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Text | Kind::Secret => "a text (in quotes, if it has special characters)".to_owned(),
        Kind::Bool => "`true` or `false`".to_owned(),
        Kind::Integer | Kind::Limit => "a whole number".to_owned(),
        Kind::Duration => "a duration such as `30s` or `1h30m`".to_owned(),
        Kind::Word(words) => alternatives(words.iter().copied()),
        Kind::TextList => "a list of texts".to_owned(),
        Kind::Headers | Kind::SentHeaders => {
            "a section of names, each with a list of texts".to_owned()
        }
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
