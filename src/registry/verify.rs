//! Verification of a storage tree: every blob has the digest of its name, every link leads to an existing
//! target, and the content that tags and manifests reference exists.
//!
//! A server may run on the same tree meanwhile. So damage is checked again after a moment, and counts
//! only if it persists. Verification ignores uploads, and the entries of referrers, which the registry
//! makes anew where they are missing. `walk.rs` lists the objects, page by page; `check.rs` checks one of
//! them; `quarantine.rs` moves damaged objects out of the tree.
//!
//! The memory of a run does not grow with the tree.

use std::{
    collections::HashSet,
    num::NonZeroU64,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{
    StreamExt as _, future,
    stream::{self, BoxStream},
};
use serde::Serialize;
use tokio::sync::mpsc::{self, Receiver};

pub use self::finding::{Finding, Kind, MAX_MISSING, MAX_TAGS, Severity};
use self::{rate_limit::RateLimit, target::Target, walk::Walk};
use super::{
    Clock, Manifests,
    tree::{self, Tree},
};
use crate::{
    oci::Digest,
    storage::{Key, Storage},
};

mod check;
mod finding;
mod images;
mod quarantine;
mod rate_limit;
mod target;
#[cfg(test)]
mod tests;
mod walk;

/// Damage must persist for this long. A push or a deletion writes its files within milliseconds of each
/// other, and on a slow disk within less than this.
const MOMENT: Duration = Duration::from_millis(500);

/// How many more times a tag without a manifest is checked: each push and each deletion of a tag passes
/// through that state, and a client may push and delete it again and again.
const LOOKS_AT_UNFINISHED: usize = 8;

/// How many damaged objects wait together for the second check.
const SUSPECTS: usize = 4096;

/// How many corrupt blobs are remembered, so that findings can name the manifests that reference them.
const CONDEMNED: usize = 65_536;

/// How far the walk is ahead of the checks, in objects.
const AHEAD: usize = 256;

/// The options of a verification.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether corrupt blobs, and links that lead nowhere, are moved to the quarantine.
    pub repair: bool,
    /// The limit for reading blobs, in bytes per second.
    pub limit: Option<NonZeroU64>,
}

/// The progress of a verification, which other threads may read.
#[derive(Debug, Default)]
pub struct Progress {
    blobs: AtomicU64,
    bytes: AtomicU64,
    links: AtomicU64,
    manifests: AtomicU64,
}

impl Progress {
    /// The numbers of checked objects so far.
    #[must_use]
    pub fn checked(&self) -> Checked {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Checked {
            blobs: read(&self.blobs),
            bytes: read(&self.bytes),
            links: read(&self.links),
            manifests: read(&self.manifests),
        }
    }

    fn read(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn looked(&self, target: &Target) {
        let count = match target {
            Target::Blob(_) => &self.blobs,
            Target::Link(_) => &self.links,
            Target::Manifest(..) => &self.manifests,
            Target::Folder(_) | Target::Stray(_) | Target::Name(_) => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// The numbers of checked objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Blobs, including the bytes of manifests.
    pub blobs: u64,
    /// Hashed bytes; the bytes of a corrupt blob count for each check.
    pub bytes: u64,
    /// Links.
    pub links: u64,
    /// Manifests whose references were checked.
    pub manifests: u64,
}

/// The stages of a verification. Damage spreads in this order, so a later stage finds the references to
/// objects that an earlier one moved to the quarantine.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Blobs,
    Layers,
    Revisions,
    Tags,
    Manifests,
}

impl Stage {
    const ALL: [Self; 5] =
        [Self::Blobs, Self::Layers, Self::Revisions, Self::Tags, Self::Manifests];

    /// How many places are looked at at a time.
    const fn width(self) -> usize {
        match self {
            // A disk is read fastest from few ends.
            Self::Blobs => 2,
            _ => 16,
        }
    }

    /// How many times more something is looked at before it counts. A blob only changes as a whole.
    const fn looks(self) -> usize {
        match self {
            Self::Blobs => 1,
            _ => 2,
        }
    }
}

struct Verifier<'a> {
    tree: &'a Tree,
    manifests: &'a Manifests,
    progress: &'a Progress,
    pace: RateLimit,
    /// Corrupt blobs.
    condemned: Mutex<HashSet<Digest>>,
    /// The number of searches for tags.
    searches: AtomicUsize,
    /// The folder for damaged objects, with [`Options::repair`].
    quarantine: Option<Key>,
}

/// Receives the findings. When it breaks, the run ends, and no more objects are moved.
type Report<'a> = dyn FnMut(Finding) -> ControlFlow<()> + Send + 'a;

/// Verification of the tree.
#[derive(Debug)]
pub struct Verification {
    tree: Arc<Tree>,
    manifests: Arc<Manifests>,
    clock: Arc<dyn Clock>,
}

impl Verification {
    pub(super) const fn new(
        tree: Arc<Tree>,
        manifests: Arc<Manifests>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { tree, manifests, clock }
    }

