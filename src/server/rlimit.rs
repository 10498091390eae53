//! The descriptor limit of the process (`RLIMIT_NOFILE`), and the default connection limit from it.

use std::num::NonZeroU32;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The highest default connection limit. A higher limit has to be configured.
const MOST: u64 = 10_000;

/// Descriptors that the process needs besides connections and the files of their requests.
const OTHERS: u64 = 64;

/// The default connection limit: half of the descriptors, since each connection may need a file too.
/// Raises the soft limit of the process to its hard limit first, as programs in Go do.
pub(super) fn for_connections() -> NonZeroU32 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        // Where the system refuses, the soft limit stays.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = (descriptors.saturating_sub(OTHERS) / 2).clamp(1, MOST);
    u32::try_from(connections).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}
