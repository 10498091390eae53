//! The options of every part, read from a tree that fits the schema.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{
    Config, Error, Http, Maintenance, Origin, Settings, Storage, schema, sections::Sections,
    tree::Node,
};
use crate::{registry::TagRules, storage};

/// The root directory of registry:2, the default of `storage.filesystem` in a file.
const ROOT_DIRECTORY: &str = "/var/lib/registry";

/// How long an untagged manifest stays without a pull, where there is no file.
const UNTAGGED_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

/// A configuration that fits the schema.
pub(super) struct Checked {
    pub(super) json: Json,
    pub(super) root: Node,
}

impl Checked {
    /// Fills in those defaults that depend on whether there is a file.
    pub(super) fn apply_defaults(&mut self, has_file: bool, warnings: &mut Vec<String>) {
        let has_driver =
            |driver| self.json.pointer("/storage").is_some_and(|s| s.get(driver).is_some());
        let filesystem = has_driver("filesystem");
        let inmemory = has_driver("inmemory");
        if has_file && !filesystem && !inmemory {
            warnings.push(
                "storage names no driver: images are kept in `data` of the working directory; \
                 set storage.filesystem.rootdirectory to keep them elsewhere"
                    .to_owned(),
            );
        }
        if has_file && filesystem {
            self.default(&["storage", "filesystem", "rootdirectory"], json!(ROOT_DIRECTORY));
        }
        if !has_file {
            self.default(&["storage", "delete", "enabled"], json!(true));
            let after = ["storage", "maintenance", "garbagecollection", "deleteuntaggedafter"];
            self.default(&after, json!({ "secs": UNTAGGED_AFTER.as_secs(), "nanos": 0 }));
        }
    }

    /// Sets a key that the configuration does not mention.
    fn default(&mut self, path: &[&str], value: Json) {
        // Indexing creates missing sections, and after the check a section has no other value.
        let slot = path.iter().fold(&mut self.json, |json, key| &mut json[key]);
        if slot.is_null() {
            *slot = value;
        }
    }

    /// The options of every part; `None` when a section cannot be read, which `errors` then explains.
    pub(super) fn config(&self, errors: &mut Vec<Error>) -> Option<Config> {
        let mut sections = Sections { checked: self, errors };
        let backend = if self.json.pointer("/storage/inmemory").is_some() {
            Some(storage::Options::Memory)
        } else {
            sections.options("storage.filesystem").map(storage::Options::Filesystem)
        };
        // Each section is read, so that all errors are found, before the first unreadable one makes
        // this return.
        let delete = sections.options("storage.delete");
        let readonly = sections.options("storage.maintenance.readonly");
        let uploadpurging = sections.options("storage.maintenance.uploadpurging");
        let garbagecollection = sections.options("storage.maintenance.garbagecollection");
        let immutabletags = sections.options("storage.immutabletags");
        let retention = sections.options("storage.retention");
        let log = sections.options("log");
        let auth = sections.options("auth");
        // A section with quotas alone closes nothing.
        let access = match self.has_only_quotas() {
            true => Some(None),
            false => sections.options("access"),
        };
        let quotas = sections.options("access.quotas");
        // Two modules define keys of this section. A struct of both (serde's `flatten`) would lose
        // which key of it an error is about.
        let server = sections.options("http");
        let api = sections.options("http");
        let catalog = sections.options("catalog");
        let tags = sections.options("tags");
        let uploads = sections.options("uploads");
        let notifications = sections.options("notifications");
        let health = sections.options("health");
        let validation = sections.options("validation");
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
                tags: TagRules { immutabletags: immutabletags?, retention: retention? },
            },
            auth: auth?,
            access: access?,
            quotas: quotas?,
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

    /// Whether `access` has quotas and nothing else.
    fn has_only_quotas(&self) -> bool {
        let access = self.json.get("access").and_then(Json::as_object);
        access.is_some_and(|keys| keys.len() == 1 && keys.contains_key("quotas"))
    }

    /// The key and the place of a path, or of its nearest section that was written.
    pub(super) fn nearest(&self, path: &[String]) -> (String, Origin) {
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
}
