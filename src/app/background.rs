//! Background work: reloads, health checks, the purge of abandoned uploads, retention, garbage
//! collection, the sync of events.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{collecting::collect, reload::Reloads};
use crate::{
    chain::Chain,
    config,
    health::{self, Check, Health},
    jobs::Jobs,
    registry::{self, Decision, OldUpload, Registry, Retained, RetentionOptions},
};

/// A changed password file is in force within a second: twice this, and the time to read it.
const USERS_EVERY: Duration = Duration::from_millis(400);

/// A changed certificate is in force within a few seconds.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(2);

/// How long a look at the storage may take before that is a failure.
const LOOK: Duration = Duration::from_secs(5);

/// Old uploads are looked for this long after the start, when it is over with those who come back.
const PURGED_AFTER: Duration = Duration::from_secs(300);

/// Tags that go are looked for this long after the start: time to see in the log what was started.
const RETAINED_AFTER: Duration = Duration::from_secs(600);

/// What a power cut can take of the events that wait.
const EVENTS_SYNCED_EVERY: Duration = Duration::from_secs(1);

/// How often it is said how many more logins were refused than the log has lines of.
const REFUSED_LOGINS_SUMMED_UP_EVERY: Duration = Duration::from_secs(10);

/// Starts what runs by itself.
pub(super) fn start_jobs(
    options: &config::Storage,
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
    let gate = Arc::clone(&reloads.gate);
    jobs.every(REFUSED_LOGINS_SUMMED_UP_EVERY, move || {
        gate.sum_up_refused_logins();
        std::future::ready(())
    });
    let config::Storage { maintenance, tags, .. } = options;
    if maintenance.uploadpurging.enabled {
        purge(&jobs, registry, &maintenance.uploadpurging);
    }
    if !tags.retention.rules.is_empty() {
        retain(&jobs, registry, &tags.retention, reloads);
    }
    if maintenance.garbagecollection.enabled {
        collect(&jobs, registry, &maintenance.garbagecollection, reloads);
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

/// Schedules the purge of abandoned uploads.
fn purge(jobs: &Jobs, registry: &Registry, options: &registry::PurgeOptions) {
    let (registry, registry::PurgeOptions { age, dryrun, interval, .. }) =
        (registry.clone(), options.clone());
    // An interval of zero would be a busy loop.
    let interval = interval.max(Duration::from_secs(1));
    jobs.interruptible((PURGED_AFTER.min(interval), interval), move || {
        let registry = registry.clone();
        async move {
            match registry.uploads().purge(age, dryrun, |old| told(old, dryrun)).await {
                Ok(registry::Purged { found, purged }) => {
                    tracing::debug!(found, purged, dryrun, "purged abandoned uploads");
                }
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "cannot purge abandoned uploads");
                }
            }
        }
    });
}

/// Logs the outcome of a purge of one upload.
fn told(old: &OldUpload<'_>, dryrun: bool) -> ControlFlow<()> {
    let OldUpload { repository, upload, outcome } = old;
    match outcome {
        Ok(has_lived) => {
            let hours = has_lived.as_secs() / 3600;
            let what = if dryrun { "would purge an upload" } else { "purged an upload" };
            tracing::info!(%repository, %upload, hours, "{what}");
        }
        Err(error) => tracing::warn!(%repository, %upload, %error, "cannot purge an upload"),
    }
    ControlFlow::Continue(())
}

/// Schedules retention, which deletes no tag while the registry is read-only.
fn retain(jobs: &Jobs, registry: &Registry, options: &RetentionOptions, reloads: &Arc<Reloads>) {
    let (registry, reloads) = (registry.clone(), Arc::clone(reloads));
    let RetentionOptions { interval, dryrun, rules } = options.clone();
    let interval = interval.max(Duration::from_secs(1));
    let rules = Arc::new(rules);
    jobs.interruptible((RETAINED_AFTER.min(interval), interval), move || {
        let (registry, reloads, rules) =
            (registry.clone(), Arc::clone(&reloads), Arc::clone(&rules));
        async move {
            let is_forbidden = || !dryrun && reloads.api.is_readonly();
            if is_forbidden() {
                tracing::info!("retention deletes no tag while the registry is read-only");
                return;
            }
            let watcher = |decision: &Decision<'_>| {
                decided(decision, dryrun);
                // It may have become so meanwhile.
                if is_forbidden() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            match registry.retention().apply(&rules, dryrun, watcher).await {
                Ok(Retained { found, deleted, manifests }) => {
                    tracing::info!(found, deleted, manifests, dryrun, "applied retention rules");
                }
                Err(error) => {
                    tracing::error!(
                        error = %Chain(&error),
                        "retention failed in some repositories"
                    );
                }
            }
        }
    });
}

/// Logs what retention did with a tag.
fn decided(decision: &Decision<'_>, dryrun: bool) {
    let Decision { repository, outcome } = decision;
    match outcome {
        Ok(expired) => {
            // Whoever misses the tag can set it again, until the collector has come.
            let digest = expired.digest.as_ref().map(tracing::field::display);
            let what = if dryrun { "would delete a tag" } else { "deleted a tag" };
            tracing::info!(%repository, tag = %expired.tag, digest, reason = %expired, "{what}");
        }
        Err(error) => {
            tracing::warn!(%repository, error = %Chain(error), "retention failed in a repository");
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
