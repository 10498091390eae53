//! The `REGISTRY_*` variables, laid over the tree of the file.
//!
//! A variable names a key with `_` between the levels. Since a key may contain `_` itself, the name
//! is not split but matched: each level matches the longest known key that fits. A variable that fits
//! no key causes a warning only, since other programs set such variables, too: beside a service called
//! `registry`, Kubernetes sets `REGISTRY_PORT`. `foreign` has the variables that look like settings.

use super::{
    error::Error,
    foreign,
    schema::{self, Key, Kind},
    source, suggest,
    tree::{Node, Value},
};

const PREFIX: &str = "REGISTRY_";

/// The rest of the variable that names the file.
const PATH: &str = "CONFIGURATION_PATH";

/// Lays the variables over the tree, in the order of their names: so `REGISTRY_AUTH`, which
/// replaces the whole section, comes before `REGISTRY_AUTH_HTPASSWD_PATH`. An invalid variable has no
/// effect but an error or a warning.
pub(super) fn overlay(
    root: &mut Node,
    environment: impl IntoIterator<Item = (String, String)>,
    warnings: &mut Vec<String>,
    errors: &mut Vec<Error>,
) {
    let mut variables: Vec<_> = environment.into_iter().collect();
    variables.sort();
    for (name, value) in variables {
        if let Some(rest) = name.strip_prefix(foreign::OURS) {
            warnings.extend(foreign::of_ours(rest, names_key(root, rest)));
            continue;
        }
        if !name.starts_with(PREFIX) {
            match foreign::version_1(&name, &value) {
                Ok(warning) => warnings.extend(warning),
                Err(error) => errors.push(error),
            }
            continue;
        }
        // No key has such a name, and a terminal could interpret the name if it were printed raw.
        if name.contains(char::is_control) {
            let name = name.escape_debug();
            warnings.push(format!("{name} names no key of the configuration and has no effect"));
            continue;
        }
        let variable = Variable { name: &name };
        match name.strip_prefix(PREFIX) {
            // The name of the file, which was read before.
            None | Some(PATH) => {}
            Some("VERSION") => warnings.push(format!(
                "{name} has no effect: the version describes the file and is written there"
            )),
            Some(rest) => match variable.resolve(Place::root(root), rest) {
                Ok(steps) => match source::parse_variable(&name, &value) {
                    Ok(node) => {
                        write(root, &steps, node);
                        expand_words(root);
                    }
                    Err(error) => errors.push(error),
                },
                Err(Miss::Unknown { rest, kind }) => warnings.push(unknown(&name, &rest, kind)),
                Err(Miss::Wrong(error)) => errors.push(error),
            },
        }
    }
}

/// Whether a variable of this name behind its prefix would be read.
fn names_key(root: &Node, rest: &str) -> bool {
    rest == PATH || Variable { name: rest }.resolve(Place::root(root), rest).is_ok()
}

/// Turns `storage: inmemory` and `auth: htpasswd` into sections, so that variables can set keys
/// below them.
pub(super) fn expand_words(root: &mut Node) {
    for key in schema::ROOT.keys() {
        if !matches!(key.kind, Kind::OneOf { .. }) || root.get(key.name).is_none() {
            continue;
        }
        let origin = root.origin.clone();
        let node = root.child_mut(key.name, &origin);
        // A word with control characters is not a key; the check reports it, escaped.
        let word = node.word().filter(|word| !word.contains(char::is_control));
        if let Some(word) = word.map(str::to_owned) {
            let origin = node.origin.clone();
            *node = Node::null(origin.clone());
            node.child_mut(&word, &origin);
        }
    }
}

/// One step down the tree.
#[derive(Debug, PartialEq)]
enum Step {
    Key(String),
    Item(usize),
}

/// Why a variable names no place in the tree.
enum Miss {
    /// It names no key of ours: `rest` is no key of `kind`.
    Unknown { rest: String, kind: &'static Kind },
    /// It names a key of ours, with a mistake in the name or in the value that it would replace.
    Wrong(Error),
}

fn unknown(name: &str, rest: &str, kind: &'static Kind) -> String {
    let parent = name.strip_suffix(rest).unwrap_or(PREFIX);
    let (head, tail) = rest.split_at(rest.find('_').unwrap_or(rest.len()));
    let near = |word| suggest::nearest(word, kind.keys().flat_map(Key::names));
    let hint = match (near(rest), near(head)) {
        (Some(key), _) => format!("; did you mean {parent}{}?", key.to_uppercase()),
        (None, Some(key)) => format!("; did you mean {parent}{}{tail}?", key.to_uppercase()),
        // A variable of another program may be named like a key of ours, deeper down.
        (None, None) if parent == PREFIX => match schema::homes(&head.to_lowercase()).as_slice() {
            [home] if !home.is_empty() => {
                let home = home.replace('.', "_").to_uppercase();
                format!("; did you mean {PREFIX}{home}_{rest}?")
            }
            _ => String::new(),
        },
        (None, None) => String::new(),
    };
    format!("{name} names no key of the configuration and has no effect{hint}")
}

/// A place on the way down: its kind in the schema, and its node in the tree.
#[derive(Clone, Copy)]
struct Place<'a> {
    kind: &'static Kind,
    node: Option<&'a Node>,
    path: &'a str,
}

impl<'a> Place<'a> {
    fn root(node: &'a Node) -> Self {
        Self { kind: &schema::ROOT, node: Some(node), path: "" }
    }
}

struct Variable<'a> {
    name: &'a str,
}

