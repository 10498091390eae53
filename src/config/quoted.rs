//! Booleans and numbers in quotes, which YAML reads as texts.
//!
//! They come from `enabled: "true"`, and from docker compose, where the quotes of
//! `- REGISTRY_STORAGE_DELETE_ENABLED="true"` belong to the value. registry:2 refuses them at the keys
//! that have a type there. At `storage.delete.enabled` it silently takes every text for `false`, so a
//! text enables no deletion here, either.

use super::{
    schema::{self, Kind},
    source,
    tree::{Meaning, Node, Scalar, Value},
};

/// No boolean and no number that fits is longer.
const LONGEST: usize = 32;

/// The key that a text switches off, whatever the text is.
const DELETION: &str = "storage.delete.enabled";

/// Replaces such texts by the values that they have without the quotes, and warns of them.
pub(super) fn unquote(root: &mut Node, warnings: &mut Vec<String>, notes: &mut Vec<String>) {
    Unquote { warnings, notes }.value("", &schema::ROOT, root);
}

struct Unquote<'a> {
    warnings: &'a mut Vec<String>,
    notes: &'a mut Vec<String>,
}

impl Unquote<'_> {
    fn value(&mut self, path: &str, kind: &Kind, node: &mut Node) {
        match (kind, &mut node.value) {
            (Kind::List(item), Value::List(items)) => {
                for (index, node) in items.iter_mut().enumerate() {
                    self.value(&format!("{path}[{index}]"), item, node);
                }
            }
            (_, Value::Map(entries)) => {
                for entry in entries {
                    if let Some(key) = kind.key(&entry.key) {
                        self.value(&schema::join(path, key.name), &key.kind, &mut entry.node);
                    }
                }
            }
            (Kind::Bool | Kind::Integer | Kind::Limit, Value::Scalar(scalar)) => {
                if let Some(read) = without_quotes(kind, scalar) {
                    let at = &node.origin;
                    if path == DELETION && read.meaning == Meaning::Bool(true) {
                        self.warnings.push(format!(
                            "{path} ({at}) is in quotes, which make a text of it: deletion stays \
                             off, as with registry:2; write `{}` without quotes to let users delete",
                            read.written
                        ));
                        *scalar =
                            Scalar { written: "false".to_owned(), meaning: Meaning::Bool(false) };
                        return;
                    }
                    self.notes.push(format!(
                        "{path} ({at}) is in quotes, which make a text of it; it is taken as `{}`: \
                         remove the quotes",
                        read.written
                    ));
                    *scalar = read;
                }
            }
            _ => {}
        }
    }
}

/// The value of the text without its quotes, where it fits the key.
fn without_quotes(kind: &Kind, scalar: &Scalar) -> Option<Scalar> {
    let Scalar { written, meaning: Meaning::Text } = scalar else { return None };
    let read = Some(written).filter(|text| text.len() <= LONGEST)?;
    source::unquoted(read).filter(|read| match kind {
        Kind::Bool => matches!(read.meaning, Meaning::Bool(_)),
        _ => matches!(read.meaning, Meaning::Integer(_)),
    })
}
