//! The configuration: registry:2's YAML file, the `REGISTRY_*` variables over it, defaults below.
//!
//! Every part of the program defines its own options. This module reads them all, and no part knows
//! where its options come from. In this order:
//!
//! - `source` parses the file into a tree whose nodes have their positions;
//! - `environment` lays the variables over it and, by `foreign`, names those that look like settings;
//!   `overrides` lays the options of a command over both; `legacy` replaces old spellings, `quoted` removes the
//!   quotes of booleans and numbers;
//! - `check` validates the tree against the table in `schema` and turns it into JSON;
//! - `checked` fills in defaults and, by `sections`, deserialises the options of each part;
//! - `cross_check` refuses options that contradict each other, and warns of dangerous ones; `access` does
//!   so for access rules, `letsencrypt` for certificates that are obtained;
//! - `for_storage` leaves out what a command about stored images does not read;
//! - `paths` makes relative paths absolute;
//! - `migrate` makes a file of registry:2's and nginx's;
//! - `settings` lists every key with its value and its origin.
//!
//! A configuration makes the server less safe only by saying so: an option that it does not mention
//! has the safe default. A new option needs a field in the options of its part, a line in `schema`,
//! and a line in `portcullis.example.yml`; tests compare the three.

use std::path::Path;

use crate::{gate, health, http, notify, registry, server, storage, telemetry};

mod access;
mod check;
mod checked;
mod cross_check;
mod duration;
mod environment;
mod error;
mod for_storage;
mod foreign;
mod legacy;
mod letsencrypt;
mod migrate;
mod overrides;
mod paths;
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
pub use for_storage::ForStorage;
pub use migrate::{Change, Migration, Site, SiteError, SyntaxError, migrate};
pub use overrides::{Given, Override};
pub use settings::{Setting, Settings};
pub use tree::Origin;

use checked::Checked;
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
    /// `access`; `None` where there is no such section, or only its quotas
    pub access: Option<gate::AccessOptions>,
    /// `access.quotas`
    pub quotas: Vec<registry::Quota>,
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
    /// Warnings about the configuration, a sentence each.
    pub warnings: Vec<String>,
    /// Notes on options without effect, a sentence each.
    pub notes: Vec<String>,
}

/// `storage`: the driver, deletion, maintenance and rules about tags.
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
    /// When the file cannot be read or is not of version 0.1, when a key is unknown or has an invalid
    /// value, and when an option is not supported that cannot be ignored safely. The error names all
    /// problems.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        Self::load_with(file, environment, &[])
    }

    /// As [`load`](Self::load), with options of the command line, which win over file and variables.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    pub fn load_with(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        options: &[Override],
    ) -> Result<Self, Error> {
        match file {
            Some(file) => {
                let file = paths::absolute(file);
                let text = source::text(&file)?;
                let file = Some((&*file, &*text));
                Ok(Self::read(file, environment, options, Purpose::Serve)?.config)
            }
            None => Ok(Self::read(None, environment, options, Purpose::Serve)?.config),
        }
    }

    /// Reads the configuration as [`load`](Self::load) does when there is a file, of which `text`
    /// is the content; `file` is only its name in messages.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load), but for a file that cannot be read.
    pub fn from_text(
        file: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        Ok(Self::read(Some((file, text)), environment, &[], Purpose::Serve)?.config)
    }

    /// `file` has the name of the file in messages, and its content.
    fn read(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
        options: &[Override],
        purpose: Purpose,
    ) -> Result<Read, Error> {
        let mut errors = Vec::new();
        let mut warnings = Vec::new();
        let mut notes = Vec::new();
        let has_file = file.is_some();
        let mut root = match file {
            Some((file, text)) => versioned(file, source::parse_file(file, text)?, &mut errors),
            None => Node::null(Origin::Default),
        };
        environment::expand_words(&mut root);
        environment::overlay(&mut root, environment, &mut warnings, &mut errors);
        overrides::overlay(&mut root, options);
        legacy::modernise(&mut root, &mut warnings);
        quoted::unquote(&mut root, &mut warnings, &mut notes);
        let mut json = check::check(&root, &mut warnings, &mut notes, &mut errors);
        let refused = match purpose {
            Purpose::Serve => Vec::new(),
            Purpose::Storage => for_storage::reduce(&mut json, &mut errors),
        };
        let mut checked = Checked { json, root };
        checked.apply_defaults(has_file, &mut warnings);
        let mut config = checked.config(&mut errors);
        config.iter_mut().for_each(letsencrypt::complete);
        if let Some(config) = &config
            && errors.is_empty()
        {
            errors.extend(checked.cross_check(config).err());
            errors.extend(checked.letsencrypt_error(config));
            errors.extend(checked.access_errors(config));
        }
        Error::of(errors)?;
        let Some(mut config) = config else {
            unreachable!("what could not be read is among the errors")
        };
        checked.warnings(&config, &mut warnings);
        checked.access_warnings(&config, &mut warnings);
        checked.quota_warnings(&config, &mut warnings);
        warnings.extend(checked.letsencrypt_warning(&config));
        checked.checks_of_redis(&mut warnings);
        checked.notes(&config, &mut notes);
        config.warnings = warnings;
        config.notes = notes;
        paths::make_absolute(&mut config);
        Ok(Read { config, refused })
    }
}

/// The command that a configuration is read for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// Every section matters.
    Serve,
    /// The sections about storage matter; see `for_storage`.
    Storage,
}

/// A configuration, and the keys that were left out of it for its purpose.
struct Read {
    config: Config,
    refused: Vec<String>,
}

/// Removes the version from the tree of a file. Anything but a section counts as an empty file.
fn versioned(file: &Path, mut root: Node, errors: &mut Vec<Error>) -> Node {
    if !matches!(root.value, tree::Value::Map(_)) {
        root = Node::null(root.origin);
    }
    match root.remove("version").filter(|version| !version.is_null()) {
        None => errors.push(Error::VersionMissing { file: file.to_owned() }),
        // YAML reads a number unless it is quoted, so the characters are compared.
        Some(version) if version.written() == Some("0.1") => {}
        Some(version) => {
            errors.push(Error::Version { found: version.describe(), at: version.origin });
        }
    }
    root
}
