//! Preallocation: room on the disk for the bytes that an upload is about to get.
//!
//! A file system that knows the length in advance finds one extent for it, and has less to do in the
//! sync at the end. But an announced length alone must not take room from other uploads. So room is
//! made behind the received bytes, first for 8 MiB and then for as much as has come, and all uploads
//! together hold no more than a share of the free bytes. A silent client holds no room.

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

/// The least room that is worth a call. Storage finds one extent for less anyway.
const LEAST: u64 = 8 * 1024 * 1024;

/// The most room that one upload holds ahead of its received bytes.
const MOST: u64 = 256 * 1024 * 1024;

/// A client that announces more bytes than are free is refused early, up to this many bytes ahead.
/// Looking further ahead would refuse uploads that a compressing file system has room for.
const FORESEEN: u64 = 1024 * 1024 * 1024;

/// All uploads together hold at most one part in this many of the free bytes.
const SHARE: u64 = 4;

/// A client that sends no batch within this time loses its room. At this speed an upload needs none.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// The room that all uploads of a registry hold together.
#[derive(Clone, Debug)]
pub(super) struct Rooms {
    storage: Arc<dyn Storage>,
    /// The number of bytes that have room and are not written yet.
    held: Arc<AtomicU64>,
}

impl Rooms {
    pub(super) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, held: Arc::default() }
    }

    /// Reserves room for `length` bytes; `false` when the share does not allow it.
    async fn hold(&self, length: u64) -> Result<bool, Error> {
        let free = self.storage.free().await?.unwrap_or(u64::MAX);
        let others = self.held.fetch_add(length, Ordering::Relaxed);
        // Held bytes are not free any more, but count as free for the share.
        let fits = others.saturating_add(length) <= free.saturating_add(others) / SHARE;
        if !fits {
            self.let_go(length);
        }
        Ok(fits)
    }

    fn let_go(&self, length: u64) {
        self.held.fetch_sub(length, Ordering::Relaxed);
    }
}

/// The room of one upload.
#[derive(Debug)]
pub(super) struct Room {
    rooms: Rooms,
    /// The final length of the upload, where the client announced it and room is worth making.
    end: Option<u64>,
    /// The number of bytes behind the written ones that have room.
    held: u64,
    /// The position at which more room is made next.
    next: u64,
}

impl Room {
    pub(super) const fn new(rooms: Rooms) -> Self {
        Self { rooms, end: None, held: 0, next: 0 }
    }

    /// Expects `length` more bytes, where the client announced it.
    ///
    /// # Errors
    ///
    /// When there is no room for them; when storage fails.
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

    /// Makes room when the `arrived` bytes, which are about to be written, exceed it.
    ///
    /// # Errors
    ///
    /// When there is no room, or storage fails.
    pub(super) async fn make(
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
        // With or without room, the next attempt comes a while later.
        self.next = position + length;
        let more = length.saturating_sub(self.held);
        if self.rooms.hold(more).await? {
            self.held += more;
            appender.reserve(length).await?;
        }
        Ok(())
    }

    /// Records that `length` bytes were written.
    pub(super) fn used(&mut self, length: u64) {
        let used = self.held.min(length);
        self.held -= used;
        self.rooms.let_go(used);
    }

