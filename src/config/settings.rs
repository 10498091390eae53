//! The settings in force: every supported key, with its value and the origin of the value.
//!
//! Defaults are read from `portcullis.example.yml`, which a test compares with the options. So they
//! are written once, and an operator can look up what is shown.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    sync::LazyLock,
};

use serde_json::Value as Json;

use super::{
    check,
    schema::{self, Key, Kind, Support},
    source,
    tree::{Meaning, Node, Origin, Value},
};

/// The configuration in force, in the order of the example file. As text it is a configuration file
/// with the origin after each value, without secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<Setting>);

/// A line of the settings: a section, or a key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key with its sections, such as `http.tls.certificate`.
    pub key: String,
    /// As YAML; `None` for a section and for a list, whose keys and items follow. A secret is not
    /// in it.
    pub value: Option<String>,
    /// Where the value was written.
    pub origin: Origin,
    /// The name at the beginning of the line.
    name: String,
    /// How many sections it stands in.
    depth: usize,
    /// Whether an item of a list begins with it.
    is_first: bool,
    /// The hidden value, so that a changed secret counts as a change.
    hidden: Option<Hidden>,
}

/// A value that no message shows.
#[derive(Clone, PartialEq, Eq)]
struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

/// The text that replaces a secret.
const HIDDEN: &str = "\"***\"";

/// Where the comments begin, unless a value is longer.
const COLUMN: usize = 44;

impl Settings {
    /// The settings of the tree `root`, as far as keys are supported. `assumed` has the defaults that
    /// the example does not show.
    pub(super) fn of(root: &Node, assumed: &Json) -> Self {
        let mut settings = Walk { assumed, lines: Vec::new() };
        for key in schema::ROOT.keys() {
            let spot = Spot {
                path: key.name.to_owned(),
                name: key.name,
                depth: 0,
                node: root.get(key.name),
                default: EXAMPLE.get(key.name),
            };
            settings.key(key, &spot);
        }
        Self(settings.lines)
    }

    /// The lines.
    #[must_use]
    pub fn lines(&self) -> &[Setting] {
        &self.0
    }

    /// Where the value of a key was written; `None` for a key that has none.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.0.iter().find(|line| line.key == key).map(|line| &line.origin)
    }

    /// A key as messages name it: behind the place of its value, where that was written.
    #[must_use]
    pub fn place(&self, key: &str) -> String {
        match self.origin(key) {
            None | Some(Origin::Default) => key.to_owned(),
            Some(at) => format!("{at}: {key}"),
        }
    }

    /// Where the item of a list, such as `access.rules[2]`, begins; `None` if the list has no such
    /// item.
    #[must_use]
    pub fn item(&self, item: &str) -> Option<&Origin> {
        let is_in =
            |line: &&Setting| line.key.strip_prefix(item).is_some_and(|rest| rest.starts_with('.'));
        let place = |origin: &&Origin| match origin {
            Origin::File { line, column, .. } => (*line, *column),
            _ => (0, 0),
        };
        self.0.iter().filter(is_in).map(|line| &line.origin).min_by_key(place)
    }

    /// The keys whose values are not the same in both.
    #[must_use]
    pub fn changed(&self, other: &Self) -> Vec<String> {
        let lacks = |lines: &[Setting], line: &Setting| {
            !lines
                .iter()
                .any(|l| l.key == line.key && l.value == line.value && l.hidden == line.hidden)
        };
        let ours = self.values();
        let theirs = other.values();
        let gone = ours.iter().filter(|line| lacks(&theirs, line));
        let new = theirs.iter().filter(|line| lacks(&ours, line));
        let mut keys: Vec<_> = gone.chain(new).map(|line| line.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Replaces the lines of those keys by the lines of `other`.
    pub fn adopt(&mut self, other: &Self, which: impl Fn(&str) -> bool) {
        self.0.retain(|line| !which(&line.key));
        self.0.extend(other.0.iter().filter(|line| which(&line.key)).cloned());
    }

    fn values(&self) -> Vec<Setting> {
        self.0.iter().filter(|line| line.value.is_some()).cloned().collect()
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version: 0.1")?;
        for Setting { value, origin, name, depth, is_first, .. } in &self.0 {
            let indent = match is_first {
                true => format!("{}- ", "  ".repeat(depth - 1)),
                false => "  ".repeat(*depth),
            };
            match value {
                None => writeln!(f, "{indent}{name}:")?,
                Some(value) => {
                    let line = match name.is_empty() {
                        true => format!("{indent}{value}"),
                        false => format!("{indent}{name}: {value}"),
                    };
                    writeln!(f, "{line:COLUMN$} # {origin}")?;
                }
            }
        }
        Ok(())
    }
}

/// The tree of the example file. A test makes sure that it parses.
static EXAMPLE: LazyLock<Node> = LazyLock::new(|| {
    let text = include_str!("../../portcullis.example.yml");
    let mut root = source::parse_file("portcullis.example.yml".as_ref(), text)
        .unwrap_or_else(|_| Node::null(Origin::Default));
    forget_origins(&mut root);
    root
});

/// A value of the example is the default of a key that the file does not set.
fn forget_origins(node: &mut Node) {
    node.origin = Origin::Default;
    match &mut node.value {
        Value::Map(entries) => entries.iter_mut().for_each(|entry| forget_origins(&mut entry.node)),
        Value::List(items) => items.iter_mut().for_each(forget_origins),
        Value::Null | Value::Scalar(_) => {}
    }
}

/// A key, with its written value and its default.
struct Spot<'a> {
    /// The key with its sections.
    path: String,
    name: &'static str,
    /// How many sections it stands in.
    depth: usize,
    node: Option<&'a Node>,
    default: Option<&'a Node>,
}

