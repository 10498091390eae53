//! The keys of the configuration, the values that each takes, and whether it is supported.
//!
//! One table drives the check of the file, the walk of the `REGISTRY_*` variables, the suggestions
//! and the warnings. It has every key of registry:2 and registry:3, supported or not: a key that is
//! missing from the table is reported as a typing error. No key is accepted and silently ignored: it
//! works, is needless, is missed, or is refused, and a sentence says why for the last three. A refused
//! key that registry:2 would not obey either ([`Harmless`]) is needless.

mod harmless;
mod table;

pub(super) use table::ROOT;

use super::tree::Node;

/// A key of a section.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// registry:2 finds the variable of a key by the name of a field in its source; this is that
    /// name where it is not the key's own.
    pub(super) alias: Option<&'static str>,
    pub(super) kind: Kind,
    pub(super) support: Support,
    /// A word that registry:2 accepts at this key and this server refuses, with the reason.
    pub(super) refuses: Option<(&'static str, &'static str)>,
    /// When a refused key changes nothing in registry:2 either.
    pub(super) harmless: Option<Harmless>,
}

/// The case in which a refused key has no effect in registry:2: a note replaces the error.
#[derive(Debug)]
pub(super) struct Harmless {
    /// The case in words, after the key or "has no effect".
    pub(super) condition: &'static str,
    /// Whether the configuration, given from its top, is such a case.
    pub(super) holds: fn(&Node) -> bool,
    /// The sentence of the note, after the condition and a colon.
    pub(super) reason: &'static str,
}

/// The values that a key takes. An empty value means the default.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    /// A text that no message may show.
    Secret,
    Bool,
    Integer,
    /// A whole number where zero and less stand for the default.
    Limit,
    /// As in Go; see [`duration`](super::duration).
    Duration,
    /// One of these words, in any case.
    Word(&'static [&'static str]),
    /// Texts; a single one may be written without brackets.
    TextList,
    /// Names of any kind, each with texts.
    Headers,
    /// The same for requests to other servers: no message may show their values.
    SentHeaders,
    /// Any value.
    Free,
    Section(&'static [Key]),
    /// A section, or `off` (also `false`) in its place.
    Switch(&'static [Key]),
    /// A section with exactly one of the keys `of`, and any of `beside`. The name of that key may
    /// replace the section.
    OneOf {
        of: &'static [Key],
        beside: &'static [Key],
    },
    /// A list of values of this kind.
    List(&'static Self),
}

/// Whether a key is supported.
#[derive(Debug)]
pub(super) enum Support {
    Works,
    /// An older spelling, replaced before the check; see [`legacy`](super::legacy).
    Old,
    /// The server behaves as the key asks in any case, or the key cannot matter here. The sentence
    /// says why, after "has no effect: ", in a note.
    Needless(&'static str),
    /// An operator may rely on the key, and to ignore it is safe. The sentence says what the server
    /// does instead, after "has no effect: ", in a warning.
    Missed(&'static str),
    /// The key is not supported, and to ignore it is not safe. The sentence says why, and what to do
    /// instead.
    Refused(&'static str),
}

impl Key {
    const fn new(name: &'static str, kind: Kind, support: Support) -> Self {
        Self { name, alias: None, kind, support, refuses: None, harmless: None }
    }

    /// Adds the field name that registry:2 looks for in the environment.
    const fn alias(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    /// Refuses one word, for this reason.
    const fn refusing(mut self, word: &'static str, reason: &'static str) -> Self {
        self.refuses = Some((word, reason));
        self
    }

    /// Replaces the error by a note in this case.
    const fn unless(mut self, harmless: Harmless) -> Self {
        self.harmless = Some(harmless);
        self
    }

    /// The names that a variable may use.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.alias)
    }
}

impl Kind {
    /// The keys of a section; no keys for other kinds.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static Key> {
        let (keys, more): (&'static [Key], &'static [Key]) = match self {
            Self::Section(keys) | Self::Switch(keys) => (keys, &[]),
            Self::OneOf { of, beside } => (of, beside),
            _ => (&[], &[]),
        };
        keys.iter().chain(more)
    }

    /// The key of this name.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

/// `section.key`, or the key alone at the top.
pub(super) fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// The paths of the sections that have a key of this name, those nearest to the top first. Items of
/// lists are left out.
pub(super) fn homes(name: &str) -> Vec<String> {
    fn collect(section: &str, kind: &Kind, name: &str, homes: &mut Vec<String>) {
        for key in kind.keys() {
            if key.name == name {
                homes.push(section.to_owned());
            }
            // A refused section is not a suggestion.
            if !matches!(key.support, Support::Refused(_)) {
                collect(&join(section, key.name), &key.kind, name, homes);
            }
        }
    }
    let mut homes = Vec::new();
    collect("", &ROOT, name, &mut homes);
    homes.sort_by_key(|home| home.matches('.').count() + usize::from(!home.is_empty()));
    homes
}

/// Every supported key that takes a value itself, with its path.
#[cfg(test)]
pub(super) fn leaves() -> Vec<(String, &'static Key)> {
    let mut leaves = Vec::new();
    collect("", &ROOT, &mut leaves);
    leaves
}

#[cfg(test)]
fn collect(section: &str, kind: &Kind, leaves: &mut Vec<(String, &'static Key)>) {
    for key in kind.keys() {
        if !matches!(key.support, Support::Works) {
            continue;
        }
        let path = join(section, key.name);
        let before = leaves.len();
        collect(&path, &key.kind, leaves);
        let is_leaf = key.kind.keys().next().is_none();
        if is_leaf {
            leaves.insert(before, (path, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(section: &str, kind: &Kind, see: &mut impl FnMut(&str, &Kind)) {
        see(section, kind);
        for key in kind.keys() {
            visit(&join(section, key.name), &key.kind, see);
        }
    }

    #[test]
    fn no_section_has_a_key_twice() {
        visit("", &ROOT, &mut |section, kind| {
            let mut names: Vec<_> = kind.keys().map(|key| key.name).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{section}");
        });
    }

    #[test]
    fn leaves_are_the_keys_that_work() {
        let paths: Vec<_> = leaves().into_iter().map(|(path, _)| path).collect();
        for expected in [
            "log.level",
            "storage.filesystem.rootdirectory",
            "storage.inmemory",
            "auth.htpasswd.cachettl",
            "auth.none",
            "http.tls.certificate",
            "tags.maxtags",
        ] {
            assert!(paths.iter().any(|path| path == expected), "{expected}");
        }
        assert!(!paths.iter().any(|path| path.starts_with("redis")));
    }
}
