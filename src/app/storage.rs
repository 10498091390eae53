//! The core over its storage, for a server and for commands that work on the same tree.

use std::{sync::Arc, time::Duration};

use super::StartError;
use crate::{
    config::Config,
    registry::{self, Events, Registry, SystemClock, Untagged},
    storage::{self, Storage, filesystem::Filesystem, memory::Memory},
};

/// Opens the registry that `config` describes, without serving it, for a command that reads or
/// deletes stored images. Creates nothing, not even the root.
///
/// # Errors
///
/// When there is no storage yet, or only storage in memory.
pub fn open_registry(config: &Config) -> Result<Registry, StartError> {
    open_registry_with(config, Events::default())
}

/// As [`open_registry`], with a receiver of events.
///
/// # Errors
///
/// As for [`open_registry`].
pub fn open_registry_with(config: &Config, events: Events) -> Result<Registry, StartError> {
    match &config.storage.backend {
        storage::Options::Memory => return Err(StartError::NothingKept),
        storage::Options::Filesystem(options) if !options.rootdirectory.is_dir() => {
            return Err(StartError::NoStorage { root: options.rootdirectory.clone() });
        }
        storage::Options::Filesystem(_) => {}
    }
    Ok(registry(open(&config.storage.backend)?, config, events))
}

/// The registry over a storage, which emits `events`.
pub(super) fn registry(storage: Arc<dyn Storage>, config: &Config, events: Events) -> Registry {
    let options = registry::Options {
        uploads: registry::UploadLimits {
            open: config.uploads.maxopen,
            per_hour: config.uploads.maxperhour,
        },
        validation: config.validation.clone(),
        policy: config.policy.clone(),
        grace: config.storage.maintenance.garbagecollection.grace,
        untagged: untagged_after(&config.storage.maintenance.garbagecollection),
        tags: config.storage.tags.clone(),
        events,
    };
    Registry::new(storage, Arc::new(SystemClock), options)
}

/// How long untagged manifests stay without a pull, so that pulls have to be recorded; zero where all of
/// them stay, or go at once.
fn untagged_after(options: &registry::CollectionOptions) -> Duration {
    match options.untagged() {
        Untagged::GoAfter(period) => period,
        Untagged::Stay | Untagged::Go => Duration::ZERO,
    }
}

/// Opens the backend. Creates its root when it is missing.
pub(super) fn open(options: &storage::Options) -> Result<Arc<dyn Storage>, StartError> {
    Ok(match options {
        storage::Options::Memory => Arc::new(Memory::default()),
        storage::Options::Filesystem(options) => {
            let opened = Filesystem::open(options).map_err(|source| StartError::Storage {
                root: options.rootdirectory.clone(),
                source,
            })?;
            Arc::new(opened)
        }
    })
}
