//! The configuration: registry:2's YAML file, the `REGISTRY_*` variables over it, defaults below.
//!
//! Every part of the program defines its own options; this room reads them all, and no part knows
//! where its options come from. On the way:
//!
//! - `source` makes a tree of the file, whose nodes remember where they were written;
//! - `environment` lays the variables over it, `legacy` replaces old spellings, `quoted` takes quotes
//!   off what is no text;
//! - `check` holds the tree against the table in `schema` and makes JSON of it;
//! - `sections` reads the options from that, and here what is safe to assume is assumed;
//! - `settings` says what came of it all.
//!
//! A configuration can make the server less safe only in words: what it does not mention stays
//! closed. A new option needs a field in the options of its part, a line in `schema`, and a line
//! in `portcullis.example.yml`; tests hold the three together.

use std::{net::IpAddr, path::Path};

use serde_json::{Value as Json, json};

use crate::{
    gate, health, http, notify, registry,
    server::{self, TlsOptions, TlsVersion},
    storage, telemetry,
};

mod check;
mod duration;
mod environment;
mod error;
mod legacy;
mod quoted;
mod schema;
mod sections;
mod settings;
mod source;
mod suggest;
mod tree;

#[cfg(test)]
mod tests;

pub use duration::parse as parse_duration;
pub use error::Error;
pub use settings::{Setting, Settings};
pub use tree::Origin;

use sections::Sections;
use tree::Node;

/// Everything that can be configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// `log`
    pub log: telemetry::Options,
    /// `storage`
    pub storage: Storage,
    /// `auth`
    pub auth: gate::Options,
    /// `http`
    pub http: Http,
    /// `catalog`
    pub catalog: http::CatalogOptions,
    /// `tags`
    pub tags: http::TagsOptions,
    /// `uploads`
    pub uploads: http::UploadsOptions,
    /// `notifications`
    pub notifications: notify::Options,
    /// `validation`
    pub validation: registry::Validation,
    /// `policy`
    pub policy: registry::PolicyOptions,
    /// `health`
    pub health: health::Options,
    /// Every key with its value, and where that was written.
    pub settings: Settings,
    /// What the operator should know about the configuration, a sentence each.
    pub warnings: Vec<String>,
    /// What is in the configuration and need not be, a sentence each.
    pub notes: Vec<String>,
}

/// `storage`: where the bytes are, and what may happen to them.
#[derive(Clone, Debug)]
pub struct Storage {
    /// The driver.
    pub backend: storage::Options,
    /// `storage.delete`
    pub delete: http::DeleteOptions,
    /// `storage.maintenance`
    pub maintenance: Maintenance,
    /// `storage.immutabletags` and `storage.retention`
    pub tags: registry::TagRules,
}

/// `storage.maintenance`
#[derive(Clone, Debug, Default)]
pub struct Maintenance {
    /// `storage.maintenance.readonly`
    pub readonly: http::ReadOnlyOptions,
    /// `storage.maintenance.uploadpurging`
    pub uploadpurging: registry::PurgeOptions,
    /// `storage.maintenance.garbagecollection`
    pub garbagecollection: registry::CollectionOptions,
}

/// `http`: the part about sockets and the part about requests.
#[derive(Clone, Debug)]
pub struct Http {
    /// Sockets and TLS.
    pub server: server::Options,
    /// Requests and responses.
    pub api: http::Options,
}

/// How many there are; registry:2's own list has them all.
const TLS13_SUITES: usize = 3;

/// Where registry:2 keeps its images when `storage.filesystem` does not say.
const ROOT_DIRECTORY: &str = "/var/lib/registry";

impl Config {
    /// Reads the configuration from `file`, if there is one, and from those variables of
    /// `environment` whose names begin with `REGISTRY_`; they win over the file.
    ///
    /// Without a file, variables or not, images can be deleted and are kept in `data` of the
    /// working directory. With one, as in registry:2, deletion has to be enabled, and
    /// `storage.filesystem` means `/var/lib/registry` unless it says otherwise; a file that names
    /// no driver at all, which registry:2 would refuse, gets `data` and a warning.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not of version 0.1, when a key is unknown or has a value
    /// that it does not take, and when something is asked for that cannot be left out safely. Of
    /// several of these, all are named.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        match file {
            Some(file) => Self::from_text(file, &source::text(file)?, environment),
            None => Self::assemble(None, environment, Vec::new()),
        }
    }

    /// Reads the configuration as [`load`](Self::load) does when there is a file, of which `text`
    /// is the content; `file` is only what messages call it.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load), but for a file that cannot be read.
    pub fn from_text(
        file: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let mut errors = Vec::new();
        let root = source::parse_file(file, text)?;
        Self::assemble(Some(versioned(file, root, &mut errors)), environment, errors)
    }

    /// `errors` are those that were found before.
    fn assemble(
        file: Option<Node>,
        environment: impl IntoIterator<Item = (String, String)>,
        mut errors: Vec<Error>,
    ) -> Result<Self, Error> {
        let (mut warnings, mut notes) = (Vec::new(), Vec::new());
        let has_file = file.is_some();
        let mut root = file.unwrap_or_else(|| Node::null(Origin::Default));
        environment::expand_words(&mut root);
        environment::overlay(&mut root, environment, &mut warnings, &mut errors);
        legacy::modernise(&mut root, &mut warnings);
        quoted::unquote(&mut root, &mut warnings, &mut notes);
        let json = check::check(&root, &mut warnings, &mut notes, &mut errors);
        let mut checked = Checked { json, root };
        checked.apply_defaults(has_file, &mut warnings);
        let config = checked.config(&mut errors);
        if let Some(config) = &config
            && errors.is_empty()
        {
            errors.extend(checked.cross_check(config).err());
        }
        Error::of(errors)?;
        let Some(mut config) = config else {
            unreachable!("what could not be read is among the errors")
        };
        checked.warnings(&config, &mut warnings);
        checked.notes(&config, &mut notes);
        (config.warnings, config.notes) = (warnings, notes);
        Ok(config)
    }
}

