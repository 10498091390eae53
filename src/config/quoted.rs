//! Booleans and numbers in quotes, which make texts of them.
//!
//! They come from `enabled: "true"`, and from docker compose, where the quotes of
//! `- REGISTRY_STORAGE_DELETE_ENABLED="true"` belong to the value. registry:2 refuses them at the keys
//! that have a type there. At `storage.delete.enabled` it takes every text for `false`, in silence:
//! deletion is not opened here by what did not open it there.

use super::{
    schema::{self, Kind},
    source,
    tree::{Meaning, Node, Scalar, Value},
};

/// No boolean and no number that fits is longer.
const LONGEST: usize = 32;

/// The key that a text switches off, whatever the text is.
const DELETION: &str = "storage.delete.enabled";

/// Replaces such texts by what they read as without the quotes, and says so.
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

/// What the text reads as, where that fits its key.
fn without_quotes(kind: &Kind, scalar: &Scalar) -> Option<Scalar> {
    let Scalar { written, meaning: Meaning::Text } = scalar else { return None };
    let read = Some(written).filter(|text| text.len() <= LONGEST)?;
    source::unquoted(read).filter(|read| match kind {
        Kind::Bool => matches!(read.meaning, Meaning::Bool(_)),
        _ => matches!(read.meaning, Meaning::Integer(_)),
    })
}
