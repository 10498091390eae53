//! Whether pulls have been recorded without a gap, so that the collection of untagged manifests can rely on
//! the records.
//!
//! While nothing records pulls (registry:2 serves the tree, or the option is off) a deployment may pull an
//! untagged manifest every day, and no record says so. So a process that records pulls confirms that every
//! hour, in one file at the root of the storage: the modification time of the file is that of the last
//! confirmation, its content is the time before which no untagged manifest goes. After a gap none goes for
//! as long as the gap was; after a lost record, or a process that died, for a day; and without the file for
//! the whole period. The deployments pull again meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use jiff::Timestamp;

use super::Pulls;
use crate::{
    registry::{
        Error,
        tree::{Tree, pulls},
    },
    storage::Durability,
};

/// How long no untagged manifest goes after a record was lost.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long after a confirmation the next may come without a gap.
const TOLERATED: Duration = Duration::from_secs(2 * 3600);

/// The longest content of the file.
const MAX_LEN: usize = 256;

/// The last word of the file while a process records pulls.
const RECORDING: &str = "recording";

/// The last word of the file after such a process has stopped.
const STOPPED: &str = "stopped";

/// The watch over the records of pulls.
#[derive(Debug)]
pub(in crate::registry) struct PullWatch {
    tree: Arc<Tree>,
    pulls: Arc<Pulls>,
    /// How long an untagged manifest stays without a pull.
    period: Duration,
    has_begun: AtomicBool,
}

/// The content and the time of the file.
#[derive(Clone, Copy, Debug)]
struct State {
    /// No untagged manifest goes before.
    held: SystemTime,
    /// Whether a process records pulls, or died while it did.
    is_recording: bool,
    confirmed: SystemTime,
}

impl PullWatch {
    pub(in crate::registry) fn new(tree: Arc<Tree>, pulls: Arc<Pulls>, period: Duration) -> Self {
        Self { tree, pulls, period, has_begun: AtomicBool::new(false) }
    }

    /// Confirms that this process records all pulls: the first time when it begins to, then every hour.
    ///
    /// # Errors
    ///
    /// When storage fails. The time until the next confirmation then counts as a gap.
    pub(in crate::registry) async fn confirm(&self) -> Result<(), Error> {
        let lost = self.pulls.take_lost();
        let confirmed = self.try_confirm(lost).await;
        if confirmed.is_err() && lost {
            self.pulls.lost.store(true, Ordering::Relaxed);
        }
        confirmed
    }

    /// Says that this process stops, and that all its pulls are recorded.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub(in crate::registry) async fn end(&self) -> Result<(), Error> {
        if !self.has_begun.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.confirm().await?;
        self.has_begun.store(false, Ordering::Relaxed);
        match read(&self.tree).await? {
            Some(state) => self.write(state.held, STOPPED).await,
            None => Ok(()),
        }
    }

    async fn try_confirm(&self, lost: bool) -> Result<(), Error> {
        let now = self.tree.storage().time().await?;
        let known = read(&self.tree).await?;
        let is_first = !self.has_begun.load(Ordering::Relaxed);
        let Some(known) = known else {
            self.write(now + self.period, RECORDING).await?;
            self.has_begun.store(true, Ordering::Relaxed);
            return Ok(());
        };
        let mut gap = Some(known.gap(now)).filter(|gap| *gap > TOLERATED);
        if lost || is_first && known.is_recording {
            gap = Some(gap.unwrap_or_default().max(DAY));
        }
        let is_up_to_date = gap.is_none() && known.is_recording && !is_first;
        if !(is_up_to_date && self.tree.storage().renew(&pulls()).await?) {
            // A time beyond the period comes from a clock that has been put right, or a longer period.
            let until = gap.map_or(known.held, |gap| known.held.max(now + gap));
            self.write(until.min(now + self.period), RECORDING).await?;
        }
        self.has_begun.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn write(&self, held: SystemTime, last: &str) -> Result<(), Error> {
        let held = Timestamp::try_from(held).unwrap_or(Timestamp::MAX);
        let content = Bytes::from(format!("{held} {last}\n"));
        Ok(self.tree.storage().put(&pulls(), content, Durability::Synced).await?)
    }
}

/// The time before which no manifest goes that was untagged for `period`; `None` where one may go now.
pub(in crate::registry) async fn held_until(
    tree: &Tree,
    period: Duration,
    now: SystemTime,
) -> Result<Option<SystemTime>, Error> {
    let Some(known) = read(tree).await? else { return Ok(Some(now + period)) };
    let gap = known.gap(now);
    let held = match gap > DAY {
        true => now + gap.min(period),
        false => known.held.min(now + period),
    };
    Ok(Some(held).filter(|held| *held > now))
}

/// `None` where the file is missing or has no valid content.
async fn read(tree: &Tree) -> Result<Option<State>, Error> {
    let key = pulls();
    let Some(content) = tree.storage().read(&key, MAX_LEN).await? else { return Ok(None) };
    let Some(confirmed) = tree.storage().modified(&key).await? else { return Ok(None) };
    let text = std::str::from_utf8(&content).unwrap_or_default();
    let mut words = text.split_whitespace();
    let held = words.next().and_then(|held| held.parse::<Timestamp>().ok());
    let Some(held) = held else { return Ok(None) };
    let is_recording = words.next() != Some(STOPPED);
    Ok(Some(State { held: held.into(), is_recording, confirmed }))
}

impl State {
    /// The time since the last confirmation.
    fn gap(&self, now: SystemTime) -> Duration {
        now.duration_since(self.confirmed).unwrap_or_default()
    }
}