/// Takes the version off the tree of a file. What is no section has none, and nothing else either.
fn versioned(file: &Path, mut root: Node, errors: &mut Vec<Error>) -> Node {
    if !matches!(root.value, tree::Value::Map(_)) {
        root = Node::null(root.origin);
    }
    match root.remove("version").filter(|version| !version.is_null()) {
        None => errors.push(Error::VersionMissing { file: file.to_owned() }),
        // A number to YAML, unless it is quoted: the characters count.
        Some(version) if version.written() == Some("0.1") => {}
        Some(version) => {
            errors.push(Error::Version { found: version.describe(), at: version.origin });
        }
    }
    root
}

/// A configuration that fits the schema.
struct Checked {
    json: Json,
    root: Node,
}

impl Checked {
    /// Fills in those defaults that depend on whether there is a file.
    fn apply_defaults(&mut self, has_file: bool, warnings: &mut Vec<String>) {
        let has_driver =
            |driver| self.json.pointer("/storage").is_some_and(|s| s.get(driver).is_some());
        let (filesystem, inmemory) = (has_driver("filesystem"), has_driver("inmemory"));
        if has_file && !filesystem && !inmemory {
            warnings.push(
                "storage names no driver: images are kept in `data` of the working directory; \
                 set storage.filesystem.rootdirectory to keep them elsewhere"
                    .to_owned(),
            );
        }
        if has_file && filesystem {
            self.default("storage", "filesystem", ("rootdirectory", json!(ROOT_DIRECTORY)));
        }
        if !has_file {
            self.default("storage", "delete", ("enabled", json!(true)));
        }
    }

    fn default(&mut self, section: &str, subsection: &str, (key, value): (&str, Json)) {
        // Indexing makes the sections that are missing; after the check, what is there is one.
        let slot = &mut self.json[section][subsection][key];
        if slot.is_null() {
            *slot = value;
        }
    }

