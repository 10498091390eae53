//! The limit for reading blobs, in bytes per second, and the hashing of a blob under that limit.

use std::{
    num::NonZeroU64,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, future};
use tokio::time::Instant;

use crate::{
    oci::{Algorithm, Digest, Hasher},
    storage::{ByteStream, Error},
};

/// How much unused time later reads may make up for.
const BURST: Duration = Duration::from_millis(100);

/// The size of the batches that are hashed while the next one is read.
const BATCH: usize = 1024 * 1024;

/// A smaller batch is hashed without a hop to another thread, which takes longer.
const IN_PLACE: usize = 64 * 1024;

/// A rate limit that all reads share.
#[derive(Debug)]
pub(super) struct RateLimit {
    rate: Option<NonZeroU64>,
    /// The time at which the bytes granted so far are due.
    due: Mutex<Instant>,
}

impl RateLimit {
    pub(super) fn new(rate: Option<NonZeroU64>) -> Self {
        Self { rate, due: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` more may be read.
    async fn take(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        // Lossy above 2^52 bytes, and a piece is much smaller.
        #[expect(clippy::cast_precision_loss, reason = "a piece is small, and a rate may be rough")]
        let time = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        let now = Instant::now();
        let until = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let start = now.checked_sub(BURST).map_or(*due, |earliest| earliest.max(*due));
            *due = start + time;
            *due
        };
        if until > now {
            tokio::time::sleep_until(until).await;
        }
    }

    /// The digest of a stream; `read` receives the length of each piece. One megabyte is read while the
    /// one before it is hashed on another thread.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub(super) async fn hash(
        &self,
        mut pieces: ByteStream,
        algorithm: Algorithm,
        read: impl Fn(usize),
    ) -> Result<Digest, Error> {
        let mut hasher = Hasher::new(algorithm);
        let mut batch = self.batch(&mut pieces, &read).await?;
        while !batch.is_empty() {
            let current = std::mem::take(&mut batch);
            let (hashed, next) =
                future::join(hash(hasher, current), self.batch(&mut pieces, &read)).await;
            hasher = hashed;
            batch = next?;
        }
        Ok(hasher.finish())
    }

    async fn batch(
        &self,
        pieces: &mut ByteStream,
        read: &impl Fn(usize),
    ) -> Result<Vec<Bytes>, Error> {
        let mut batch = Vec::new();
        let mut length = 0;
        while length < BATCH
            && let Some(piece) = pieces.next().await
        {
            let piece = piece?;
            self.take(piece.len()).await;
            read(piece.len());
            length += piece.len();
            batch.push(piece);
        }
        Ok(batch)
    }
}

async fn hash(mut hasher: Hasher, batch: Vec<Bytes>) -> Hasher {
    let length: usize = batch.iter().map(Bytes::len).sum();
    let update = move || {
        for piece in &batch {
            hasher.update(piece);
        }
        hasher
    };
    if length <= IN_PLACE {
        return update();
    }
    match tokio::task::spawn_blocking(update).await {
        Ok(hasher) => hasher,
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn hashing_takes_as_long_as_the_limit_requires() {
        let pace = RateLimit::new(NonZeroU64::new(1000));
        let start = Instant::now();
        let bytes = Bytes::from(vec![7; 500]);
        let pieces = stream::iter(vec![bytes.clone(); 20]).map(Ok).boxed();
        let digest = pace.hash(pieces, Algorithm::Sha256, |_| {}).await.unwrap();
        assert_eq!(digest, Digest::of(Algorithm::Sha256, &bytes.repeat(20)));
        let took = start.elapsed().as_millis();
        assert!((9_850..10_100).contains(&took), "{took} ms");
    }
}