impl<'a> Spot<'a> {
    /// A key of this section.
    fn child(&self, key: &'static Key) -> Self {
        Self {
            path: schema::join(&self.path, key.name),
            name: key.name,
            depth: self.depth + 1,
            node: child(self.node, key),
            default: child(self.default, key),
        }
    }

    /// A line for it, with the origin of `from`.
    fn line(&self, value: Option<String>, from: &Node) -> Setting {
        Setting {
            key: self.path.clone(),
            value: value.as_deref().map(visible),
            origin: from.origin.clone(),
            name: self.name.to_owned(),
            depth: self.depth,
            is_first: false,
            hidden: None,
        }
    }
}

struct Walk<'a> {
    assumed: &'a Json,
    lines: Vec<Setting>,
}

impl Walk<'_> {
    fn key(&mut self, key: &'static Key, spot: &Spot<'_>) {
        if matches!(key.support, Support::Works) {
            self.value(&key.kind, spot);
        }
    }

    fn value(&mut self, kind: &'static Kind, spot: &Spot<'_>) {
        let &Spot { node, default, .. } = spot;
        let written = node.filter(|node| !check::is_default(kind, node));
        match kind {
            Kind::Section(keys) => self.section(keys.iter(), spot),
            Kind::Switch(keys) => match written {
                Some(off) if off.written().is_some() => {
                    self.lines.push(spot.line(Some("off".to_owned()), off));
                }
                _ => self.section(keys.iter(), spot),
            },
            Kind::OneOf { of, beside } => {
                let chosen = |node: Option<&Node>| of.iter().find(|key| child(node, key).is_some());
                let chosen = chosen(node).or_else(|| chosen(default));
                self.section(chosen.into_iter().chain(beside.iter()), spot);
            }
            Kind::List(item) => match written.or(default) {
                Some(list) if !list.items().is_empty() => self.list(item, list, spot),
                _ => {}
            },
            Kind::Free if node.is_some() && written.is_none() => {
                // A choice by its name alone.
                self.lines.push(spot.line(Some("{}".to_owned()), node.unwrap_or(&EXAMPLE)));
            }
            _ => {
                let assumed = self.assumed(&spot.path).filter(|_| written.is_none());
                let assumed = assumed.map(|value| Node::text(&value, &Origin::Default));
                if let Some(node) = assumed.as_ref().or(written).or(default) {
                    let hides = match kind {
                        Kind::Headers => node.entries().iter().any(|entry| is_secret(&entry.key)),
                        kind => matches!(kind, Kind::Secret | Kind::SentHeaders),
                    };
                    let hidden = hides.then(|| Hidden(check::free(node).to_string()));
                    let line = spot.line(Some(shown(kind, node)), node);
                    self.lines.push(Setting { hidden, ..line });
                }
            }
        }
    }

    fn section(&mut self, keys: impl Iterator<Item = &'static Key>, spot: &Spot<'_>) {
        let begin = self.lines.len();
        let from = spot.node.or(spot.default).unwrap_or(&EXAMPLE);
        self.lines.push(spot.line(None, from));
        for key in keys {
            self.key(key, &spot.child(key));
        }
        if self.lines.len() == begin + 1 {
            self.lines.truncate(begin);
        }
    }

    fn list(&mut self, item: &'static Kind, list: &Node, spot: &Spot<'_>) {
        self.lines.push(spot.line(None, list));
        for (index, node) in list.items().iter().enumerate() {
            let begin = self.lines.len();
            // Keys are indented one level deeper than the dash.
            let item_spot = Spot {
                path: format!("{}[{index}]", spot.path),
                depth: spot.depth + 1,
                node: Some(node),
                default: None,
                ..*spot
            };
            for key in item.keys() {
                self.key(key, &item_spot.child(key));
            }
            if let Some(first) = self.lines.get_mut(begin) {
                first.is_first = true;
            }
        }
    }

    /// The default of a key that is not set, where the example does not show it.
    fn assumed(&self, path: &str) -> Option<String> {
        let value = self.assumed.pointer(&format!("/{}", path.replace('.', "/")))?;
        match value {
            Json::String(text) => Some(text.clone()),
            Json::Bool(value) => Some(value.to_string()),
            // A duration, and the only one is of whole hours.
            Json::Object(parts) => {
                let seconds = parts.get("secs")?.as_u64()?;
                Some(format!("{}h", seconds / 3600))
            }
            _ => None,
        }
    }
}

