//! The largest blob that may be pushed (`http.limits.blob`), which can change without a restart.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::byte_size::ByteSize;

/// The limit in force. Zero stands for no limit.
#[derive(Debug)]
pub(super) struct BlobLimit(AtomicU64);

impl BlobLimit {
    /// This limit, or none.
    pub(super) fn new(most: Option<ByteSize>) -> Self {
        Self(AtomicU64::new(most.map_or(0, ByteSize::get)))
    }

    /// Another limit, or none, from now on.
    pub(super) fn set(&self, most: Option<ByteSize>) {
        self.0.store(most.map_or(0, ByteSize::get), Ordering::Relaxed);
    }

    /// The limit; `None` for blobs of any size.
    pub(super) fn now(&self) -> Option<ByteSize> {
        ByteSize::new(self.0.load(Ordering::Relaxed))
    }
}
