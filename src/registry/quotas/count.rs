//! The count of a repository: its usage as far as this process knows it.
//!
//! `used` is the last count from storage and what was linked since. It may be too high: another process has
//! deleted blobs, or a blob was linked while it was being counted and counts twice. So a count that would refuse
//! an upload is taken anew unless it is known to be right. It may be too low where another process has
//! pushed: up to the next collection, or an hour.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

use crate::{
    oci::RepositoryName,
    registry::{Error, usage::Usage},
};

/// Other processes may have deleted blobs since a count of this age.
const TRUSTED_FOR: Duration = Duration::from_secs(10);

/// Uploads at the same time may have counted twice, but while a client repeats a refused push, the
/// repository is not counted more often than this.
const PAUSE: Duration = Duration::from_secs(1);

/// After this time other processes may have pushed so much that the count is taken anew for the next upload.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// A repository's count.
#[derive(Debug)]
pub(super) struct Count {
    state: Mutex<State>,
    /// One request counts at a time; others wait for its result.
    turn: Semaphore,
}

/// Why a reservation is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    /// The bytes that the repository holds.
    pub(super) used: u64,
    /// The bytes that others have reserved.
    pub(super) reserved: u64,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    reserved: u64,
    /// All bytes that were linked since the start.
    linked: u64,
    /// When the count was taken; `None` where it is unknown.
    counted: Option<Instant>,
    /// Whether blobs were deleted since the count began.
    is_too_high: bool,
    /// Whether blobs may count twice.
    is_doubtful: bool,
}

