//! The configuration of a command that reads or deletes stored images: `verify`, `garbage-collect`
//! and the like. They work on the tree of a registry:2 whose file has keys that `serve` refuses.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::{Config, Error, Purpose, Read, paths, source};

/// The sections that a command about stored images reads.
const SECTIONS: [&str; 4] = ["storage", "uploads", "validation", "policy"];

/// The key of another section that such a command reads.
const QUOTAS: &str = "access.quotas";

/// Sections of these that only a server reads.
const OF_A_SERVER: [&str; 3] = ["storage.cache", "storage.redirect", "storage.tag"];

/// A configuration of which only the sections about storage are used.
#[derive(Debug)]
pub struct ForStorage {
    /// The configuration. The sections that such a command does not read have their defaults.
    pub config: Config,
    /// The keys of those sections that a server would refuse.
    pub refused: Vec<String>,
}

impl Config {
    /// Reads the configuration as [`load`](Self::load) does, for a command that reads or deletes
    /// stored images: an invalid value and an unsupported key are no errors in a section that such a
    /// command does not read. Unknown keys are errors in every section: a misspelt or misplaced key
    /// may be one about storage.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load), but for those keys.
    pub fn load_for_storage(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<ForStorage, Error> {
        let file = file.map(paths::absolute);
        let text = file.as_deref().map(source::text).transpose()?;
        let file = file.as_deref().zip(text.as_deref());
        let Read { config, refused } = Self::read(file, environment, &[], Purpose::Storage)?;
        Ok(ForStorage { config, refused })
    }
}

/// Leaves only the sections that such a command reads, and the errors in them. Returns the keys that
/// the other errors are about.
pub(super) fn reduce(json: &mut Json, errors: &mut Vec<Error>) -> Vec<String> {
    if let Json::Object(sections) = json {
        let quotas = sections.get("access").and_then(|access| access.get("quotas")).cloned();
        sections.retain(|section, _| SECTIONS.contains(&&**section));
        if let Some(quotas) = quotas {
            sections.insert("access".to_owned(), json!({ "quotas": quotas }));
        }
    }
    let mut refused = Vec::new();
    errors.retain(|error| match error {
        Error::Refused { key, .. }
        | Error::Mismatch { key, .. }
        | Error::Value { key, .. }
        | Error::Several { key, .. }
            if !is_read(key) =>
        {
            refused.push(key.clone());
            false
        }
        _ => true,
    });
    refused.sort_unstable();
    refused.dedup();
    refused
}

/// Whether such a command reads the key, or the key is the whole configuration.
fn is_read(key: &str) -> bool {
    let is_below = |section: &str| {
        key.strip_prefix(section)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    key.is_empty()
        || is_below(QUOTAS)
        || SECTIONS.into_iter().any(is_below) && !OF_A_SERVER.into_iter().any(is_below)
}
