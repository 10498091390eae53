//! Refused keys that change nothing in registry:2 beside the values of other keys. Files that follow
//! registry:2's documentation have them, so a note replaces the error.

use super::Harmless;
use crate::config::tree::{Meaning, Node, Value};

/// `redis`, while no cache uses it.
pub(super) const UNUSED_REDIS: Harmless = Harmless {
    condition: "where no cache is `redis`",
    holds: |root| {
        let cache = root.get("storage").and_then(|storage| storage.get("cache"));
        ["blobdescriptor", "layerinfo"].iter().all(|key| {
            let cache = cache.and_then(|cache| cache.get(key)).and_then(Node::written);
            !cache.is_some_and(|cache| cache.eq_ignore_ascii_case("redis"))
        })
    },
    reason: "no Redis is needed; remove it",
};

/// `reporting`, while it has neither the key of Bugsnag nor that of New Relic.
pub(super) const UNUSED_REPORTING: Harmless = Harmless {
    condition: "without `apikey` and `licensekey`",
    holds: |root| {
        let reporting = root.get("reporting");
        [("bugsnag", "apikey"), ("newrelic", "licensekey")].iter().all(|(receiver, key)| {
            let receiver = reporting.and_then(|reporting| reporting.get(receiver));
            is_empty(receiver.and_then(|receiver| receiver.get(key)))
        })
    },
    reason: "nothing is reported without them; remove it",
};

/// `log.hooks`, while no hook sends mail.
pub(super) const UNUSED_HOOKS: Harmless = Harmless {
    condition: "where each hook has another `type` than `mail`, or no `levels`",
    holds: |root| {
        let hooks = root.get("log").and_then(|log| log.get("hooks"));
        hooks.is_some_and(|hooks| {
            hooks.items().iter().all(|hook| {
                is_true(hook.get("disabled"))
                    || hook.get("type").and_then(Node::written) != Some("mail")
                    || is_empty(hook.get("levels"))
            })
        })
    },
    reason: "registry:2 sends nothing for such a hook either; remove it",
};

/// The keys that sign manifests of schema 1, while those are not enabled.
pub(super) const UNUSED_SIGNATURES: Harmless = Harmless {
    condition: "where schema 1 is not `enabled`",
    holds: |root| {
        let section = root.get("compatibility").and_then(|section| section.get("schema1"));
        !is_true(section.and_then(|section| section.get("enabled")))
    },
    reason: "nothing is signed; remove it",
};

fn is_empty(node: Option<&Node>) -> bool {
    node.is_none_or(|node| match &node.value {
        Value::Null => true,
        Value::Scalar(scalar) => scalar.written.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(_) => false,
    })
}

fn is_true(node: Option<&Node>) -> bool {
    node.is_some_and(|node| match &node.value {
        Value::Scalar(scalar) => scalar.meaning == Meaning::Bool(true),
        _ => false,
    })
}
