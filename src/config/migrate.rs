//! Moves the configuration of a registry:2, and of the nginx before it, into a file of ours.
//!
//! - `nginx` parses the syntax, `site` knows what directives mean here;
//! - `prune` drops the keys that would be refused, or have no effect;
//! - `render` writes the file, with a comment for each dropped key and each new value.
//!
//! The written file can be loaded; a file for which that is impossible is an error, as it is for
//! [`Config::load`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use super::{
    Config, Error, environment, legacy, quoted, source,
    tree::{self, Meaning, Node, Origin, Scalar},
    versioned,
};

mod nginx;
mod prune;
mod render;
mod site;

pub use nginx::SyntaxError;
pub use site::{Site, SiteError};

use site::Value;

/// A new configuration, and how it differs from the old ones.
#[derive(Debug)]
pub struct Migration {
    /// The content of the new file.
    pub yaml: String,
    /// The differences: of registry:2's file in its order, then of nginx's.
    pub changes: Vec<Change>,
}

/// A difference between the old configuration and the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key has a new value.
    Set {
        /// The key with its sections.
        key: String,
        /// The new value.
        value: String,
        /// Where the value comes from, or why it is another one.
        why: String,
    },
    /// A key of registry:2's file is not in the new one.
    Dropped {
        /// The key with its sections.
        key: String,
        /// Why, and what the server does instead.
        why: String,
    },
    /// A directive of nginx that a registry without nginx does not need.
    Needless {
        /// The directive, with its place.
        what: String,
        /// Why not.
        why: String,
    },
    /// Something that nginx did, or registry:2 did, and the new configuration does not do.
    Left {
        /// The directive, with its place, or the key.
        what: String,
        /// Why, and what to do.
        why: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { key, value, why } => write!(f, "set {key} to {value}: {why}"),
            Self::Dropped { key, why } => write!(f, "dropped {key}: {why}"),
            Self::Needless { what, why } => write!(f, "not needed: {what}: {why}"),
            Self::Left { what, why } => write!(f, "NOT TAKEN OVER: {what}: {why}"),
        }
    }
}

/// Makes a configuration of registry:2's file, whose content is `text` and whose name in messages is
/// `file`, and of the site of nginx. With `legacy_formats` the password file of the site has hashes
/// that are not bcrypt.
///
/// # Errors
///
/// When the file cannot be read as [`Config::load`] reads it, has an invalid value, or says that images
/// are somewhere else than in a directory of this machine.
pub fn migrate(
    file: &Path,
    text: &str,
    site: Option<&Site>,
    legacy_formats: bool,
) -> Result<Migration, Error> {
    let mut errors = Vec::new();
    let mut root = versioned(file, source::parse_file(file, text)?, &mut errors);
    let mut remarks = Vec::new();
    let mut notes = Vec::new();
    environment::expand_words(&mut root);
    legacy::modernise(&mut root, &mut remarks);
    quoted::unquote(&mut root, &mut remarks, &mut notes);
    let mut draft = Draft::default();
    draft.prune(&mut root, &mut errors);
    Error::of(errors)?;
    draft.drop_checks_of_redis(&mut root);
    draft.defaults(&root, site);
    if let Some(site) = site {
        draft.overlay(&mut root, site, legacy_formats);
    }
    draft.changes.extend(
        remarks
            .into_iter()
            .chain(notes)
            .map(|remark| Change::Needless { what: "spelling".to_owned(), why: remark }),
    );
    let yaml = draft.render(file, &root);
    match load(file, &yaml) {
        Ok(()) => Ok(Migration { yaml, changes: draft.changes }),
        // The error of the new text has places in it, which the user does not see: those of the old file help.
        Err(error) => Err(load(file, text).err().unwrap_or(error)),
    }
}

fn load(file: &Path, text: &str) -> Result<(), Error> {
    Config::from_text(file, text, []).map(|_| ())
}

/// A configuration that is being written.
#[derive(Debug, Default)]
struct Draft {
    changes: Vec<Change>,
    /// Comments by the key that they are about: those of a dropped key stand in its place.
    comments: BTreeMap<String, String>,
    /// The keys that were dropped.
    dropped: BTreeSet<String>,
}

impl Draft {
    fn drop_key(&mut self, key: &str, why: &str) {
        self.comments.insert(key.to_owned(), format!("{key} dropped: {why}"));
        self.dropped.insert(key.to_owned());
        self.changes.push(Change::Dropped { key: key.to_owned(), why: why.to_owned() });
    }

    /// Removes the health checks of the Redis that is dropped: without it they would make the server
    /// unhealthy.
    fn drop_checks_of_redis(&mut self, root: &mut Node) {
        let redis = root.get("redis");
        let addrs = redis.and_then(|redis| redis.get("addrs")).map_or(&[][..], Node::items);
        let addrs = redis.and_then(|redis| redis.get("addr")).into_iter().chain(addrs);
        let addrs: Vec<_> = addrs.filter_map(Node::written).map(str::to_owned).collect();
        let has_checks = root.get("health").is_some_and(|health| health.get("tcp").is_some());
        if addrs.is_empty() || !has_checks {
            return;
        }
        let tree::Value::List(checks) = &mut node_at(root, "health.tcp").value else { return };
        let before = checks.len();
        checks.retain(|check| {
            let addr = check.get("addr").and_then(Node::written);
            !addr.is_some_and(|addr| addrs.iter().any(|redis| redis == addr))
        });
        if checks.len() < before {
            self.replaced("health.tcp", "the check of Redis: without Redis every request gets 503");
        }
    }

    /// Records that a key is gone from the tree.
    fn replaced(&mut self, key: &str, why: &str) {
        self.changes.push(Change::Dropped { key: key.to_owned(), why: why.to_owned() });
    }

