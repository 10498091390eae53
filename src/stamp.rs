//! Detects with a `stat` whether a file has changed since it was read.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

/// File systems count time in steps, of up to two seconds (FAT). A file that was written within the
/// same step as it was read may have changed again without a trace in its metadata.
const TIME_STEP: Duration = Duration::from_secs(2);

/// The metadata that distinguishes the states of a file. All zero: the file does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    // Seconds and nanoseconds. The change time too: `cp -p` sets the other one back.
    pub(crate) modified: (i64, i64),
    pub(crate) changed: (i64, i64),
}

impl Stamp {
    /// The state of the file at `path`; symbolic links are followed. Errors are left to the code that
    /// reads the file.
    pub(crate) fn of(path: &Path) -> Self {
        // Not `fs::metadata`, which reads more: this is called for each request.
        rustix::fs::stat(path).map_or_else(
            |_| Self::default(),
            |found| Self {
                device: found.st_dev,
                inode: found.st_ino,
                size: u64::try_from(found.st_size).unwrap_or_default(),
                modified: (found.st_mtime, i64::try_from(found.st_mtime_nsec).unwrap_or_default()),
                changed: (found.st_ctime, i64::try_from(found.st_ctime_nsec).unwrap_or_default()),
            },
        )
    }

    /// Whether the file was last written long enough before `now` that another write would change the
    /// stamp. A file that is not settled must be read again, even if its stamp is the same. Uses the
    /// modification time, which programs can set.
    pub(crate) fn is_settled(&self, now: SystemTime) -> bool {
        is_past(self.modified.0, now)
    }

    /// As [`is_settled`](Self::is_settled), and by the change time, too, which no program can set:
    /// whether the file was neither written nor renamed nor given another modification time lately.
    pub(crate) fn is_old(&self, now: SystemTime) -> bool {
        self.is_settled(now) && is_past(self.changed.0, now)
    }
}

fn is_past(seconds: i64, now: SystemTime) -> bool {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // One second more, for the fractions that this ignores.
    u64::try_from(seconds).unwrap_or(0) + TIME_STEP.as_secs() < now
}

impl From<&fs::Metadata> for Stamp {
    fn from(found: &fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}
