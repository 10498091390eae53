//! The options of a command, laid over the file and the variables: the strongest source.

use std::sync::Arc;

use super::tree::{Node, Origin, Value};

/// A value that an option of the command line gives to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The option as it is typed, such as `--addr`, for the origin of the value.
    pub option: &'static str,
    /// The key with its sections, such as `http.addr`.
    pub key: &'static str,
    /// The value.
    pub value: Given,
}

/// The value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// A text.
    Text(String),
    /// The texts of an option that may be repeated.
    List(Vec<String>),
}

/// Lays the options over the tree. A mistake in place of a section stays, for the check to report.
pub(super) fn overlay(root: &mut Node, overrides: &[Override]) {
    for Override { option, key, value } in overrides {
        let origin = Origin::Option(Arc::from(*option));
        let Some(node) = place(root, key, &origin) else { continue };
        *node = match value {
            Given::Text(text) => Node::text(text, &origin),
            Given::List(texts) => {
                let items = texts.iter().map(|text| Node::text(text, &origin)).collect();
                Node { value: Value::List(items), origin }
            }
        };
    }
}

/// The node of a key; `None` where a value is in place of one of its sections.
fn place<'a>(root: &'a mut Node, key: &str, origin: &Origin) -> Option<&'a mut Node> {
    key.split('.').try_fold(root, |node, name| {
        let is_section = matches!(node.value, Value::Null | Value::Map(_));
        is_section.then(|| node.child_mut(name, origin))
    })
}
