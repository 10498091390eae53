//! Preallocation: disk space for the bytes that an upload is about to get.
//!
//! A file system that knows the length in advance finds one extent for it, and has less to do in the
//! sync at the end. But an announced length alone must not take space from other uploads. So storage
//! preallocates behind the received bytes, first 8 MiB and then as much as has come, and all uploads
//! together hold no more than a share of the free bytes. A silent client holds no space.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    registry::Error,
    storage::{Appender, Storage},
};

/// The shortest preallocation that is worth a call. Storage finds one extent for less anyway.
const LEAST: u64 = 8 * 1024 * 1024;

/// The most space that one upload holds ahead of its received bytes.
const MOST: u64 = 256 * 1024 * 1024;

/// A client that announces more bytes than are free is refused early, up to this many bytes ahead.
/// Looking further ahead would refuse uploads that fit into a compressing file system.
const FORESEEN: u64 = 1024 * 1024 * 1024;

/// All uploads together hold at most one part in this many of the free bytes.
const SHARE: u64 = 4;

/// A client that sends no batch within this time loses its preallocated space. At this speed an upload needs none.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// The space that all uploads of a registry hold together.
#[derive(Clone, Debug)]
pub(super) struct SpaceBudget {
    storage: Arc<dyn Storage>,
    /// The number of bytes that are preallocated and not written yet.
    held: Arc<AtomicU64>,
}

impl SpaceBudget {
    pub(super) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, held: Arc::default() }
    }

    /// Takes `length` bytes of the budget; `false` when the share does not allow it.
    async fn take(&self, length: u64) -> Result<bool, Error> {
        let free = self.storage.free().await?.unwrap_or(u64::MAX);
        let others = self.held.fetch_add(length, Ordering::Relaxed);
        // Held bytes are not free any more, but count as free for the share.
        let fits = others.saturating_add(length) <= free.saturating_add(others) / SHARE;
        if !fits {
            self.release(length);
        }
        Ok(fits)
    }

    fn release(&self, length: u64) {
        self.held.fetch_sub(length, Ordering::Relaxed);
    }
}

/// The preallocated space of one upload.
#[derive(Debug)]
pub(super) struct Preallocation {
    budget: SpaceBudget,
    /// The final length of the upload, where the client announced it and it is worth a preallocation.
    end: Option<u64>,
    /// The number of preallocated bytes behind the written ones.
    held: u64,
    /// The position at which storage preallocates next.
    next: u64,
}

impl Preallocation {
    pub(super) const fn new(budget: SpaceBudget) -> Self {
        Self { budget, end: None, held: 0, next: 0 }
    }

    /// Expects `length` more bytes, where the client announced it.
    ///
    /// # Errors
    ///
    /// When there is no space for them; when storage fails.
    pub(super) async fn expect(
        &mut self,
        appender: &mut dyn Appender,
        length: Option<u64>,
    ) -> Result<(), Error> {
        let position = appender.position();
        let length = length.filter(|&length| length >= LEAST);
        if let Some(length) = length {
            appender.announce(length.min(FORESEEN)).await?;
        }
        self.end = length.map(|length| position.saturating_add(length));
        self.next = position;
        Ok(())
    }

    /// Preallocates more when the `arrived` bytes, which are about to be written, exceed what there is.
    ///
    /// # Errors
    ///
    /// When there is no space, or storage fails.
    pub(super) async fn extend(
        &mut self,
        appender: &mut dyn Appender,
        arrived: u64,
    ) -> Result<(), Error> {
        let position = appender.position();
        let Some(end) = self.end.filter(|&end| end > position) else { return Ok(()) };
        let reached = position.saturating_add(arrived);
        if reached <= self.next {
            return Ok(());
        }
        let length = reached.clamp(LEAST, MOST).min(end - position);
        // Whether the budget allows it or not, the next attempt comes a while later.
        self.next = position + length;
        let more = length.saturating_sub(self.held);
        if self.budget.take(more).await? {
            self.held += more;
            appender.reserve(length).await?;
        }
        Ok(())
    }

    /// Records that `length` bytes were written.
    pub(super) fn written(&mut self, length: u64) {
        let used = self.held.min(length);
        self.held -= used;
        self.budget.release(used);
    }

    /// Returns the unused space. Storage preallocates again only after as many further bytes as at the
    /// beginning.
    pub(super) async fn release(&mut self, appender: &mut dyn Appender) -> Result<(), Error> {
        if self.held == 0 {
            return Ok(());
        }
        let position = appender.position();
        self.next = position.saturating_add(LEAST);
        self.written(self.held);
        Ok(appender.truncate(position).await?)
    }
}

