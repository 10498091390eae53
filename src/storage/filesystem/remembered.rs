//! Small files that are read again and again: links, manifests.
//!
//! To read a file takes a thread that may block, and the hop to it costs more than the reading. So
//! what was read lately is kept, together with how the file looked, and is given again for as long
//! as the file looks the same. That look is a `stat`, made where the caller is: the system has the
//! entry of a file that was used lately in memory and does not go to the disk for it.
//!
//! Other processes may write to the tree: a file that another process replaced, changed or removed
//! looks different. A file younger than two seconds is not kept, for it might
//! change again within the same step of the file system's clock and look the same.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use moka::sync::Cache;

use crate::{stamp::Stamp, storage::Key};

/// How much is kept together, in bytes.
const MAX_KEPT: u64 = 16 * 1024 * 1024;

/// A file that is longer is not kept: one of them would push out thousands of links.
const MAX_FILE: usize = 1024 * 1024;

/// What an entry takes besides its bytes, roughly.
const OVERHEAD: usize = 256;

/// "Lately": after this long without use the system may have forgotten as well.
const LATELY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Remembered(Cache<Key, Arc<Kept>>);

#[derive(Debug)]
enum Kept {
    Content {
        stamp: Stamp,
        bytes: Bytes,
    },
    /// Only how it looked, so that it can be looked at again without a hop.
    Seen(Stamp),
}

impl Remembered {
    pub(super) fn new() -> Self {
        let weight = |key: &Key, kept: &Arc<Kept>| {
            let content = match &**kept {
                Kept::Content { bytes, .. } => bytes.len(),
                Kept::Seen(_) => 0,
            };
            u32::try_from(OVERHEAD + key.as_str().len() + content).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().weigher(weight).max_capacity(MAX_KEPT).time_to_idle(LATELY);
        Self(cache.build())
    }

    /// The content of the file at `path`, when it is known and still as it was.
    pub(super) fn content(&self, key: &Key, path: &Path) -> Option<Bytes> {
        match &*self.0.get(key)? {
            Kept::Content { stamp, bytes } if Stamp::of(path) == *stamp => Some(bytes.clone()),
            _ => None,
        }
    }

    /// Keeps what was read from a file that looked like this when it was opened.
    pub(super) fn keep(&self, key: &Key, stamp: Stamp, bytes: &Bytes, now: SystemTime) {
        if bytes.len() <= MAX_FILE && stamp.is_old(now) {
            self.0.insert(key.clone(), Arc::new(Kept::Content { stamp, bytes: bytes.clone() }));
        }
    }

    /// The length of the file at `path`, when it was looked at lately and is as it was.
    pub(super) fn length(&self, key: &Key, path: &Path) -> Option<u64> {
        let (Kept::Content { stamp, .. } | Kept::Seen(stamp)) = &*self.0.get(key)?;
        (Stamp::of(path) == *stamp).then_some(stamp.size)
    }

    /// Notes how the file looked.
    pub(super) fn saw(&self, key: &Key, stamp: Stamp) {
        self.0.insert(key.clone(), Arc::new(Kept::Seen(stamp)));
    }
}
