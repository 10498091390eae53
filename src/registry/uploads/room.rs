//! Room on the disk for what is still to come of an upload.
//!
//! A file system that knows in advance how much is written finds one place for it, and has less to
//! do in the sync at the end. But the length that a client announces is no reason to take room from
//! others: room is made behind what has arrived, first for 8 MiB and then for as much as has come,
//! and all uploads together hold no more than a share of what is free. A client that falls silent
//! holds none.

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

/// The least room that is worth a call. For less, storage finds room in one go anyway.
const LEAST: u64 = 8 * 1024 * 1024;

/// The most room that one upload is ahead of what has arrived.
const MOST: u64 = 256 * 1024 * 1024;

/// When a client announces more than is free it is refused before it has sent that. Looking further
/// ahead than this would refuse what a file system that compresses has room for.
const FORESEEN: u64 = 1024 * 1024 * 1024;

/// All uploads together hold at most one in so many of the bytes that are free.
const SHARE: u64 = 4;

/// A client that has not sent a batch for this long gets the room back that was made for it. At this
/// speed an upload needs none.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// The room that the uploads of a registry hold, together.
#[derive(Clone, Debug)]
pub(super) struct Rooms {
    storage: Arc<dyn Storage>,
    /// How many bytes have room and have not been written.
    held: Arc<AtomicU64>,
}

impl Rooms {
    pub(super) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, held: Arc::default() }
    }

    /// Holds room for `length` bytes if there is enough; whether it does.
    async fn hold(&self, length: u64) -> Result<bool, Error> {
        let free = self.storage.free().await?.unwrap_or(u64::MAX);
        let others = self.held.fetch_add(length, Ordering::Relaxed);
        // What is held is not free any more, but would be if nobody held it.
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
    /// Where the upload will end, when its client has said so and it is worth making room.
    end: Option<u64>,
    /// How many bytes have room behind those that were written.
    held: u64,
    /// Where more room is made next.
    next: u64,
}

impl Room {
    pub(super) const fn new(rooms: Rooms) -> Self {
        Self { rooms, end: None, held: 0, next: 0 }
    }

    /// From now on so many bytes are expected, where it is known.
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

    /// Makes room when `arrived` bytes are about to be written that lead beyond it.
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
        // Room or not, it is a while before that is asked again.
        self.next = position + length;
        let more = length.saturating_sub(self.held);
        if self.rooms.hold(more).await? {
            self.held += more;
            appender.reserve(length).await?;
        }
        Ok(())
    }

    /// So many bytes were written.
    pub(super) fn used(&mut self, length: u64) {
        let used = self.held.min(length);
        self.held -= used;
        self.rooms.let_go(used);
    }

    /// Gives back what is left. More is made only when as much as at the beginning has come since.
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

    /// Remembers what it was asked for.
    #[derive(Debug, Default)]
    struct Asked {
        position: u64,
        reserved: Vec<u64>,
        truncated: Vec<u64>,
    }

    #[async_trait::async_trait]
    impl Appender for Asked {
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

    /// Storage with so many bytes left.
    fn rooms(free: u64) -> Rooms {
        let memory = Memory::default();
        memory.leave_free(free);
        Rooms::new(Arc::new(memory))
    }

    /// Takes in bytes, 1 MiB at a time, until so many have come.
    async fn receive(room: &mut Room, appender: &mut Asked, until: u64) {
        while appender.position < until {
            room.make(appender, MIB).await.unwrap();
            appender.position += MIB;
            room.used(MIB);
        }
    }

    #[tokio::test]
    async fn room_is_made_behind_what_has_arrived() {
        let rooms = rooms(1 << 50);
        let (mut room, mut appender) = (Room::new(rooms.clone()), Asked::default());
        room.expect(&mut appender, Some(10 << 30)).await.unwrap();
        room.make(&mut appender, 1).await.unwrap();
        assert_eq!(appender.reserved, [8 * MIB], "one byte came");
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
    async fn no_room_is_made_beyond_the_end_nor_for_little() {
        let rooms = rooms(1 << 50);
        let (mut room, mut appender) = (Room::new(rooms.clone()), Asked::default());
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
        assert!(appender.truncated.is_empty(), "nothing is left to be given back");
    }

    #[tokio::test]
    async fn all_uploads_together_hold_a_share_of_what_is_free() {
        let rooms = rooms(100 * MIB);
        let mut held = Vec::new();
        for _ in 0..10 {
            let (mut room, mut appender) = (Room::new(rooms.clone()), Asked::default());
            room.expect(&mut appender, Some(10 << 30)).await.unwrap();
            // It is no error: the bytes themselves may have room.
            room.make(&mut appender, MIB).await.unwrap();
            held.push((room, appender));
        }
        let made = held.iter().filter(|(_, appender)| !appender.reserved.is_empty()).count();
        assert_eq!(made, 3, "a quarter of 100 MiB, 8 MiB at a time");
        held.clear();
        assert_eq!(rooms.held.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn room_that_was_given_back_is_made_again_only_for_who_goes_on() {
        let rooms = rooms(1 << 50);
        let (mut room, mut appender) = (Room::new(rooms.clone()), Asked::default());
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
    async fn storage_that_cannot_tell_what_is_free_makes_room_all_the_same() {
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
