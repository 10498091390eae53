//! Receives, hashes and writes the bytes of an upload at the same time.
//!
//! Pieces are gathered into batches. While one batch is hashed on one thread and written on another,
//! the next one arrives. An upload never has more than two batches in memory.

use std::{ops::RangeInclusive, pin::pin, sync::Arc};

use bytes::Bytes;
use futures_util::StreamExt as _;

use super::{
    Body, Chunk,
    bounds::{Bounds, Reaches},
    preallocation::{self, Preallocation, SpaceBudget},
    sessions::{Asked, Hashed, SILENCE},
};
use crate::{
    oci::{Algorithm, Digest, Hasher},
    registry::{BodyError, Error},
    storage::{Key, Note, Staged, Storage},
};

/// The size of the batches of all uploads together. Large batches make the hops between threads cheap:
/// with 1 MiB a push is a fifth faster than with a quarter of that. Larger ones make one push a little
/// faster still and several pushes slower (docs/PERFORMANCE.md).
const BATCHES: usize = 8 * 1024 * 1024;
const BATCH: RangeInclusive<usize> = 256 * 1024..=1024 * 1024;

/// A smaller piece is hashed without a hop to another thread: hashing takes about 20 µs, as a hop does.
const HASH_IN_PLACE: usize = 32 * 1024;

/// Counts the intakes at work, each of which holds a clone.
#[derive(Clone, Debug)]
pub(in crate::registry) struct Intakes {
    counted: Arc<()>,
    space_budget: SpaceBudget,
}

impl Intakes {
    /// The intakes of uploads into `storage`.
    pub(in crate::registry) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { counted: Arc::default(), space_budget: SpaceBudget::new(storage) }
    }

    /// The size of a batch.
    fn batch(&self) -> usize {
        let intakes = Arc::strong_count(&self.counted).saturating_sub(1).max(1);
        (BATCHES / intakes).clamp(*BATCH.start(), *BATCH.end())
    }
}

#[derive(Debug)]
pub(super) struct Intake {
    staged: Box<dyn Staged>,
    preallocation: Preallocation,
    intakes: Intakes,
    /// The hasher of exactly the staged bytes.
    hasher: Hasher,
    /// The length of the upload when it was resumed.
    began: u64,
    saved: u64,
    asked: Asked,
    /// Whether a chunk must have a range.
    range_expected: bool,
}

impl Intake {
    /// The intake of a resumed upload: all its bytes are `hashed`, and storage has the state of the
    /// hasher after the first `saved` bytes.
    pub(super) fn new(
        staged: Box<dyn Staged>,
        intakes: Intakes,
        hashed: Hashed,
        saved: u64,
        asked: Asked,
    ) -> Self {
        let hasher = hashed.hasher;
        let began = hashed.length;
        let preallocation = Preallocation::new(intakes.space_budget.clone());
        Self { staged, preallocation, intakes, hasher, began, saved, asked, range_expected: false }
    }

    /// Refuses chunks without a range from now on: another request has written since the client learned
    /// the length of the upload.
    pub(super) const fn expect_range(&mut self) {
        self.range_expected = true;
    }

    pub(super) fn length(&self) -> u64 {
        self.staged.position()
    }

    /// Whether the upload has grown since it was resumed.
    pub(super) fn has_grown(&self) -> bool {
        self.length() != self.began
    }

    /// The length at which storage has the state of the hasher.
    pub(super) const fn saved(&self) -> u64 {
        self.saved
    }

    pub(super) const fn algorithm(&self) -> Algorithm {
        self.hasher.algorithm()
    }

    pub(super) fn hashed(&self) -> Hashed {
        Hashed { hasher: self.hasher.clone(), length: self.length() }
    }

    pub(super) fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    pub(super) async fn sync(&mut self) -> Result<(), Error> {
        Ok(self.staged.sync().await?)
    }

    /// Suspends the upload, with notes about it, for the next request; `false` when it has gone.
    pub(super) async fn rest(&mut self, notes: Vec<Note>) -> Result<bool, Error> {
        Ok(self.staged.rest(notes).await?)
    }

    /// Makes the synced bytes an object; `false` when the upload has gone.
    pub(super) async fn commit(&mut self, to: &Key) -> Result<bool, Error> {
        Ok(self.staged.commit(to).await?)
    }

    /// Receives a chunk. A chunk that does not match its range changes nothing; of a chunk without a
    /// range that breaks off, the received bytes are kept. A chunk beyond the `bounds` is refused before its
    /// body is read, where its length is known, else when it has passed them.
    pub(super) async fn take(&mut self, chunk: Chunk, bounds: &mut Bounds) -> Result<(), Error> {
        let Chunk { body, length, range, .. } = chunk;
        let start = self.hashed();
        let Some(range) = range else {
            if self.range_expected {
                return Err(Error::RangeInvalid { offset: start.length });
            }
            let announced = Announced { length, limit: u64::MAX };
            return self.receive_into(announced, body, bounds).await;
        };
        // The offset is checked first: a client that learns it can send the right chunk.
        if range.start != start.length {
            return Err(Error::RangeInvalid { offset: start.length });
        }
        let expected = range.end - range.start;
        // A registry reports `0-0` for an empty upload, and clients repeat it.
        let fits = |received| received == expected || (received == 0 && range == (0..1));
        if let Some(received) = length.filter(|&length| !fits(length)) {
            // A wrong length is refused before the body is read.
            return Err(Error::SizeInvalid { expected, received });
        }
        self.receive_into(Announced { length, limit: expected }, body, bounds).await?;
        let received = self.length() - start.length;
        if fits(received) {
            return Ok(());
        }
        self.staged.truncate(start.length).await?;
        self.hasher = start.hasher;
        Err(Error::SizeInvalid { expected, received })
    }

