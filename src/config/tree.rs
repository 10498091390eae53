//! The tree between text and options: the values as they were written, with their places.
//!
//! File and environment both become [`Node`]s, so that a later message can point at the line or
//! the variable that a value came from. Which keys exist is the business of
//! [`schema`](super::schema).

use std::{fmt, path::Path, sync::Arc};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A default, which is not written.
    Default,
    /// In the configuration file; line and column count from 1.
    File {
        /// The file.
        file: Arc<Path>,
        /// The line.
        line: u64,
        /// The column, in characters.
        column: u64,
    },
    /// In an environment variable of this name.
    Variable(Arc<str>),
    /// Behind this option of the command line.
    Option(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Self::Variable(name) | Self::Option(name) => f.write_str(name),
        }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A key without a value, which means the default.
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of writing; no key twice.
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The place of the key; the node has the place of its value.
    pub(super) origin: Origin,
    pub(super) node: Node,
}

/// A scalar as it was written, and as YAML reads it: a realm may be called `017` or `on`.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) written: String,
    pub(super) meaning: Meaning,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Meaning {
    Text,
    Bool(bool),
    Integer(i128),
    Float(f64),
}

impl Node {
    pub(super) fn null(origin: Origin) -> Self {
        Self { value: Value::Null, origin }
    }

    pub(super) fn text(text: &str, origin: &Origin) -> Self {
        Self {
            value: Value::Scalar(Scalar { written: text.to_owned(), meaning: Meaning::Text }),
            origin: origin.clone(),
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The text of a scalar, as it was written.
    pub(super) fn written(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.written),
            _ => None,
        }
    }

    /// A scalar that is text and not empty.
    pub(super) fn word(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) if scalar.meaning == Meaning::Text => Some(&*scalar.written),
            _ => None,
        }
        .filter(|word| !word.is_empty())
    }

    /// The entries of a section; empty for other nodes.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; empty for other nodes.
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let entry = self.entries().iter().find(|entry| entry.key == key)?;
        Some(&entry.node)
    }

    /// The node of `key`. Another value than a section is replaced by one, a missing node is created,
    /// and both get `origin`.
    pub(super) fn child_mut(&mut self, key: &str, origin: &Origin) -> &mut Self {
        if !matches!(self.value, Value::Map(_)) {
            self.value = Value::Map(Vec::new());
            self.origin = origin.clone();
        }
        let Value::Map(entries) = &mut self.value else {
            unreachable!("it was made a section above");
        };
        let index = entries.iter().position(|entry| entry.key == key);
        let index = index.unwrap_or_else(|| {
            entries.push(Entry {
                key: key.to_owned(),
                origin: origin.clone(),
                node: Self::null(origin.clone()),
            });
            entries.len() - 1
        });
        &mut entries[index].node
    }

    /// The list item at `index`; an item after the last one is created. Another value than a list is
    /// replaced by a list.
    pub(super) fn item_mut(&mut self, index: usize, origin: &Origin) -> &mut Self {
        if !matches!(self.value, Value::List(_)) {
            self.value = Value::List(Vec::new());
            self.origin = origin.clone();
        }
        let Value::List(items) = &mut self.value else {
            unreachable!("it was made a list above");
        };
        let index = index.min(items.len());
        if index == items.len() {
            items.push(Self::null(origin.clone()));
        }
        &mut items[index]
    }

    /// Removes an entry from a section.
    pub(super) fn remove(&mut self, key: &str) -> Option<Self> {
        let Value::Map(entries) = &mut self.value else {
            return None;
        };
        let index = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(index).node)
    }

    /// The node in words, for the end of a sentence such as "expected …, found …".
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Scalar(scalar) => format!("`{}`", scalar.written.escape_debug()),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a section".to_owned(),
        }
    }
}