    /// Says what a file that does not mention TLS or passwords means here.
    fn defaults(&mut self, root: &Node, site: Option<&Site>) {
        let mut left = |what: &str, why: &str| {
            self.changes.push(Change::Left { what: what.to_owned(), why: why.to_owned() });
        };
        let has = |section: &str, key: &str| {
            root.get(section).and_then(|node| node.get(key)).is_some_and(|node| !node.is_null())
        };
        let has_certificate = root
            .get("http")
            .and_then(|http| http.get("tls"))
            .is_some_and(|tls| tls.get("certificate").is_some());
        if site.is_none() && !has_certificate {
            left(
                "plain HTTP",
                "registry:2's file has no certificate, and Portcullis makes one in certs/; name \
                 yours in http.tls.certificate and http.tls.key, or nginx's site with --nginx",
            );
        }
        let asks = site.is_some_and(|site| site.password_file().is_some());
        if !asks && !has("auth", "htpasswd") && root.get("auth").is_none_or(is_without_keys) {
            left(
                "no passwords",
                "registry:2 let every client in, and Portcullis makes the password file \
                 auth/htpasswd with one user; `auth: none` lets every client in",
            );
        }
    }

    /// Puts the values of the site over those of the file.
    fn overlay(&mut self, root: &mut Node, site: &Site, legacy_formats: bool) {
        let origin = Origin::Default;
        self.changes.extend(site.changes.iter().cloned());
        let is_set = |root: &Node, section: &str, key: &str| {
            root.get(section).and_then(|node| node.get(key)).is_some_and(|node| !node.is_null())
        };
        let has_users = is_set(root, "auth", "htpasswd");
        let has_host = is_set(root, "http", "host");
        let http = root.child_mut("http", &origin);
        if http.remove("net").is_some() {
            self.replaced("http.net", "the registry listens where nginx did");
        }
        if http.remove("tls").is_some_and(|tls| !tls.is_null()) {
            self.replaced("http.tls", "it was the encryption between nginx and registry:2");
        }
        for setting in &site.settings {
            let is_kept = match setting.key {
                "http.host" => has_host,
                key => key.starts_with("auth.") && has_users,
            };
            if is_kept {
                let what = setting.why.clone();
                let why = format!("registry:2's file has {} already", setting.key);
                self.changes.push(Change::Left { what, why });
                continue;
            }
            self.set(root, setting.key, &setting.value, &setting.why);
        }
        if legacy_formats && !has_users {
            let why = "a user of nginx's password file has a hash that is not bcrypt";
            *node_at(root, "auth.htpasswd.legacyformats") = boolean("true", true);
            self.note_value("auth.htpasswd.legacyformats", "true", why);
        }
        if !site.has_tls {
            let why = "nginx did not encrypt; remove this line for HTTPS";
            *node_at(root, "http.tls") = boolean("off", false);
            self.note_value("http.tls", "off", why);
        }
        self.headers(root, site);
    }

    fn set(&mut self, root: &mut Node, key: &str, value: &Value, why: &str) {
        let node = node_at(root, key);
        let shown = match value {
            Value::Text(text) => {
                *node = Node::text(text, &Origin::Default);
                text.clone()
            }
            Value::Texts(texts) => {
                node.value = texts_of(texts);
                texts.join(", ")
            }
        };
        let shown = format!("`{}`", shown.escape_debug());
        self.note_value(key, &shown, &format!("nginx's {why}"));
    }

    fn note_value(&mut self, key: &str, value: &str, why: &str) {
        self.comments.insert(key.to_owned(), why.to_owned());
        self.dropped.remove(key);
        let (key, value, why) = (key.to_owned(), value.to_owned(), why.to_owned());
        self.changes.push(Change::Set { key, value, why });
    }

    /// nginx added its headers to those of registry:2; of two with the same name clients saw both, and
    /// the site is the later word.
    fn headers(&mut self, root: &mut Node, site: &Site) {
        let mut values: Vec<(&str, Vec<String>, &str)> = Vec::new();
        for header in &site.headers {
            match values.iter_mut().find(|(name, ..)| name.eq_ignore_ascii_case(&header.name)) {
                Some((_, values, _)) => values.push(header.value.clone()),
                None => values.push((&header.name, vec![header.value.clone()], &header.why)),
            }
        }
        for (name, values, why) in values {
            let headers = node_at(root, "http.headers");
            let same = headers.entries().iter().find(|entry| entry.key.eq_ignore_ascii_case(name));
            let name = same.map_or_else(|| name.to_owned(), |entry| entry.key.clone());
            headers.child_mut(&name, &Origin::Default).value = texts_of(&values);
            let shown = format!("`{}`", values.join(", ").escape_debug());
            self.note_value(&format!("http.headers.{name}"), &shown, &format!("nginx's {why}"));
        }
    }
}

/// Whether a section has no key with a value, so that the default applies.
fn is_without_keys(node: &Node) -> bool {
    node.entries().is_empty()
}

/// The node of a key, with the sections above it.
fn node_at<'a>(root: &'a mut Node, key: &str) -> &'a mut Node {
    key.split('.').fold(root, |node, key| node.child_mut(key, &Origin::Default))
}

fn boolean(written: &str, value: bool) -> Node {
    let scalar = Scalar { written: written.to_owned(), meaning: Meaning::Bool(value) };
    Node { value: tree::Value::Scalar(scalar), origin: Origin::Default }
}

fn texts_of(texts: &[String]) -> tree::Value {
    tree::Value::List(texts.iter().map(|text| Node::text(text, &Origin::Default)).collect())
}

#[cfg(test)]
mod tests;
