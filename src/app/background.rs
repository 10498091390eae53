//! Background jobs beside maintenance: the sync of events, the summary of refusals, health
//! checks.

use std::{future::ready, sync::Arc, time::Duration};

use super::tokens::Tokens;
use crate::{
    chain::Chain,
    gate::Gate,
    health::{Check, Health},
    jobs::{Jobs, Schedule},
    notify::Notifier,
    registry::Registry,
    server::acme::Renewals,
};

/// The time between two syncs of queued events: a power cut loses at most the events of this time.
const EVENTS_SYNCED_EVERY: Duration = Duration::from_secs(1);

/// The time between two confirmations that this process records pulls.
const PULLS_CONFIRMED_EVERY: Duration = Duration::from_secs(3600);

/// The time between two summaries of the refused logins and denied requests that have no line of their own.
const REFUSALS_SUMMED_UP_EVERY: Duration = Duration::from_secs(10);

/// The time between two looks at which deploy tokens were used.
const TOKENS_KEPT_EVERY: Duration = Duration::from_secs(60);

/// Schedules the sync of queued events.
pub(super) fn sync_events(jobs: &Jobs, notifier: &Notifier) {
    let notifier = notifier.clone();
    jobs.every(EVENTS_SYNCED_EVERY, move || {
        let notifier = notifier.clone();
        async move { notifier.sync().await }
    });
}

/// Schedules the confirmation that this process records pulls.
pub(super) fn confirm_pulls(jobs: &Jobs, registry: &Registry) {
    let schedule = Schedule { first: Duration::ZERO, every: PULLS_CONFIRMED_EVERY };
    let registry = registry.clone();
    jobs.interruptible(schedule, move || {
        let registry = registry.clone();
        async move {
            let confirmed = registry.confirm_pulls().await;
            log_unconfirmed(confirmed.map_err(|error| Chain(&error).to_string()));
        }
    });
}

/// Confirms for the last time that this process has recorded all pulls.
pub(super) async fn end_pulls(registry: &Registry) {
    let ended = registry.end_pulls().await;
    log_unconfirmed(ended.map_err(|error| Chain(&error).to_string()));
}

fn log_unconfirmed(confirmed: Result<(), String>) {
    if let Err(error) = confirmed {
        tracing::warn!(
            error,
            "cannot write that pulls are recorded; garbage collection keeps untagged manifests longer"
        );
    }
}

/// Schedules the summary of refused logins and denied requests.
pub(super) fn sum_up_refusals(jobs: &Jobs, gate: &Arc<Gate>) {
    let gate = Arc::clone(gate);
    jobs.every(REFUSALS_SUMMED_UP_EVERY, move || {
        gate.sum_up_refusals();
        ready(())
    });
}

/// Schedules the writing of last uses, and the warnings of tokens that are about to expire.
pub(super) fn keep_tokens(jobs: &Jobs, tokens: &Arc<Tokens>) {
    let tokens = Arc::clone(tokens);
    jobs.every(TOKENS_KEPT_EVERY, move || end_tokens(Arc::clone(&tokens)));
}

/// Writes last uses for the last time.
pub(super) async fn end_tokens(tokens: Arc<Tokens>) {
    // A panic has been logged by its hook.
    let _ = tokio::task::spawn_blocking(move || tokens.keep()).await;
}

/// Starts the task that obtains and renews certificates, where there is one.
pub(super) fn renew_certificates(jobs: &Jobs, renewals: Option<&Arc<Renewals>>) {
    let Some(renewals) = renewals.map(Arc::clone) else { return };
    let schedule = Schedule { first: Duration::ZERO, every: Duration::from_secs(1) };
    jobs.interruptible(schedule, move || {
        let renewals = Arc::clone(&renewals);
        async move { renewals.run().await }
    });
}

/// Schedules each health check.
pub(super) fn run_checks(jobs: &Jobs, checks: Vec<Check>, health: &Arc<Health>) {
    for check in checks {
        let schedule = Schedule { first: check.interval(), every: check.interval() };
        let check = Arc::new(check);
        let health = Arc::clone(health);
        jobs.interruptible(schedule, move || {
            let check = Arc::clone(&check);
            let health = Arc::clone(&health);
            async move { check.run(&health).await }
        });
    }
}
