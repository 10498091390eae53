//! The core over its storage, for a server and for commands that work on the same tree.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use super::{
    StartError,
    denied::{Denied, Need},
};
use crate::{
    config::Config,
    registry::{self, Events, Registry, SystemClock, Untagged},
    storage::{
        self, Storage,
        filesystem::{
            Filesystem,
            writable::{self, NotWritable},
        },
        memory::Memory,
    },
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
        storage::Options::Filesystem(options) => {
            let root = &options.rootdirectory;
            let is_folder = fs::metadata(root).map(|found| found.is_dir());
            match is_folder {
                Ok(true) => {}
                Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(unusable(root, root, Need::Read, source));
                }
                Ok(false) | Err(_) => return Err(StartError::NoStorage { root: root.clone() }),
            }
        }
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
        quotas: config.quotas.clone(),
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
///
/// # Errors
///
/// When the root can be neither used nor created.
pub(super) fn open(options: &storage::Options) -> Result<Arc<dyn Storage>, StartError> {
    Ok(match options {
        storage::Options::Memory => Arc::new(Memory::default()),
        storage::Options::Filesystem(options) => {
            let root = &options.rootdirectory;
            let opened = Filesystem::open(options)
                .map_err(|source| unusable(root, root, Need::Write, source))?;
            Arc::new(opened)
        }
    })
}

/// As [`open`], for a server that writes to the storage.
///
/// # Errors
///
/// Those of [`open`], and when this process may not write to the root or to a folder below it.
pub(super) fn open_to_write(options: &storage::Options) -> Result<Arc<dyn Storage>, StartError> {
    let opened = open(options)?;
    check_writable(options)?;
    Ok(opened)
}

/// Checks that this process may write to the storage.
///
/// # Errors
///
/// When it may not write to the root or to a folder below it.
pub(super) fn check_writable(options: &storage::Options) -> Result<(), StartError> {
    let storage::Options::Filesystem(options) = options else { return Ok(()) };
    let root = &options.rootdirectory;
    writable::check(root)
        .map_err(|NotWritable { folder, source }| unusable(root, &folder, Need::Write, source))
}

/// The error about a folder of the storage.
pub(super) fn unusable(root: &Path, folder: &Path, need: Need, source: io::Error) -> StartError {
    match Denied::new("the storage ", folder, need, source) {
        Ok(denied) => StartError::Denied(denied.within(root)),
        Err(source) => StartError::Storage { root: root.to_owned(), source },
    }
}
