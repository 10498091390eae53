//! Uploads that nobody has come back for.
//!
//! As in registry:2, an upload goes when it was begun long enough ago, whoever began it, and also
//! one that a registry:2 on the same tree has left. One that is being written to stays.

use std::time::Duration;

use serde::Deserialize;

use super::UploadId;
use crate::{
    oci::RepositoryName,
    registry::{Error, Registry, catalog::Walk, layout::Place},
    storage::{Durability, ErrorKind},
};

/// `storage.maintenance.uploadpurging`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct PurgeOptions {
    /// Whether uploads are purged.
    pub enabled: bool,
    /// How long ago one was begun that goes.
    pub age: Duration,
    /// How often it is looked for them.
    pub interval: Duration,
    /// Says which would go, and lets them stay.
    pub dryrun: bool,
}

impl Default for PurgeOptions {
    /// As in registry:2: after a week, looked for each day.
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { enabled: true, age: day * 7, interval: day, dryrun: false }
    }
}

/// What came of a purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many uploads there were.
    pub found: u64,
    /// How many of them went, or would have.
    pub purged: u64,
}

/// How many uploads of a repository are looked at at a time.
const BATCH: usize = 128;

/// What says when an upload was begun is no longer.
const MAX_STARTED_AT: usize = 256;

impl Registry {
    /// Removes the uploads that were begun longer ago than `age`; with `dry_run`, only says which.
    ///
    /// One whose beginning is not known counts as begun when it is seen first.
    ///
    /// # Errors
    ///
    /// When storage fails: at once where it cannot be walked, else at the end, with the first upload
    /// that stays for that reason. What was removed stays removed.
    pub async fn purge_uploads(&self, age: Duration, dry_run: bool) -> Result<Purged, Error> {
        let (mut purged, mut failed) = (Purged::default(), None);
        let mut walk = Walk::behind(self, "");
        while let Some(name) = walk.next().await? {
            let folder = Place::Uploads(&name).key();
            let mut after = None;
            loop {
                let entries = self.storage().list(&folder, after.as_deref(), BATCH).await?;
                let Some(last) = entries.last() else { break };
                after = Some(last.name.clone());
                for id in entries.iter().filter_map(|entry| entry.name.parse().ok()) {
                    purged.found += 1;
                    match self.purge(&name, id, (age, dry_run)).await {
                        Ok(gone) => purged.purged += u64::from(gone),
                        Err(error) => {
                            tracing::warn!(repository = %name, upload = %id, %error, "stays");
                            failed.get_or_insert(error);
                        }
                    }
                }
            }
        }
        failed.map_or(Ok(purged), Err)
    }

    /// Removes an upload if it is old enough; whether it was.
    async fn purge(
        &self,
        name: &RepositoryName,
        id: UploadId,
        (age, dry_run): (Duration, bool),
    ) -> Result<bool, Error> {
        let now = self.0.clock.now();
        let started = self.begun(name, id).await?;
        let has_lived =
            started.and_then(|started| Duration::try_from(now.duration_since(started)).ok());
        if has_lived.is_some_and(|has_lived| has_lived < age) {
            return Ok(false);
        }
        if !dry_run {
            // Nobody finishes or cancels it meanwhile, and nobody has: it would be there again.
            let Ok(_session) = self.0.sessions.try_enter(id) else { return Ok(false) };
            let folder = Place::Upload(name, id).key();
            if self.storage().list(&folder, None, 1).await?.is_empty() {
                return Ok(false);
            }
            if has_lived.is_none() {
                let place = Place::UploadStartedAt(name, id).key();
                self.storage().put(&place, started_at(now).into(), Durability::Lazy).await?;
            } else {
                self.discard(name, id).await?;
                self.0.opened.forget(id);
            }
        }
        let Some(has_lived) = has_lived else { return Ok(false) };
        let hours = has_lived.as_secs() / 3600;
        let what = if dry_run { "would purge an upload" } else { "purged an upload" };
        tracing::info!(repository = %name, upload = %id, hours, "{what}");
        Ok(true)
    }

    /// When an upload was begun; `None` where that cannot be read.
    async fn begun(
        &self,
        name: &RepositoryName,
        id: UploadId,
    ) -> Result<Option<jiff::Timestamp>, Error> {
        let place = Place::UploadStartedAt(name, id).key();
        let text = match self.storage().read(&place, MAX_STARTED_AT).await {
            Err(error) if error.kind() == ErrorKind::TooLong => None,
            read => read?,
        };
        Ok(text.and_then(|text| str::from_utf8(&text).ok()?.trim().parse().ok()))
    }
}

