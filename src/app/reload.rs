//! Reload: another configuration, or changed files, put in force while the server runs.
//!
//! A part that can do so implements [`Reload`] and names the keys that it takes. The parts
//! themselves know no configuration and write no log, so the implementations are here, in `app`.

use std::{fmt, sync::Arc, time::Duration};

use crate::{config::Config, jobs::Jobs};

/// A part that takes other values of its keys, and changed files, without a restart. Its functions
/// may block.
pub(super) trait Reload: fmt::Debug + Send + Sync {
    /// The keys, or sections, that take effect without a restart.
    fn keys(&self) -> &'static [&'static str];

    /// Puts in force what `config` says of these keys.
    ///
    /// # Errors
    ///
    /// When the old values of all of them stay in force.
    fn apply(&self, config: &Config) -> Result<(), Kept>;

    /// How often the part's files are to be looked at for changes; `None` where it has no files.
    fn watch(&self) -> Option<Duration> {
        None
    }

    /// Reads the part's files again. What was read last stays in force where they cannot be used,
    /// which is logged.
    fn read_files(&self, _: Files) {}
}

/// Why the old values of a part stay in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// The new values cannot be used. An error in the log says why.
    Unusable,
    /// The new values require a restart.
    UntilRestart,
}

/// Which files are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files {
    /// All of them, as on SIGHUP.
    All,
    /// Those that have changed since they were read last.
    Changed,
}

/// The outcome of a new value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is in force.
    Applied,
    /// It cannot be used, and the old one stays in force. An error in the log says why.
    Unusable,
    /// It takes effect after a restart.
    NeedsRestart,
}

/// The outcome of a new configuration.
#[derive(Debug, Default)]
pub struct Reloaded(Vec<(&'static [&'static str], Change)>);

impl Reloaded {
    /// The outcome for this key.
    #[must_use]
    pub fn change(&self, key: &str) -> Change {
        let part = self.0.iter().find(|(keys, _)| keys.iter().any(|of| is_below(key, of)));
        part.map_or(Change::NeedsRestart, |(_, change)| *change)
    }
}

/// Whether a key is this one, or stands in this section.
fn is_below(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The parts that can be reloaded, in the order in which a configuration is applied to them.
#[derive(Clone, Debug)]
pub(super) struct Reloads(Arc<[Arc<dyn Reload>]>);

impl Reloads {
    pub(super) fn new(parts: Vec<Arc<dyn Reload>>) -> Self {
        Self(parts.into())
    }

    /// Schedules the looks at the files of each part.
    pub(super) fn watch(&self, jobs: &Jobs) {
        for part in &*self.0 {
            let Some(every) = part.watch() else { continue };
            let part = Arc::clone(part);
            jobs.every(every, move || {
                let part = Arc::clone(&part);
                async move {
                    blocking(move || part.read_files(Files::Changed)).await;
                }
            });
        }
    }

    /// Reads all files again.
    pub(super) async fn read_files(&self) {
        let parts = self.clone();
        blocking(move || parts.read_all_files()).await;
    }

    /// Applies `config` to each part, then reads all files again.
    pub(super) async fn apply(&self, config: &Config) -> Reloaded {
        let parts = self.clone();
        let config = config.clone();
        let applied = blocking(move || {
            let applied = parts.0.iter().map(|part| {
                let change = match part.apply(&config) {
                    Ok(()) => Change::Applied,
                    Err(Kept::Unusable) => Change::Unusable,
                    Err(Kept::UntilRestart) => Change::NeedsRestart,
                };
                (part.keys(), change)
            });
            let applied = Reloaded(applied.collect());
            parts.read_all_files();
            applied
        });
        applied.await.unwrap_or_default()
    }

    fn read_all_files(&self) {
        for part in &*self.0 {
            part.read_files(Files::All);
        }
    }
}

/// Runs work on files on a thread that may block; `None` when it panicked.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(error) => {
            tracing::error!(%error, "a reload task panicked");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_outcome_of_their_part() {
        let keys: &[&str] = &["http.headers", "notifications"];
        let reloaded = Reloaded(vec![(keys, Change::Applied), (&["log.level"], Change::Unusable)]);
        for (key, change) in [
            ("http.headers", Change::Applied),
            ("http.headers.x-new[0]", Change::Applied),
            ("notifications.endpoints[0].url", Change::Applied),
            ("log.level", Change::Unusable),
            ("http.headersize", Change::NeedsRestart),
            ("http", Change::NeedsRestart),
            ("log.formatter", Change::NeedsRestart),
        ] {
            assert_eq!(reloaded.change(key), change, "{key}");
        }
    }
}
