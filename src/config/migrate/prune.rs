//! Drops keys of registry:2's file: those that would be refused, and those that have no effect.

use super::Draft;
use crate::config::{
    check,
    error::Error,
    schema::{self, Harmless, Key, Kind, Support},
    suggest,
    tree::{Node, Scalar, Value},
};

/// Words that registry:2 knows and this server refuses, each with the word in its place, or `None` for
/// the default.
const WORDS: &[(&str, &[&str], Option<&str>, &str)] = &[
    (
        "http.tls.minimumtls",
        &["tls1.0", "tls1.1"],
        None,
        "TLS 1.2 is the oldest version here, and the default",
    ),
    ("log.level", &["trace"], Some("debug"), "the most detailed level is `debug`"),
];

impl Draft {
    /// Drops keys from the tree. `errors` gets the keys without which the file would mean another
    /// registry.
    pub(super) fn prune(&mut self, root: &mut Node, errors: &mut Vec<Error>) {
        // Whether a key is harmless depends on others, which may be gone by then.
        let whole = root.clone();
        Prune { draft: self, whole: &whole, errors }.section("", &schema::ROOT, root);
    }
}

struct Prune<'a> {
    draft: &'a mut Draft,
    whole: &'a Node,
    errors: &'a mut Vec<Error>,
}

impl Prune<'_> {
    fn value(&mut self, path: &str, kind: &Kind, node: &mut Node) {
        match (kind, &mut node.value) {
            (Kind::List(item), Value::List(items)) => {
                for (index, node) in items.iter_mut().enumerate() {
                    self.value(&format!("{path}[{index}]"), item, node);
                }
            }
            (Kind::Word(_), Value::Scalar(scalar)) => self.word(path, scalar),
            (kind, Value::Map(_)) if kind.keys().next().is_some() => self.section(path, kind, node),
            _ => {}
        }
    }

    fn section(&mut self, section: &str, kind: &Kind, node: &mut Node) {
        let Value::Map(entries) = &mut node.value else { return };
        for entry in entries {
            let path = schema::join(section, &entry.key);
            let Some(key) = kind.key(&entry.key) else {
                let hint = suggest::hint(&entry.key, kind.keys().map(|key| key.name), section);
                let why = format!("registry:2 ignores it, and there is no such key here.{hint}");
                self.draft.drop_key(&path, &why);
                continue;
            };
            match self.reason(&path, key, &entry.node) {
                Some(Err(reason)) => {
                    let at = entry.origin.clone();
                    self.errors.push(Error::Refused { at, key: path, reason });
                }
                Some(Ok(reason)) => self.draft.drop_key(&path, reason),
                None => self.value(&path, &key.kind, &mut entry.node),
            }
        }
    }

    /// Why the key is dropped; an error where the file would mean another registry without it, and
    /// `None` for a key that stays.
    fn reason(
        &self,
        path: &str,
        key: &Key,
        node: &Node,
    ) -> Option<Result<&'static str, &'static str>> {
        if let Some((word, reason)) = key.refuses
            && node.word().is_some_and(|written| written.eq_ignore_ascii_case(word))
        {
            return Some(Ok(reason));
        }
        if path == "http.secret" {
            return Some(Ok("uploads are kept in the storage and carry no signature"));
        }
        match &key.support {
            Support::Works | Support::Old => None,
            Support::Needless(reason) | Support::Missed(reason) => Some(Ok(reason)),
            Support::Refused(_) if !check::is_used(&key.kind, node) => {
                Some(Ok("it is switched off, and so it is here"))
            }
            // The images are somewhere else.
            Support::Refused(reason)
                if path.starts_with("storage.") || path == "proxy.remoteurl" =>
            {
                Some(Err(reason))
            }
            Support::Refused(reason) => Some(Ok(match &key.harmless {
                Some(Harmless { holds, reason, .. }) if holds(self.whole) => reason,
                _ => reason,
            })),
        }
    }

    fn word(&mut self, path: &str, scalar: &mut Scalar) {
        for (key, words, instead, why) in WORDS {
            if *key != path || !words.iter().any(|word| scalar.written.eq_ignore_ascii_case(word)) {
                continue;
            }
            match instead {
                None => self.draft.drop_key(path, why),
                Some(instead) => {
                    (*instead).clone_into(&mut scalar.written);
                    self.draft.note_value(path, instead, why);
                }
            }
        }
    }
}