impl Default for Count {
    fn default() -> Self {
        Self { state: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Count {
    /// Whether the repository has to be counted before a reservation.
    pub(super) fn is_unknown(&self) -> bool {
        self.state().is_unknown()
    }

    /// Whether the count may be higher than what the repository holds.
    pub(super) fn may_be_too_high(&self) -> bool {
        let state = self.state();
        let age = state.counted.map_or(Duration::MAX, |at| at.elapsed());
        state.is_too_high || state.is_doubtful && age >= PAUSE || age >= TRUSTED_FOR
    }

    /// Raises a reservation to `to` bytes, unless the repository would hold more than `most`.
    pub(super) fn reserve(&self, from: u64, to: u64, most: u64) -> Result<(), Full> {
        self.state().reserve(from, to, most)
    }

    /// Ends a reservation.
    pub(super) fn release(&self, bytes: u64) {
        let mut state = self.state();
        state.reserved = state.reserved.saturating_sub(bytes);
    }

    /// Ends a reservation for a blob that the repository holds now.
    pub(super) fn linked(&self, bytes: u64) {
        self.state().linked(bytes);
    }

    /// Notes that blobs were deleted.
    pub(super) fn note_deletion(&self) {
        self.state().is_too_high = true;
    }

    /// Has the repository counted before the next reservation.
    pub(super) fn forget(&self) {
        self.state().counted = None;
    }

    /// Counts the repository, or waits for another request that does.
    pub(super) async fn anew(&self, usage: &Usage, name: &RepositoryName) -> Result<(), Error> {
        let asked = Instant::now();
        let _turn = self.turn.acquire().await;
        let began = {
            let mut state = self.state();
            if state.counted.is_some_and(|at| at > asked) && !state.is_too_high {
                return Ok(());
            }
            state.begin()
        };
        let bytes = usage.of(name).await?.bytes;
        self.state().end(began, bytes);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of a count when it began.
#[derive(Clone, Copy, Debug)]
struct Began {
    linked: u64,
}

impl State {
    fn is_unknown(&self) -> bool {
        self.counted.is_none_or(|at| at.elapsed() >= KEPT_FOR)
    }

    fn reserve(&mut self, from: u64, to: u64, most: u64) -> Result<(), Full> {
        let reserved = self.reserved.saturating_sub(from);
        let more = to.saturating_sub(from);
        let total = self.used.saturating_add(self.reserved).saturating_add(more);
        // What is reserved already may go on, also where the quota has become smaller.
        if more > 0 && total > most {
            return Err(Full { used: self.used, reserved });
        }
        self.reserved = self.reserved.saturating_add(more);
        Ok(())
    }

    fn linked(&mut self, bytes: u64) {
        self.reserved = self.reserved.saturating_sub(bytes);
        self.used = self.used.saturating_add(bytes);
        self.linked = self.linked.wrapping_add(bytes);
    }

    /// Begins a count. A deletion from now on makes its result too high.
    fn begin(&mut self) -> Began {
        self.is_too_high = false;
        Began { linked: self.linked }
    }

    /// Ends a count that found so many bytes.
    fn end(&mut self, began: Began, bytes: u64) {
        let since = self.linked.wrapping_sub(began.linked);
        // The count may have found what was linked since it began, and links that are not noted here yet.
        self.is_doubtful = since > 0 || self.reserved > 0;
        self.used = bytes.saturating_add(since);
        self.counted = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    const MOST: u64 = 100;

    /// A step of an upload, of a deletion or of a count.
    #[derive(Clone, Debug)]
    enum Step {
        /// An upload begins, and reserves so many bytes.
        Reserve(u64),
        /// More bytes of an upload arrive.
        Grow(Index, u64),
        /// An upload writes its link.
        Link(Index),
        /// An upload whose link is written notes it.
        Note(Index),
        /// An upload ends without a blob.
        Abandon(Index),
        /// A blob is deleted.
        Delete(Index),
        Begin,
        /// A running count reads the storage.
        Read,
        End,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..60_u64).prop_map(Step::Reserve),
            (any::<Index>(), 1..30_u64).prop_map(|(upload, bytes)| Step::Grow(upload, bytes)),
            any::<Index>().prop_map(Step::Link),
            any::<Index>().prop_map(Step::Note),
            any::<Index>().prop_map(Step::Abandon),
            any::<Index>().prop_map(Step::Delete),
            Just(Step::Begin),
            Just(Step::Read),
            Just(Step::End),
        ]
    }

    /// What is true, beside what the state says.
    #[derive(Debug, Default)]
    struct Model {
        state: State,
        /// The bytes of uploads without a link.
        uploads: Vec<u64>,
        /// The bytes of uploads whose link is written and not noted.
        written: Vec<u64>,
        /// The bytes of the blobs of the repository.
        blobs: Vec<u64>,
        count: Option<(Began, u64)>,
    }

    fn take(of: &mut Vec<u64>, at: Index) -> Option<u64> {
        (!of.is_empty()).then(|| of.swap_remove(at.index(of.len())))
    }

    impl Model {
        fn holds(&self) -> u64 {
            self.blobs.iter().sum()
        }

        fn apply(&mut self, step: &Step) {
            let holds = self.holds();
            match step {
                Step::Reserve(bytes) => {
                    if self.state.reserve(0, *bytes, MOST).is_ok() {
                        self.uploads.push(*bytes);
                    }
                }
                Step::Grow(upload, more) => {
                    if let Some(bytes) = take(&mut self.uploads, *upload) {
                        let grown = self.state.reserve(bytes, bytes + more, MOST).is_ok();
                        self.uploads.push(if grown { bytes + more } else { bytes });
                    }
                }
                Step::Link(upload) => {
                    if let Some(bytes) = take(&mut self.uploads, *upload) {
                        self.blobs.push(bytes);
                        self.written.push(bytes);
                    }
                }
                Step::Note(upload) => {
                    if let Some(bytes) = take(&mut self.written, *upload) {
                        self.state.linked(bytes);
                    }
                }
                Step::Abandon(upload) => {
                    if let Some(bytes) = take(&mut self.uploads, *upload) {
                        self.state.reserved -= bytes;
                    }
                }
                Step::Delete(blob) => {
                    if take(&mut self.blobs, *blob).is_some() {
                        self.state.is_too_high = true;
                    }
                }
                Step::Begin => self.count = Some((self.state.begin(), holds)),
                Step::Read => {
                    if let Some((_, read)) = &mut self.count {
                        *read = holds;
                    }
                }
                Step::End => {
                    if let Some((began, read)) = self.count.take() {
                        self.state.end(began, read);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn count_is_never_too_low_and_knows_when_it_may_be_too_high(steps in vec(step(), 0..80)) {
            let mut model = Model { state: State::default(), ..Model::default() };
            let began = model.state.begin();
            model.state.end(began, 0);
            for step in &steps {
                model.apply(step);
                let State { used, reserved, is_too_high, is_doubtful, .. } = model.state;
                let holds = model.holds();
                prop_assert!(used + reserved >= holds, "{model:?}");
                prop_assert!(holds <= MOST, "{model:?}");
                let written: u64 = model.written.iter().sum();
                let is_suspect = is_too_high || is_doubtful || model.count.is_some();
                prop_assert!(used + written <= holds || is_suspect, "{model:?}");
                let under_way: u64 = model.uploads.iter().chain(&model.written).sum();
                prop_assert_eq!(reserved, under_way);
            }
            // A count while nothing happens is right.
            let began = model.state.begin();
            let holds = model.holds();
            let is_quiet = model.state.reserved == 0;
            model.state.end(began, holds);
            prop_assert_eq!(model.state.used, holds);
            prop_assert_eq!(model.state.is_doubtful, !is_quiet);
        }
    }

    #[test]
    fn reservation_beyond_the_quota_is_refused_with_what_is_used() {
        let count = Count::default();
        count.reserve(0, 60, 100).unwrap();
        assert_eq!(count.reserve(0, 50, 100), Err(Full { used: 0, reserved: 60 }));
        count.linked(60);
        assert_eq!(count.reserve(0, 50, 100), Err(Full { used: 60, reserved: 0 }));
        count.reserve(0, 40, 100).unwrap();
        assert_eq!(count.reserve(40, 41, 100), Err(Full { used: 60, reserved: 0 }));
        count.release(40);
        count.reserve(0, 40, 100).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn count_is_trusted_for_ten_seconds_and_kept_for_an_hour() {
        let count = Count::default();
        assert!(count.is_unknown());
        let began = count.state().begin();
        count.state().end(began, 7);
        assert!(!count.is_unknown() && !count.may_be_too_high());
        tokio::time::sleep(TRUSTED_FOR).await;
        assert!(!count.is_unknown() && count.may_be_too_high());
        tokio::time::sleep(KEPT_FOR).await;
        assert!(count.is_unknown());
        let began = count.state().begin();
        count.state().end(began, 7);
        count.note_deletion();
        assert!(count.may_be_too_high());
        count.forget();
        assert!(count.is_unknown());
    }
}