    /// The options of every part; `None` where they cannot be read, and then there are errors.
    fn config(&self, errors: &mut Vec<Error>) -> Option<Config> {
        let mut sections = Sections { checked: self, errors };
        let backend = if self.json.pointer("/storage/inmemory").is_some() {
            Some(storage::Options::Memory)
        } else {
            sections.options("storage.filesystem").map(storage::Options::Filesystem)
        };
        // All of them are read before the first that could not be is given up for.
        let (delete, readonly) =
            (sections.options("storage.delete"), sections.options("storage.maintenance.readonly"));
        let (uploadpurging, garbagecollection) = (
            sections.options("storage.maintenance.uploadpurging"),
            sections.options("storage.maintenance.garbagecollection"),
        );
        let rules = sections.options("storage");
        let (log, auth) = (sections.options("log"), sections.options("auth"));
        let (server, api) = (sections.options("http"), sections.options("http"));
        let (catalog, tags) = (sections.options("catalog"), sections.options("tags"));
        let (uploads, notifications) =
            (sections.options("uploads"), sections.options("notifications"));
        let (health, validation) = (sections.options("health"), sections.options("validation"));
        let policy = sections.options("policy");
        Some(Config {
            log: log?,
            storage: Storage {
                backend: backend?,
                delete: delete?,
                maintenance: Maintenance {
                    readonly: readonly?,
                    uploadpurging: uploadpurging?,
                    garbagecollection: garbagecollection?,
                },
                tags: rules?,
            },
            auth: auth?,
            http: Http { server: server?, api: api? },
            catalog: catalog?,
            tags: tags?,
            uploads: uploads?,
            notifications: notifications?,
            health: health?,
            validation: validation?,
            policy: policy?,
            settings: Settings::of(&self.root, &self.json),
            warnings: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// The place of the path, or of as much of it as was written.
    fn nearest(&self, path: &[String]) -> (String, Origin) {
        let mut node = &self.root;
        let mut key = String::new();
        for segment in path {
            let index = segment.trim_matches(['[', ']']).parse::<usize>().ok();
            let item = index.and_then(|index| node.items().get(index));
            if let Some(item) = item {
                key.push_str(segment);
                node = item;
            } else if let Some(child) = node.get(segment) {
                key = schema::join(&key, segment);
                node = child;
            } else {
                break;
            }
        }
        (key, node.origin.clone())
    }

    /// Refuses options that contradict each other.
    fn cross_check(&self, config: &Config) -> Result<(), Error> {
        let options = &config.http.server;
        let refuse = |path: &[&str], message: &str| {
            let path: Vec<_> = path.iter().copied().map(str::to_owned).collect();
            let (key, at) = self.nearest(&path);
            Err(Error::Value { at, key, message: message.to_owned() })
        };
        if !options.redirectaddr.is_empty() && matches!(options.tls, TlsOptions::Off) {
            let message = "sends clients to HTTPS, and http.tls is off; remove one of the two";
            return refuse(&["http", "redirectaddr"], message);
        }
        if options.net == server::Net::Unix && self.json.pointer("/http/addr").is_none() {
            let message = "`unix` needs http.addr, the path of the socket";
            return refuse(&["http", "net"], message);
        }
        if let TlsOptions::On { minimum: TlsVersion::Tls12, suites, .. } = &options.tls
            && !suites.is_empty()
            && suites.iter().all(|suite| suite.version() == TlsVersion::Tls13)
        {
            let message = "has no suite of TLS 1.2, which http.tls.minimumtls lets clients speak; \
                           add one that begins with TLS_ECDHE_, or set minimumtls to tls1.3";
            return refuse(&["http", "tls", "ciphersuites"], message);
        }
        Ok(())
    }

    /// Adds warnings of options that are allowed and dangerous.
    fn warnings(&self, config: &Config, warnings: &mut Vec<String>) {
        let mut warn = |path: &[&str], what: &str| warnings.push(self.about(path, what));
        let options = &config.http.server;
        let off = matches!(options.tls, TlsOptions::Off);
        // Through a file nothing travels.
        if off && options.net == server::Net::Tcp {
            warn(
                &["http", "tls"],
                "is off: passwords and images travel readable to anybody on the way",
            );
        }
        if options.h2c.enabled && !off {
            warn(
                &["http", "h2c"],
                "has no effect: it is for plain HTTP, and by TLS clients get HTTP/2 anyway",
            );
        }
        if matches!(options.tls, TlsOptions::On { clients: None, .. })
            && self.json.pointer("/http/tls/clientauth").is_some()
        {
            warn(
                &["http", "tls", "clientauth"],
                "has no effect: no client is asked for a certificate unless http.tls.clientcas \
                 names those who issue them",
            );
        }
        if let Some(port) = beyond_this_machine(&config.http.api.debug.addr) {
            warn(
                &["http", "debug", "addr"],
                &format!(
                    "is not on loopback: a client that reaches it reads metrics and health without \
                     a password; write 127.0.0.1:{port} for programs on this machine, or let a \
                     firewall keep others away"
                ),
            );
        }
        if matches!(config.auth, gate::Options::None) {
            warn(&["auth", "none"], "lets every client pull, push and delete without a password");
        }
        if config.http.api.secret.is_some() {
            warn(
                &["http", "secret"],
                "is accepted and not needed: upload sessions are kept in the storage and carry no \
                 signature",
            );
        }
    }

    /// Adds notes of options that have no effect beside others.
    fn notes(&self, config: &Config, notes: &mut Vec<String>) {
        let TlsOptions::On { minimum, suites, .. } = &config.http.server.tls else { return };
        let path = &["http", "tls", "ciphersuites"];
        let newest = suites.iter().filter(|suite| suite.version() == TlsVersion::Tls13).count();
        if *minimum == TlsVersion::Tls13 && !suites.is_empty() {
            let what = "has no effect: it is about TLS 1.2, which http.tls.minimumtls rules out";
            notes.push(self.about(path, what));
        } else if (1..TLS13_SUITES).contains(&newest) {
            let what = "chooses among the suites of TLS 1.2; those of TLS 1.3 are always spoken";
            notes.push(self.about(path, what));
        }
    }

    /// A sentence about a key, with the place of it.
    fn about(&self, path: &[&str], what: &str) -> String {
        let path: Vec<_> = path.iter().copied().map(str::to_owned).collect();
        let (key, at) = self.nearest(&path);
        format!("{key} ({at}) {what}")
    }
}

/// The port of an address that others than programs on this machine can reach.
fn beyond_this_machine(addr: &str) -> Option<&str> {
    let (host, port) = addr.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']);
    let is_loopback = host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|host| host.to_canonical().is_loopback());
    (!is_loopback).then_some(port)
}
