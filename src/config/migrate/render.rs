//! Writes a tree as YAML, with comments.

use std::{fmt::Write as _, path::Path};

use super::Draft;
use crate::config::{
    schema, settings, source,
    tree::{Entry, Meaning, Node, Scalar, Value},
};

/// The width of a comment.
const WIDTH: usize = 100;

impl Draft {
    /// The text of the new file. Dropped keys are in it as comments.
    pub(super) fn render(&self, file: &Path, root: &Node) -> String {
        let mut writer = Writer { draft: self, text: String::new() };
        writer.comment(
            0,
            &format!(
                "Written by `portcullis migrate`, from {}. portcullis.example.yml has all keys. \
                 REGISTRY_* variables still apply over this file.",
                file.display().to_string().escape_debug()
            ),
        );
        writer.text.push_str("version: 0.1\n");
        writer.section("", 0, root.entries());
        writer.text
    }
}

struct Writer<'a> {
    draft: &'a Draft,
    text: String,
}

impl Writer<'_> {
    fn section(&mut self, section: &str, depth: usize, entries: &[Entry]) {
        for entry in entries {
            let path = schema::join(section, &entry.key);
            if let Some(comment) = self.draft.comments.get(&path) {
                self.comment(depth, comment);
            }
            if self.draft.dropped.contains(&path) {
                continue;
            }
            if self.is_gone(&path, &entry.node) {
                // Only the comments of its keys are left.
                self.section(&path, depth, entry.node.entries());
                continue;
            }
            self.indent(depth);
            self.text.push_str(&text(&entry.key));
            self.text.push(':');
            self.value(&path, depth, &entry.node);
        }
    }

    /// Whether a section has keys, and all were dropped.
    fn is_gone(&self, path: &str, node: &Node) -> bool {
        !node.entries().is_empty()
            && node.entries().iter().all(|entry| {
                let path = schema::join(path, &entry.key);
                self.draft.dropped.contains(&path) || self.is_gone(&path, &entry.node)
            })
    }

    /// The value behind a key and its colon.
    fn value(&mut self, path: &str, depth: usize, node: &Node) {
        match &node.value {
            Value::Null => self.text.push('\n'),
            Value::Scalar(_) => {
                self.text.push(' ');
                self.text.push_str(&flow(node));
                self.text.push('\n');
            }
            Value::Map(entries) if entries.is_empty() => self.text.push_str(" {}\n"),
            Value::Map(entries) => {
                self.text.push('\n');
                self.section(path, depth + 1, entries);
            }
            Value::List(items) if items.iter().any(|item| !item.entries().is_empty()) => {
                self.text.push('\n');
                for (index, item) in items.iter().enumerate() {
                    self.item(&format!("{path}[{index}]"), depth + 1, item);
                }
            }
            Value::List(_) => {
                self.text.push(' ');
                self.text.push_str(&flow(node));
                self.text.push('\n');
            }
        }
    }

    /// An item of a list: a section whose first line begins with a dash.
    fn item(&mut self, path: &str, depth: usize, item: &Node) {
        self.indent(depth);
        match item.entries() {
            [] => {
                self.text.push_str("- ");
                self.text.push_str(&flow(item));
                self.text.push('\n');
            }
            entries => {
                self.text.push_str("-\n");
                self.section(path, depth + 1, entries);
            }
        }
    }

    /// Lines of a comment, broken between words.
    fn comment(&mut self, depth: usize, comment: &str) {
        let room = WIDTH.saturating_sub(2 * depth + 2);
        let mut line = String::new();
        for word in comment.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                self.comment_line(depth, &line);
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.comment_line(depth, &line);
    }

    fn comment_line(&mut self, depth: usize, line: &str) {
        self.indent(depth);
        // A control character would be no YAML, and a line break would end the comment.
        let line = line.replace(char::is_control, "?");
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "# {line}");
    }

    fn indent(&mut self, depth: usize) {
        self.text.push_str(&"  ".repeat(depth));
    }
}

/// A value in one line.
fn flow(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Scalar(Scalar { written, meaning: Meaning::Text }) => text(written),
        Value::Scalar(scalar) => scalar.written.clone(),
        Value::List(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Value::Map(entries) => {
            let entries =
                entries.iter().map(|entry| format!("{}: {}", text(&entry.key), flow(&entry.node)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// A text as YAML, in quotes where it would be read as something else without them.
fn text(text: &str) -> String {
    let is_text = |scalar: Scalar| scalar.meaning == Meaning::Text && scalar.written == text;
    match source::unquoted(text).is_some_and(is_text) {
        true => settings::quoted(text),
        false => settings::in_quotes(text),
    }
}