impl Variable<'_> {
    /// The steps that the rest of the name describes. They are found before anything is written, so
    /// that the variable of another program changes nothing in the tree.
    fn resolve(&self, at: Place<'_>, rest: &str) -> Result<Vec<Step>, Miss> {
        match at.kind {
            Kind::List(_) | Kind::TextList => self.item(at, rest),
            Kind::Headers | Kind::SentHeaders | Kind::Free => self.free(at, rest),
            _ => self.key(at, rest),
        }
    }

    fn key(&self, at: Place<'_>, rest: &str) -> Result<Vec<Step>, Miss> {
        let candidates = at.kind.keys().flat_map(|key| key.names().map(move |name| (name, key)));
        let Some((key, rest)) = longest(candidates, rest) else {
            return Err(Miss::Unknown { rest: rest.to_owned(), kind: at.kind });
        };
        if let Some(node) = at.node {
            // `http.tls: off` gives way to a variable; any other value in place of a section is a
            // mistake that must not be hidden by one.
            let is_section = matches!(node.value, Value::Null | Value::Map(_));
            if !is_section && !matches!(at.kind, Kind::Switch(_)) {
                return Err(Miss::Wrong(Error::Mismatch {
                    at: node.origin.clone(),
                    key: at.path.to_owned(),
                    expected: "a section".to_owned(),
                    found: node.describe(),
                }));
            }
        }
        let node = at.node.and_then(|node| node.get(key.name));
        let path = schema::join(at.path, key.name);
        let place = Place { kind: &key.kind, node, path: &path };
        self.descend(Step::Key(key.name.to_owned()), place, rest)
    }

    fn item(&self, at: Place<'_>, rest: &str) -> Result<Vec<Step>, Miss> {
        let (index, rest) = match rest.split_once('_') {
            Some((index, rest)) => (index, Some(rest)),
            None => (rest, None),
        };
        let items = at.node.map_or(&[][..], Node::items);
        let number = index.parse().ok().filter(|number| *number <= items.len());
        let Some(number) = number else {
            return Err(Miss::Wrong(Error::Index {
                variable: self.name.to_owned(),
                key: at.path.to_owned(),
                index: index.to_owned(),
                len: items.len(),
            }));
        };
        let place = Place {
            kind: item_kind(at.kind),
            node: items.get(number),
            path: &format!("{}[{number}]", at.path),
        };
        self.descend(Step::Item(number), place, rest)
    }

    /// Keys of any name: an existing one, or else the whole rest is a new key.
    fn free(&self, at: Place<'_>, rest: &str) -> Result<Vec<Step>, Miss> {
        if at.node.is_some_and(|node| matches!(node.value, Value::List(_))) {
            return self.item(at, rest);
        }
        let below = match at.kind {
            Kind::Headers | Kind::SentHeaders => &Kind::TextList,
            _ => &Kind::Free,
        };
        let entries = at.node.map_or(&[][..], Node::entries);
        let existing = longest(entries.iter().map(|entry| (&*entry.key, entry)), rest);
        let (name, node, rest) = match existing {
            Some((entry, None)) => (entry.key.clone(), Some(&entry.node), None),
            Some((entry, Some(more))) if holds_more(below, &entry.node) => {
                (entry.key.clone(), Some(&entry.node), Some(more))
            }
            _ => match rest.rsplit_once('_') {
                // The values of a header are numbered from 0.
                Some((name, "0")) if matches!(below, Kind::TextList) => {
                    (name.to_lowercase(), None, Some("0"))
                }
                _ => (rest.to_lowercase(), None, None),
            },
        };
        let place = Place { kind: below, node, path: &schema::join(at.path, &name) };
        self.descend(Step::Key(name), place, rest)
    }

    fn descend(&self, step: Step, to: Place<'_>, rest: Option<&str>) -> Result<Vec<Step>, Miss> {
        let mut steps = vec![step];
        if let Some(rest) = rest {
            steps.extend(self.resolve(to, rest)?);
        }
        Ok(steps)
    }
}

/// The kind of an item of a list.
fn item_kind(kind: &'static Kind) -> &'static Kind {
    match kind {
        Kind::TextList => &Kind::Text,
        Kind::List(item) => item,
        _ => &Kind::Free,
    }
}

/// Whether a name may go on below this entry of a free-form section.
fn holds_more(kind: &Kind, node: &Node) -> bool {
    matches!(kind, Kind::TextList) || matches!(node.value, Value::Map(_) | Value::List(_))
}

/// The longest of the names that `text` equals, or begins with before a `_`, in any case; with the
/// rest of the text.
fn longest<'t, 'n, T>(
    names: impl Iterator<Item = (&'n str, T)>,
    text: &'t str,
) -> Option<(T, Option<&'t str>)> {
    names
        .filter_map(|(name, what)| {
            let head = text.get(..name.len())?;
            let rest = match &text[name.len()..] {
                "" => None,
                rest => Some(rest.strip_prefix('_')?),
            };
            head.eq_ignore_ascii_case(name).then_some((name.len(), (what, rest)))
        })
        .max_by_key(|(len, _)| *len)
        .map(|(_, found)| found)
}

fn write(root: &mut Node, steps: &[Step], value: Node) {
    let origin = value.origin.clone();
    let mut node = root;
    for step in steps {
        node = match step {
            Step::Key(key) => node.child_mut(key, &origin),
            Step::Item(index) => node.item_mut(*index, &origin),
        };
    }
    *node = value;
}
