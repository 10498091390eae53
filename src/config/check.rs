//! Validates the tree against the schema, and turns it into JSON for serde.
//!
//! In the JSON every value has the type that its key takes, durations have the form that
//! [`std::time::Duration`] deserialises from, and only supported keys are left. A null and an empty
//! text mean the default, as in registry:2, and are left out.

use serde_json::{Map, Value as Json, json};

mod values;

pub(super) use values::free;
use values::{expected, headers, is_empty, mismatch, scalar, switch, text, texts, whole};

use super::{
    duration,
    error::Error,
    schema::{self, Harmless, Key, Kind, Support},
    suggest,
    tree::{Entry, Meaning, Node, Scalar, Value},
};

/// Checks the whole tree. Invalid values are left out of the result, and `errors` has them all.
pub(super) fn check(
    root: &Node,
    warnings: &mut Vec<String>,
    notes: &mut Vec<String>,
    errors: &mut Vec<Error>,
) -> Json {
    let checked =
        Check { root, warnings, notes, errors: &mut *errors }.value("", &schema::ROOT, root);
    let checked = checked.unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    checked.unwrap_or_else(|| json!({}))
}

/// Whether the written value means the default.
pub(super) fn is_default(kind: &Kind, node: &Node) -> bool {
    is_empty(node) || matches!((kind, whole("", kind, node)), (Kind::Limit, Ok(..=0)))
}

struct Check<'a> {
    /// The top of the configuration.
    root: &'a Node,
    warnings: &'a mut Vec<String>,
    notes: &'a mut Vec<String>,
    /// Errors within sections and lists, which are read to their end all the same.
    errors: &'a mut Vec<Error>,
}

impl Check<'_> {
    fn value(&mut self, path: &str, kind: &Kind, node: &Node) -> Result<Option<Json>, Error> {
        if is_empty(node) {
            // An empty section may be a choice: `auth: {none: }`.
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
            Kind::Headers | Kind::SentHeaders => headers(path, kind, node)?,
            Kind::Free => free(node),
            Kind::List(_) if !matches!(node.value, Value::List(_)) => {
                return Err(mismatch(path, kind, node));
            }
            Kind::List(item) => self.list(path, item, node)?,
            Kind::Switch(_) if scalar(node).is_some() => json!(switch(path, kind, node)?),
            Kind::Section(_) | Kind::Switch(_) => self.section(path, kind, node)?,
            Kind::OneOf { of, .. } => {
                if let Err(error) = only_one(path, of, node) {
                    self.errors.push(error);
                }
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
            match known(path, kind, entry).and_then(|key| Ok((key, self.entry(path, key, entry)?)))
            {
                Ok((key, Some(checked))) => {
                    section.insert(key.name.to_owned(), checked);
                }
                Ok((_, None)) => {}
                Err(error) => self.errors.push(error),
            }
        }
        Ok(Json::Object(section))
    }

    /// The value of a key in the section `path`; `None` where it is the default or has no effect.
    fn entry(&mut self, path: &str, key: &Key, entry: &Entry) -> Result<Option<Json>, Error> {
        let path = schema::join(path, key.name);
        if let Some((word, reason)) = key.refuses
            && entry.node.word().is_some_and(|written| written.eq_ignore_ascii_case(word))
        {
            return Err(Error::Refused { at: entry.origin.clone(), key: path, reason });
        }
        match key.support {
            Support::Works | Support::Old => self.value(&path, &key.kind, &entry.node),
            Support::Needless(reason) | Support::Missed(reason) => {
                // Its form is checked all the same, for a mistake in it was meant to be another key.
                self.value(&path, &key.kind, &entry.node)?;
                if is_used(&key.kind, &entry.node) {
                    let messages = match key.support {
                        Support::Missed(_) => &mut *self.warnings,
                        _ => &mut *self.notes,
                    };
                    let at = &entry.origin;
                    messages.push(format!("{path} ({at}) has no effect: {reason}"));
                }
                Ok(None)
            }
            Support::Refused(reason) => {
                names(&path, &key.kind, &entry.node)?;
                if !is_used(&key.kind, &entry.node) {
                    return Ok(None);
                }
                let at = &entry.origin;
                match &key.harmless {
                    Some(Harmless { condition, holds, reason }) if holds(self.root) => {
                        self.notes
                            .push(format!("{path} ({at}) has no effect {condition}: {reason}"));
                        Ok(None)
                    }
                    _ => Err(Error::Refused { at: at.clone(), key: path, reason }),
                }
            }
        }
    }

    fn list(&mut self, path: &str, item: &Kind, node: &Node) -> Result<Json, Error> {
        let mut list = Vec::new();
        for (index, node) in node.items().iter().enumerate() {
            match self.value(&format!("{path}[{index}]"), item, node) {
                Ok(value) => list.extend(value),
                Err(error) => self.errors.push(error),
            }
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

/// Finds the entry's key, or suggests one.
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

/// Whether the value asks for anything. An empty text and `false` do not, nor a section or a list of
/// only such values, nor a disabled item. A storage driver does so by its name alone.
pub(super) fn is_used(kind: &Kind, node: &Node) -> bool {
    match kind {
        Kind::Free => true,
        Kind::Bool => {
            let meaning = scalar(node).map(|scalar| scalar.meaning);
            !is_empty(node) && meaning != Some(Meaning::Bool(false))
        }
        Kind::TextList => !is_empty(node) && !matches!(&node.value, Value::List(l) if l.is_empty()),
        Kind::List(item) => node.items().iter().any(|node| {
            let disabled = node.get("disabled").and_then(scalar).map(|scalar| scalar.meaning);
            disabled != Some(Meaning::Bool(true)) && is_used(item, node)
        }),
        Kind::Section(_) if matches!(node.value, Value::Map(_)) => node
            .entries()
            .iter()
            .any(|entry| kind.key(&entry.key).is_none_or(|key| is_used(&key.kind, &entry.node))),
        _ => !is_empty(node),
    }
}

fn only_one(path: &str, of: &[Key], node: &Node) -> Result<(), Error> {
    let mut chosen =
        node.entries().iter().filter(|entry| of.iter().any(|key| key.name == entry.key));
    match (chosen.next(), chosen.next()) {
        (Some(first), Some(second)) => Err(Error::Several {
            at: second.origin.clone(),
            key: schema::join(path, &second.key),
            other: format!("`{}` ({})", first.key, first.origin),
        }),
        _ => Ok(()),
    }
}