fn child<'a>(node: Option<&'a Node>, key: &Key) -> Option<&'a Node> {
    node.and_then(|node| node.get(key.name))
}

/// A value as YAML, in one line.
fn shown(kind: &Kind, node: &Node) -> String {
    match (kind, &node.value) {
        (Kind::Secret, _) => HIDDEN.to_owned(),
        (Kind::Headers | Kind::SentHeaders, Value::Map(entries)) => {
            let headers = entries.iter().map(|entry| {
                let values = match matches!(kind, Kind::SentHeaders) || is_secret(&entry.key) {
                    true => HIDDEN.to_owned(),
                    false => shown(&Kind::TextList, &entry.node),
                };
                format!("{}: {values}", quoted(&entry.key))
            });
            format!("{{{}}}", headers.collect::<Vec<_>>().join(", "))
        }
        (_, Value::Scalar(scalar)) => match (kind, scalar.meaning) {
            (Kind::Duration, Meaning::Integer(nanoseconds)) => format!("{nanoseconds}ns"),
            (Kind::Bool | Kind::Integer | Kind::Limit, _) => scalar.written.clone(),
            (Kind::Word(_), _) => scalar.written.to_lowercase(),
            (Kind::TextList, _) => format!("[{}]", quoted(&scalar.written)),
            (Kind::Free, _) => check::free(node).to_string(),
            _ => quoted(&without_password(&scalar.written)),
        },
        (Kind::TextList, Value::List(items)) => {
            let items: Vec<_> = items.iter().filter_map(Node::written).map(quoted).collect();
            format!("[{}]", items.join(", "))
        }
        (Kind::Headers | Kind::SentHeaders | Kind::Free, Value::Null) => "{}".to_owned(),
        _ => check::free(node).to_string(),
    }
}

/// A text that may be a URL with a user in it, without the password.
fn without_password(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once('@') {
        Some((user, _)) => {
            let name = user.split(':').next().unwrap_or(user);
            format!("{scheme}://{name}:***@{}", &rest[user.len() + 1..]).into()
        }
        None => text.into(),
    }
}

/// Whether a header of that name is likely to hold a credential.
fn is_secret(header: &str) -> bool {
    let header = header.to_ascii_lowercase();
    ["auth", "cookie", "key", "secret", "token"].iter().any(|part| header.contains(part))
}

/// A text as YAML: plain where that is unambiguous, and in quotes otherwise.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = text
        .starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_'))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._:-@".contains(c))
        && !text.ends_with(':')
        && !["null", "true", "false", "yes", "no", "on", "off"]
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word));
    if is_plain { text.to_owned() } else { in_quotes(text) }
}

/// A text as YAML, in quotes. Invisible characters are escaped.
pub(super) fn in_quotes(text: &str) -> String {
    // A JSON string is a YAML string.
    visible(&Json::from(text).to_string())
}

/// A value with its invisible characters escaped. They occur in strings only, which are written in
/// the form of JSON.
fn visible(value: &str) -> String {
    let mut shown = String::with_capacity(value.len());
    for character in value.chars() {
        if character.is_ascii_graphic() || character == ' ' || is_visible(character) {
            shown.push(character);
        } else {
            // Writing to a string does not fail.
            let _ = match u32::from(character) {
                code @ ..=0xffff => write!(shown, "\\u{code:04x}"),
                code => write!(shown, "\\U{code:08x}"),
            };
        }
    }
    shown
}

fn is_visible(character: char) -> bool {
    !character.is_ascii() && character.escape_debug().count() == 1
}
