//! Older spellings, replaced in the tree before it is checked.

use super::tree::{Node, Value};

/// Replaces older spellings, and warns of them.
pub(super) fn modernise(root: &mut Node, warnings: &mut Vec<String>) {
    move_loglevel(root, warnings);
}

/// `loglevel` is the older name of `log.level`; registry:2 still reads it when the newer key is
/// missing.
fn move_loglevel(root: &mut Node, warnings: &mut Vec<String>) {
    let Some(old) = root.remove("loglevel").filter(|old| !old.is_null()) else {
        return;
    };
    let origin = old.origin.clone();
    let log = root.child_mut("log", &origin);
    if !matches!(log.value, Value::Null | Value::Map(_)) {
        // The check reports this mistake.
        return;
    }
    let level = log.child_mut("level", &origin);
    if level.is_null() {
        *level = old;
        warnings
            .push(format!("loglevel ({origin}) is the old name of log.level: write that instead"));
    } else {
        warnings.push(format!(
            "loglevel ({origin}) has no effect beside log.level ({}): remove it",
            level.origin
        ));
    }
}