    /// Returns the unused room. More room is made only after as many further bytes as at the beginning.
    pub(super) async fn give_back(&mut self, appender: &mut dyn Appender) -> Result<(), Error> {
        if self.held == 0 {
            return Ok(());
        }
        let position = appender.position();
        self.next = position.saturating_add(LEAST);
        self.used(self.held);
        Ok(appender.truncate(position).await?)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.rooms.let_go(self.held);
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

    /// The reservations over storage with `free` bytes left.
    fn rooms(free: u64) -> Rooms {
        let memory = Memory::default();
        memory.leave_free(free);
        Rooms::new(Arc::new(memory))
    }

    /// Receives bytes, 1 MiB at a time, up to the position `until`.
    async fn receive(room: &mut Room, appender: &mut RecordedAppender, until: u64) {
        while appender.position < until {
            room.make(appender, MIB).await.unwrap();
            appender.position += MIB;
            room.used(MIB);
        }
    }

    #[tokio::test]
    async fn reservation_grows_with_the_received_bytes() {
        let rooms = rooms(1 << 50);
        let mut room = Room::new(rooms.clone());
        let mut appender = RecordedAppender::default();
        room.expect(&mut appender, Some(10 << 30)).await.unwrap();
        room.make(&mut appender, 1).await.unwrap();
        assert_eq!(appender.reserved, [8 * MIB], "one byte has arrived");
        receive(&mut room, &mut appender, 600 * MIB).await;
        assert_eq!(appender.reserved[..3], [8 * MIB, 9 * MIB, 18 * MIB]);
        for (reserved, next) in appender.reserved.iter().zip(&appender.reserved[1..]) {
            assert!(*next <= (2 * reserved + 2 * MIB).min(MOST), "{:?}", appender.reserved);
        }
        assert_eq!(appender.reserved.last(), Some(&MOST));
        drop(room);
        assert_eq!(rooms.held.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn reservation_ends_with_the_upload_and_is_not_made_for_a_small_one() {
        let rooms = rooms(1 << 50);
        let mut room = Room::new(rooms.clone());
        let mut appender = RecordedAppender::default();
        for little in [None, Some(LEAST - 1)] {
            room.expect(&mut appender, little).await.unwrap();
            room.make(&mut appender, 1).await.unwrap();
        }
        assert!(appender.reserved.is_empty());
        room.expect(&mut appender, Some(10 * MIB)).await.unwrap();
        receive(&mut room, &mut appender, 10 * MIB).await;
        assert_eq!(appender.reserved, [8 * MIB, 2 * MIB]);
        assert_eq!(rooms.held.load(Ordering::Relaxed), 0);
        room.give_back(&mut appender).await.unwrap();
        assert!(appender.truncated.is_empty(), "the upload has used the whole reservation");
    }

    #[tokio::test]
    async fn reservations_of_all_uploads_share_a_quarter_of_the_free_space() {
        let rooms = rooms(100 * MIB);
        let mut held = Vec::new();
        for _ in 0..10 {
            let mut room = Room::new(rooms.clone());
            let mut appender = RecordedAppender::default();
            room.expect(&mut appender, Some(10 << 30)).await.unwrap();
            // Without a reservation the upload goes on: there may be space for its bytes.
            room.make(&mut appender, MIB).await.unwrap();
            held.push((room, appender));
        }
        let made = held.iter().filter(|(_, appender)| !appender.reserved.is_empty()).count();
        assert_eq!(made, 3, "a quarter of 100 MiB, 8 MiB at a time");
        held.clear();
        assert_eq!(rooms.held.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn returned_reservation_is_made_again_after_more_bytes() {
        let rooms = rooms(1 << 50);
        let mut room = Room::new(rooms.clone());
        let mut appender = RecordedAppender::default();
        room.expect(&mut appender, Some(10 << 30)).await.unwrap();
        receive(&mut room, &mut appender, MIB).await;
        room.give_back(&mut appender).await.unwrap();
        assert_eq!((appender.truncated.as_slice(), appender.reserved.len()), (&[MIB][..], 1));
        assert_eq!(rooms.held.load(Ordering::Relaxed), 0);
        receive(&mut room, &mut appender, 9 * MIB).await;
        assert_eq!(appender.reserved.len(), 1);
        receive(&mut room, &mut appender, 10 * MIB).await;
        assert_eq!(appender.reserved.len(), 2);
    }

    #[tokio::test]
    async fn reservation_works_over_storage_without_a_count_of_free_bytes() {
        let rooms = Rooms::new(Arc::new(Memory::default()));
        let at = Key::new("a".to_owned());
        let staging = rooms.storage.staging();
        let started = Note { name: STARTED_AT, text: Bytes::new() };
        staging.begin(&at, vec![started]).await.unwrap();
        let mut appender = staging.resume(&at).await.unwrap().unwrap();
        let mut room = Room::new(rooms.clone());
        room.expect(&mut *appender, Some(10 << 30)).await.unwrap();
        room.make(&mut *appender, MIB).await.unwrap();
        room.give_back(&mut *appender).await.unwrap();
        assert_eq!(rooms.held.load(Ordering::Relaxed), 0);
    }
}