    /// Verifies the whole tree, and reports each finding at once, until `report` breaks.
    ///
    /// Without [`Options::repair`] the run writes nothing. With it, the run moves corrupt blobs and
    /// broken links to `portcullis-quarantine` at the root of the storage, each before it is reported. It
    /// deletes nothing.
    pub async fn run(
        &self,
        options: &Options,
        progress: &Progress,
        report: &mut (dyn FnMut(Finding) -> ControlFlow<()> + Send),
    ) {
        let verifier = Verifier::new(self, options, progress);
        for stage in Stage::ALL {
            if verifier.stage(stage, report).await.is_break() {
                return;
            }
        }
    }
}

impl<'a> Verifier<'a> {
    fn new(verification: &'a Verification, options: &Options, progress: &'a Progress) -> Self {
        // Two runs within a second must not share a folder: one could overwrite objects of the other.
        let run = || {
            let unique = uuid::Uuid::new_v4().simple().to_string();
            format!("{}-{}", verification.clock.now().strftime("%Y%m%dT%H%M%SZ"), &unique[..8])
        };
        Self {
            tree: &verification.tree,
            manifests: &verification.manifests,
            progress,
            pace: RateLimit::new(options.limit),
            condemned: Mutex::default(),
            searches: AtomicUsize::new(0),
            quarantine: options.repair.then(|| tree::quarantine(&run())),
        }
    }
}

impl Verifier<'_> {
    fn storage(&self) -> &dyn Storage {
        self.tree.storage()
    }

    async fn stage(&self, stage: Stage, report: &mut Report<'_>) -> ControlFlow<()> {
        let (targets, found) = mpsc::channel(AHEAD);
        let walk = Walk { storage: self.storage(), stage, targets };
        let ((), ended) = future::join(walk.run(), self.judge(stage, found, report)).await;
        ended
    }

    /// Looks at places as they come; those that look wrong wait to be looked at again.
    async fn judge(
        &self,
        stage: Stage,
        found: Receiver<Target>,
        report: &mut Report<'_>,
    ) -> ControlFlow<()> {
        let looks = received(found).map(|target| async move {
            let findings = self.look(&target).await;
            self.progress.looked(&target);
            (target, findings)
        });
        let mut looks = looks.buffer_unordered(stage.width());
        let mut suspects = Vec::new();
        while let Some((target, findings)) = looks.next().await {
            if !findings.is_empty() {
                suspects.push((target, findings));
            }
            if suspects.len() == SUSPECTS {
                self.settle(stage, std::mem::take(&mut suspects), report).await?;
            }
        }
        self.settle(stage, suspects, report).await
    }

    /// Checks suspects again, and reports the findings of every check.
    async fn settle(
        &self,
        stage: Stage,
        mut suspects: Vec<(Target, Vec<Finding>)>,
        report: &mut Report<'_>,
    ) -> ControlFlow<()> {
        let unfinished = |finding: &Finding| finding.kind == Kind::TagUnfinished;
        let looks = match suspects.iter().any(|(_, findings)| findings.iter().any(unfinished)) {
            true => LOOKS_AT_UNFINISHED,
            false => stage.looks(),
        };
        for _ in 0..looks {
            if suspects.is_empty() {
                return ControlFlow::Continue(());
            }
            tokio::time::sleep(MOMENT).await;
            let again = stream::iter(suspects).map(|(target, before)| async move {
                let mut findings = self.look(&target).await;
                findings.retain(|finding| before.iter().any(|other| other.repeats(finding)));
                (target, findings)
            });
            let again = again.buffer_unordered(stage.width());
            suspects = again.filter(|(_, left)| future::ready(!left.is_empty())).collect().await;
        }
        for (target, findings) in suspects {
            for mut finding in findings {
                self.name_image(&target, &mut finding).await;
                if let Some(finding) = self.quarantine(&target, finding).await {
                    report(finding)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn condemned(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.condemned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn condemn(&self, digest: &Digest) {
        let mut condemned = self.condemned();
        if condemned.len() < CONDEMNED {
            condemned.insert(digest.clone());
        }
    }

    fn acquit(&self, digest: &Digest) {
        self.condemned().remove(digest);
    }

    fn is_condemned(&self, digest: &Digest) -> bool {
        self.condemned().contains(digest)
    }
}

/// The targets from a channel.
fn received(channel: Receiver<Target>) -> BoxStream<'static, Target> {
    stream::unfold(channel, |mut channel| async move {
        let target = channel.recv().await?;
        Some((target, channel))
    })
    .boxed()
}
