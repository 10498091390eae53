//! Locks that other processes on the same tree see: files without content, locked by `flock`.

use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, Instant},
};

use super::{Filesystem, Inner};
use crate::{
    storage::{Error, Key},
    telemetry::operations::Action,
};

/// Where they lie, below the root.
pub(super) const LOCKS: &str = "portcullis-locks";

/// Nobody holds a lock as long as this who is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the first wait for a lock is; each is twice as long as the one before, up to the last.
const WAITS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));

impl Filesystem {
    /// Waits for a lock file, and holds it until what is returned is dropped.
    ///
    /// Beside it is its entrance, which everybody goes through: whoever wants to be alone stays
    /// there, so that nobody else comes in while it waits for those inside.
    pub(super) async fn locked(&self, file: &Key, alone: bool) -> Result<File, Error> {
        let (mut wait, longest) = WAITS;
        let give_up = Instant::now() + PATIENCE;
        let mut entrance = None;
        loop {
            let lock = move |inner: &Inner, path: &Path| {
                if entrance.is_none() {
                    let beside = path.with_extension("entrance");
                    entrance = inner.disk.lock(&beside, alone)?;
                }
                let held = match entrance {
                    Some(_) => inner.disk.lock(path, alone)?,
                    None => None,
                };
                if held.is_none() && Instant::now() > give_up {
                    return Err(io::Error::other("another process holds it and does not let go"));
                }
                // Who does not want to be alone stands in nobody's way while they wait.
                Ok((held, entrance.filter(|_| alone)))
            };
            let (held, waiting) = self.blocking(Action::Stat, "lock", file, lock).await?;
            if let Some(held) = held {
                return Ok(held);
            }
            entrance = waiting;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(longest);
        }
    }
}