/// The form that registry:2 gives it: RFC 3339, in whole seconds.
pub(super) fn started_at(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };

    use bytes::Bytes;
    use futures_util::stream;

    use super::*;
    use crate::{
        oci::Algorithm,
        registry::{Body, BodyError, Chunk, Clock, Options, Upload},
        storage::{Storage as _, memory::Memory},
    };

    const HOUR: Duration = Duration::from_secs(3600);

    /// A clock that goes when it is told to, in seconds.
    #[derive(Clone, Debug, Default)]
    struct Hand(Arc<AtomicI64>);

    impl Clock for Hand {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
        }
    }

    impl Hand {
        fn forward(&self, time: Duration) {
            self.0.fetch_add(i64::try_from(time.as_secs()).unwrap(), Ordering::Relaxed);
        }
    }

    fn registry() -> (Memory, Hand, Registry) {
        let (memory, hand) = (Memory::default(), Hand::default());
        let storage = Arc::new(memory.clone());
        let registry = Registry::new(storage, Arc::new(hand.clone()), Options::default());
        (memory, hand, registry)
    }

    async fn begin(registry: &Registry, name: &str) -> Upload {
        let name: RepositoryName = name.parse().unwrap();
        let id = registry.start_upload(&name, Algorithm::default(), None).await.unwrap();
        Upload { name, id, owner: None }
    }

    #[tokio::test]
    async fn what_was_begun_long_ago_goes_and_what_was_not_stays() {
        let (_, hand, registry) = registry();
        let old = begin(&registry, "team/app").await;
        let other = begin(&registry, "team/app/inner").await;
        hand.forward(HOUR);
        let young = begin(&registry, "team/app").await;
        hand.forward(HOUR);
        let purged = registry.purge_uploads(2 * HOUR, true).await.unwrap();
        assert_eq!(purged, Purged { found: 3, purged: 2 });
        assert_eq!(registry.upload_length(&old).await.unwrap(), 0, "it was only asked");
        let purged = registry.purge_uploads(2 * HOUR, false).await.unwrap();
        assert_eq!(purged, Purged { found: 3, purged: 2 });
        for gone in [&old, &other] {
            let length = registry.upload_length(gone).await;
            assert!(matches!(length, Err(Error::UploadUnknown)));
        }
        assert_eq!(registry.upload_length(&young).await.unwrap(), 0);
        assert_eq!(registry.open_uploads(), 1);
    }

    #[tokio::test]
    async fn one_whose_beginning_nobody_knows_counts_from_when_it_is_seen() {
        let (memory, hand, registry) = registry();
        let upload = begin(&registry, "app").await;
        let place = Place::UploadStartedAt(&upload.name, upload.id).key();
        for broken in ["", "yesterday", "\u{0}", &"9".repeat(300)] {
            memory.put(&place, Bytes::from(broken.to_owned()), Durability::Lazy).await.unwrap();
            let purged = registry.purge_uploads(HOUR, true).await.unwrap();
            assert_eq!(purged, Purged { found: 1, purged: 0 });
            let text = memory.read(&place, 999).await.unwrap().unwrap();
            assert_eq!(text, broken, "it was only asked");
        }
        assert_eq!(registry.purge_uploads(HOUR, false).await.unwrap().purged, 0);
        hand.forward(HOUR);
        assert_eq!(registry.purge_uploads(HOUR, false).await.unwrap().purged, 1);
    }

    #[tokio::test]
    async fn one_that_is_being_written_to_stays() {
        let (_, hand, registry) = registry();
        let upload = begin(&registry, "app").await;
        hand.forward(HOUR);
        let (send, receive) = tokio::sync::oneshot::channel::<()>();
        let (entered, is_in) = tokio::sync::oneshot::channel::<()>();
        let body: Body = Box::pin(stream::once(async move {
            entered.send(()).unwrap();
            receive.await.unwrap();
            Ok::<_, BodyError>(Bytes::from_static(b"late"))
        }));
        let append = registry.append(&upload, Chunk { range: None, length: None, body });
        let purge = async {
            is_in.await.unwrap();
            let purged = registry.purge_uploads(HOUR, false).await.unwrap();
            send.send(()).unwrap();
            purged
        };
        let (appended, purged) = tokio::join!(append, purge);
        assert_eq!(purged, Purged { found: 1, purged: 0 });
        assert_eq!(appended.unwrap(), 4);
    }
}