impl Drop for Preallocation {
    fn drop(&mut self) {
        self.budget.release(self.held);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::storage::{Key, Note, STARTED_AT, memory::Memory};

    const MIB: u64 = 1024 * 1024;

    /// An appender that records its calls.
    #[derive(Debug, Default)]
    struct RecordedAppender {
        position: u64,
        reserved: Vec<u64>,
        truncated: Vec<u64>,
    }

    #[async_trait::async_trait]
    impl Appender for RecordedAppender {
        fn position(&self) -> u64 {
            self.position
        }
        async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), crate::storage::Error> {
            self.position += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
            Ok(())
        }
        async fn reserve(&mut self, length: u64) -> Result<(), crate::storage::Error> {
            self.reserved.push(length);
            Ok(())
        }
        async fn truncate(&mut self, length: u64) -> Result<(), crate::storage::Error> {
            self.truncated.push(length);
            Ok(())
        }
        async fn sync(&mut self) -> Result<(), crate::storage::Error> {
            Ok(())
        }
    }

    /// The budget of storage with `free` bytes.
    fn budget(free: u64) -> SpaceBudget {
        let memory = Memory::default();
        memory.leave_free(free);
        SpaceBudget::new(Arc::new(memory))
    }

    /// Receives bytes, 1 MiB at a time, up to the position `until`.
    async fn receive(space: &mut Preallocation, appender: &mut RecordedAppender, until: u64) {
        while appender.position < until {
            space.extend(appender, MIB).await.unwrap();
            appender.position += MIB;
            space.written(MIB);
        }
    }

    #[tokio::test]
    async fn space_is_preallocated_behind_the_received_bytes() {
        let budget = budget(1 << 50);
        let mut space = Preallocation::new(budget.clone());
        let mut appender = RecordedAppender::default();
        space.expect(&mut appender, Some(10 << 30)).await.unwrap();
        space.extend(&mut appender, 1).await.unwrap();
        assert_eq!(appender.reserved, [8 * MIB], "one byte came");
        receive(&mut space, &mut appender, 600 * MIB).await;
        assert_eq!(appender.reserved[..3], [8 * MIB, 9 * MIB, 18 * MIB]);
        for (reserved, next) in appender.reserved.iter().zip(&appender.reserved[1..]) {
            assert!(*next <= (2 * reserved + 2 * MIB).min(MOST), "{:?}", appender.reserved);
        }
        assert_eq!(appender.reserved.last(), Some(&MOST));
        drop(space);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn no_space_is_preallocated_beyond_the_end_or_for_a_short_body() {
        let budget = budget(1 << 50);
        let mut space = Preallocation::new(budget.clone());
        let mut appender = RecordedAppender::default();
        for little in [None, Some(LEAST - 1)] {
            space.expect(&mut appender, little).await.unwrap();
            space.extend(&mut appender, 1).await.unwrap();
        }
        assert!(appender.reserved.is_empty());
        space.expect(&mut appender, Some(10 * MIB)).await.unwrap();
        receive(&mut space, &mut appender, 10 * MIB).await;
        assert_eq!(appender.reserved, [8 * MIB, 2 * MIB]);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
        space.release(&mut appender).await.unwrap();
        assert!(appender.truncated.is_empty(), "nothing is left to release");
    }

    #[tokio::test]
    async fn all_uploads_together_hold_a_share_of_the_free_bytes() {
        let budget = budget(100 * MIB);
        let mut held = Vec::new();
        for _ in 0..10 {
            let mut space = Preallocation::new(budget.clone());
            let mut appender = RecordedAppender::default();
            space.expect(&mut appender, Some(10 << 30)).await.unwrap();
            // It is no error: there may be space for the bytes themselves.
            space.extend(&mut appender, MIB).await.unwrap();
            held.push((space, appender));
        }
        let made = held.iter().filter(|(_, appender)| !appender.reserved.is_empty()).count();
        assert_eq!(made, 3, "a quarter of 100 MiB, 8 MiB at a time");
        held.clear();
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn released_space_is_preallocated_again_when_the_client_goes_on() {
        let budget = budget(1 << 50);
        let mut space = Preallocation::new(budget.clone());
        let mut appender = RecordedAppender::default();
        space.expect(&mut appender, Some(10 << 30)).await.unwrap();
        receive(&mut space, &mut appender, MIB).await;
        space.release(&mut appender).await.unwrap();
        assert_eq!((appender.truncated.as_slice(), appender.reserved.len()), (&[MIB][..], 1));
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
        receive(&mut space, &mut appender, 9 * MIB).await;
        assert_eq!(appender.reserved.len(), 1);
        receive(&mut space, &mut appender, 10 * MIB).await;
        assert_eq!(appender.reserved.len(), 2);
    }

    #[tokio::test]
    async fn storage_that_cannot_tell_its_free_bytes_preallocates_nevertheless() {
        let budget = SpaceBudget::new(Arc::new(Memory::default()));
        let at = Key::new("a".to_owned());
        let staging = budget.storage.staging();
        let started = Note { name: STARTED_AT, text: Bytes::new() };
        staging.begin(&at, vec![started]).await.unwrap();
        let mut appender = staging.resume(&at).await.unwrap().unwrap();
        let mut space = Preallocation::new(budget.clone());
        space.expect(&mut *appender, Some(10 << 30)).await.unwrap();
        space.extend(&mut *appender, MIB).await.unwrap();
        space.release(&mut *appender).await.unwrap();
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }
}
