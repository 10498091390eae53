//! Maintenance of the storage by jobs of the server: purge of abandoned uploads, retention, garbage
//! collection.

use std::{sync::Arc, time::Duration};

use crate::{
    config,
    http::Api,
    jobs::{Jobs, Schedule},
    registry::Registry,
};

mod collection;
mod retention;
mod uploads;

/// The parts that maintenance uses.
#[derive(Clone, Debug)]
pub(super) struct Maintenance {
    pub(super) registry: Registry,
    /// Says whether the registry is read-only at the moment.
    pub(super) api: Arc<Api>,
}

impl Maintenance {
    /// Schedules the jobs that the configuration enables.
    pub(super) fn schedule(&self, jobs: &Jobs, options: &config::Storage) {
        let config::Storage { maintenance, tags, .. } = options;
        if maintenance.uploadpurging.enabled {
            self.schedule_purge(jobs, &maintenance.uploadpurging);
        }
        if !tags.retention.rules.is_empty() {
            self.schedule_retention(jobs, &tags.retention);
        }
        if maintenance.garbagecollection.enabled {
            self.schedule_collection(jobs, &maintenance.garbagecollection);
        }
    }
}

/// A run every `interval`, the first of them `first` after the start or sooner.
fn schedule(first: Duration, interval: Duration) -> Schedule {
    // Runs without a pause would be a busy loop.
    let every = interval.max(Duration::from_secs(1));
    Schedule { first: first.min(every), every }
}