    /// Stores a body.
    async fn receive_into(
        &mut self,
        Announced { length, limit }: Announced,
        body: Body,
        bounds: &mut Bounds,
    ) -> Result<(), Error> {
        let reaches = match length {
            Some(length) => Reaches::Announced(self.length().saturating_add(length)),
            None => Reaches::Arrived(self.length()),
        };
        bounds.allow(reaches).await?;
        self.preallocation.expect(&mut *self.staged, length).await?;
        let received = self.receive(body, limit, bounds).await;
        // The client gets the first error. Space that stays goes with the upload.
        let _ = self.preallocation.release(&mut *self.staged).await;
        received
    }

    /// Stores a body, or a little more than its first `limit` bytes.
    async fn receive(
        &mut self,
        mut body: Body,
        limit: u64,
        bounds: &mut Bounds,
    ) -> Result<(), Error> {
        let mut received = 0;
        let asked = self.asked.clone();
        let Batch { mut pieces, mut rest } = gather(&mut body, self.intakes.batch(), &asked).await;
        while !pieces.is_empty() {
            let arrived = pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
            bounds.allow(Reaches::Arrived(self.length() + arrived)).await?;
            received += arrived;
            if received > limit || !matches!(rest, Rest::More) {
                self.store(pieces).await?;
                break;
            }
            let mut next = pin!(gather(&mut body, self.intakes.batch(), &asked));
            let early = tokio::time::timeout(preallocation::SILENCE, &mut next);
            let (stored, early) = tokio::join!(self.store(pieces), early);
            stored?;
            Batch { pieces, rest } = match early {
                Ok(next) => next,
                Err(_) => {
                    // Other uploads need the space more than a client that is silent or nearly so.
                    self.preallocation.release(&mut *self.staged).await?;
                    next.await
                }
            };
        }
        match rest {
            Rest::Broken(error) => Err(error),
            Rest::More | Rest::Nothing => Ok(()),
        }
    }

    /// Hashes and writes a batch. When either fails, it is as if neither had been done.
    async fn store(&mut self, batch: Vec<Bytes>) -> Result<(), Error> {
        let length = batch.iter().map(|piece| piece.len() as u64).sum();
        let preallocation = &mut self.preallocation;
        let appender = &mut *self.staged;
        let pieces = batch.clone();
        let written = async {
            preallocation.extend(appender, length).await?;
            appender.write(pieces).await?;
            preallocation.written(length);
            Ok::<_, Error>(())
        };
        let (hasher, written) = tokio::join!(hash(self.hasher.clone(), batch), written);
        written?;
        self.hasher = hasher?;
        Ok(())
    }
}

/// What the head of a request says of its body.
#[derive(Clone, Copy)]
struct Announced {
    /// Its number of bytes, where the client tells it.
    length: Option<u64>,
    /// The number of bytes behind which it is not read on.
    limit: u64,
}

/// The pieces of a body that are stored together.
struct Batch {
    pieces: Vec<Bytes>,
    rest: Rest,
}

/// The state of a body after a batch.
enum Rest {
    More,
    Nothing,
    Broken(Error),
}

/// Receives a batch of about this size.
async fn gather(body: &mut Body, size: usize, asked: &Asked) -> Batch {
    let mut pieces = Vec::new();
    let mut length = 0;
    if asked.to_end.is_cancelled() {
        return Batch { pieces, rest: Rest::Broken(Error::UploadUnknown) };
    }
    while length < size {
        match next(body, asked).await {
            Some(Ok(piece)) => {
                length += piece.len();
                if !piece.is_empty() {
                    pieces.push(piece);
                }
            }
            Some(Err(error)) => return Batch { pieces, rest: Rest::Broken(error) },
            None => return Batch { pieces, rest: Rest::Nothing },
        }
    }
    Batch { pieces, rest: Rest::More }
}

/// The next piece of a body. While another request waits for this writer to leave, its client must send
/// a byte within [`SILENCE`].
async fn next(body: &mut Body, asked: &Asked) -> Option<Result<Bytes, Error>> {
    let piece = tokio::select! {
        biased;
        piece = body.next() => piece,
        () = asked.to_end.cancelled() => return Some(Err(Error::UploadUnknown)),
        () = asked.to_leave.cancelled() => {
            let silence = |_| Some(Err(BodyError::Stalled(SILENCE)));
            tokio::time::timeout(SILENCE, body.next()).await.unwrap_or_else(silence)
        }
    };
    Some(piece?.map_err(Error::from))
}

/// Hashes pieces, on another thread when they are large.
pub(super) async fn hash(mut hasher: Hasher, pieces: Vec<Bytes>) -> Result<Hasher, Error> {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let update = move || {
        for piece in &pieces {
            hasher.update(piece);
        }
        hasher
    };
    if length <= HASH_IN_PLACE {
        return Ok(update());
    }
    tokio::task::spawn_blocking(update).await.map_err(Error::Panicked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_all_pushes_are_bounded_together() {
        let registry = Intakes::new(Arc::new(crate::storage::memory::Memory::default()));
        let batch = |count: usize| {
            let pushes = vec![registry.clone(); count];
            pushes.last().map_or(0, Intakes::batch)
        };
        assert_eq!([1, 8].map(batch), [1024 * 1024; 2]);
        assert_eq!(batch(16), 512 * 1024);
        assert_eq!([32, 500].map(batch), [256 * 1024; 2]);
        assert!((1..=32).all(|count| count * batch(count) <= BATCHES));
    }
}
