//! What runs by itself: reloads, health checks, collection, the purge of old uploads, the sync of
//! events.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::reload::Reloads;
use crate::{
    chain::Chain,
    config,
    health::{self, Check, Health},
    jobs::Jobs,
    registry::{self, Collect, CollectionOptions, Found, Registry, Watch},
};

/// A changed password file is in force within a second: twice this, and the time to read it.
const USERS_EVERY: Duration = Duration::from_millis(400);

/// A changed certificate is in force within a few seconds.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(2);

/// How long a look at the storage may take before that is a failure.
const LOOK: Duration = Duration::from_secs(5);

/// Old uploads are looked for this long after the start, when it is over with those who come back.
const PURGED_AFTER: Duration = Duration::from_secs(300);

/// And so is garbage.
const COLLECTED_AFTER: Duration = Duration::from_secs(600);

/// What a power cut can take of the events that wait.
const EVENTS_SYNCED_EVERY: Duration = Duration::from_secs(1);

/// Starts what runs by itself.
pub(super) fn start_jobs(
    options: &config::Maintenance,
    registry: &Registry,
    reloads: &Arc<Reloads>,
    (checks, health): (Vec<Check>, &Arc<Health>),
) -> Jobs {
    let jobs = Jobs::default();
    let (for_users, for_certificates) = (Arc::clone(reloads), Arc::clone(reloads));
    jobs.every(USERS_EVERY, move || Arc::clone(&for_users).run(|r| r.users(false)));
    jobs.every(CERTIFICATES_EVERY, move || {
        Arc::clone(&for_certificates).run(|r| r.certificates(false))
    });
    let to_sync = Arc::clone(reloads);
    jobs.every(EVENTS_SYNCED_EVERY, move || {
        let notifier = to_sync.notifier.clone();
        async move { notifier.sync().await }
    });
    if options.uploadpurging.enabled {
        purge(&jobs, registry, &options.uploadpurging);
    }
    if options.garbagecollection.enabled {
        collect(&jobs, registry, &options.garbagecollection, reloads);
    }
    for check in checks {
        let (check, health) = (Arc::new(check), Arc::clone(health));
        jobs.interruptible((check.interval(), check.interval()), move || {
            let (check, health) = (Arc::clone(&check), Arc::clone(&health));
            async move { check.run(&health).await }
        });
    }
    jobs
}

/// Lets uploads be purged that nobody has come back for.
fn purge(jobs: &Jobs, registry: &Registry, options: &registry::PurgeOptions) {
    let (registry, registry::PurgeOptions { age, dryrun, interval, .. }) =
        (registry.clone(), options.clone());
    // No time at all would be a loop.
    let interval = interval.max(Duration::from_secs(1));
    jobs.interruptible((PURGED_AFTER.min(interval), interval), move || {
        let registry = registry.clone();
        async move {
            match registry.purge_uploads(age, dryrun).await {
                Ok(registry::Purged { found, purged }) => {
                    tracing::debug!(found, purged, dryrun, "looked for old uploads");
                }
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "old uploads cannot be purged");
                }
            }
        }
    });
}

/// Lets what nobody needs be removed, unless nothing may be written: whoever says so copies the tree,
/// or moves it.
fn collect(jobs: &Jobs, registry: &Registry, options: &CollectionOptions, reloads: &Arc<Reloads>) {
    let (registry, reloads) = (registry.clone(), Arc::clone(reloads));
    let CollectionOptions { grace, deleteuntagged: untagged, interval, .. } = options.clone();
    let how = Collect { grace, untagged, dry_run: false, gently: true };
    // No time at all would be a loop.
    let interval = interval.max(Duration::from_secs(1));
    jobs.interruptible((COLLECTED_AFTER.min(interval), interval), move || {
        let (registry, reloads) = (registry.clone(), Arc::clone(&reloads));
        async move {
            if reloads.api.is_readonly() {
                tracing::debug!("nothing is collected while the registry is read-only");
                return;
            }
            let began = Instant::now();
            match registry.collect(how, &mut Log::default()).await {
                Ok(done) => tracing::info!(
                    repositories = done.repositories,
                    emptied = done.emptied,
                    kept = done.kept,
                    manifests = done.manifests,
                    links = done.links,
                    blobs = done.blobs,
                    bytes = done.bytes,
                    seconds = began.elapsed().as_secs(),
                    "collected garbage"
                ),
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "garbage cannot be collected");
                }
            }
        }
    });
}

/// Writes to the log what a collection takes, and what it leaves because of a damage.
#[derive(Debug, Default)]
struct Log {
    repository: String,
}

impl Watch for Log {
    fn found(&mut self, found: Found<'_>) {
        let repository = &self.repository;
        match found {
            Found::Repository(name) => {
                self.repository.clear();
                self.repository.push_str(name);
            }
            Found::Untagged(digest) => tracing::info!(repository, %digest, "collects a manifest"),
            Found::Empty => tracing::info!(repository, "collects an empty repository"),
            Found::Kept(why) => {
                tracing::warn!(repository, why, "collects nothing here; `portcullis verify` tells");
            }
            Found::Link(digest) => tracing::debug!(repository, %digest, "collects a link"),
            Found::Bytes(digest) => tracing::debug!(%digest, "collects a blob"),
            Found::Manifest(_) | Found::Named(_) | Found::Totals { .. } => {}
        }
    }
}

/// What is to be looked at.
pub(super) fn checks(
    options: &health::Options,
    registry: &Registry,
) -> Result<Vec<Check>, health::InvalidCheck> {
    let mut checks = Vec::new();
    let storage = &options.storagedriver;
    if storage.enabled {
        let registry = registry.clone();
        let every = (storage.interval, storage.threshold);
        checks.push(Check::new("storagedriver_filesystem".to_owned(), every, move || {
            let registry = registry.clone();
            async move {
                match timeout(LOOK, registry.probe()).await {
                    Ok(looked) => looked.map_err(|error| Chain(&error).to_string()),
                    Err(_) => Err("no answer in time".to_owned()),
                }
            }
        }));
    }
    checks.extend(options.file.iter().map(Check::file));
    checks.extend(options.tcp.iter().map(Check::tcp));
    for http in &options.http {
        checks.push(Check::http(http)?);
    }
    // What one says must not be taken back by another of the same name.
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let told_apart = checks.into_iter().map(|check| {
        let count = seen.entry(check.name().to_owned()).or_default();
        *count += 1;
        match *count {
            1 => check,
            n => {
                let name = format!("{} ({n})", check.name());
                check.renamed(name)
            }
        }
    });
    Ok(told_apart.collect())
}
