//! Older spellings, replaced in the tree before it is checked.

use super::tree::{Node, Value};

/// Brings the tree up to date and says what it found.
pub(super) fn modernise(root: &mut Node, warnings: &mut Vec<String>) {
    move_loglevel(root, warnings);
    replace_logstash(root, warnings);
}

/// `loglevel` was the level until `log.level` came; registry:2 still reads it when the newer key
/// is not there.
fn move_loglevel(root: &mut Node, warnings: &mut Vec<String>) {
    let Some(old) = root.remove("loglevel").filter(|old| !old.is_null()) else {
        return;
    };
    let origin = old.origin.clone();
    let log = root.child_mut("log", &origin);
    if !matches!(log.value, Value::Null | Value::Map(_)) {
        // Wrong as it is; the check says so better than we could.
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

/// The shape of the log is no reason to refuse service; JSON is what comes closest.
fn replace_logstash(root: &mut Node, warnings: &mut Vec<String>) {
    let Some(formatter) = root.get("log").and_then(|log| log.get("formatter")) else {
        return;
    };
    if formatter.written() == Some("logstash") {
        let origin = formatter.origin.clone();
        warnings.push(format!(
            "log.formatter ({origin}): `logstash` is not supported, log lines are written as `json`"
        ));
        let log = root.child_mut("log", &origin);
        *log.child_mut("formatter", &origin) = Node::text("json", &origin);
    }
}
