//! How many descriptors the process may have.

use std::num::NonZeroU32;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More connections than this are worth asking for in words.
const MOST: u64 = 10_000;

/// What the process has open besides connections and what is read and written for them.
const OTHERS: u64 = 64;

/// How many connections there may be: each may need a file besides. The limit that the process was
/// started with is raised as far as it may raise it itself, as programs in Go do.
pub(super) fn for_connections() -> NonZeroU32 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        // Where it may not be raised, it is as it was.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = (descriptors.saturating_sub(OTHERS) / 2).clamp(1, MOST);
    u32::try_from(connections).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}
