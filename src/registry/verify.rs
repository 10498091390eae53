//! Holds a storage tree against its promises: every blob is what it is called, every link leads to
//! what it says, every tag and manifest has what it needs.
//!
//! A server may run on the same tree meanwhile. What looks wrong is looked at again after a moment,
//! and counts only if it still is; uploads are left alone, and so are the entries of referrers,
//! which are made anew when they are missing. `walk.rs` tells what there is, page by page; `check.rs`
//! judges one place; `quarantine.rs` moves what is damaged out of the way.
//!
//! What is held in memory does not grow with the tree.

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

/// So long after the first look something must still look wrong. A push or a deletion writes its
/// files within milliseconds of each other, and a slow disk within less than this.
const MOMENT: Duration = Duration::from_millis(500);

/// So many times more a tag that names nothing is looked at: each push and each deletion of it passes
/// through that state, and somebody may do nothing else.
const LOOKS_AT_UNFINISHED: usize = 8;

/// So many places that look wrong wait together for that moment.
const SUSPECTS: usize = 4096;

/// So many corrupt blobs are remembered, so that the manifests which need them can be named.
const CONDEMNED: usize = 65_536;

/// So many places are known before they are looked at.
const AHEAD: usize = 256;

/// How a tree is verified.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether corrupt blobs, and links that lead nowhere, are moved to the quarantine.
    pub repair: bool,
    /// How many bytes of blobs are read in a second.
    pub limit: Option<NonZeroU64>,
}

/// How far it is. May be read while it goes on.
#[derive(Debug, Default)]
pub struct Progress {
    blobs: AtomicU64,
    bytes: AtomicU64,
    links: AtomicU64,
    manifests: AtomicU64,
}

impl Progress {
    /// How much was looked at so far.
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

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Blobs, the bytes of manifests among them.
    pub blobs: u64,
    /// Bytes that were hashed; those of a blob that looked corrupt more than once.
    pub bytes: u64,
    /// Links.
    pub links: u64,
    /// Manifests whose content was looked for.
    pub manifests: u64,
}

/// What is looked at together. The order is that in which damage spreads, so that what one stage
/// moves away is missed by a later one.
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
    /// How many times tags were looked for.
    searches: AtomicUsize,
    /// Where to move what is damaged, if anywhere.
    quarantine: Option<Key>,
}

/// Takes what is found. Whoever breaks gets no more, and nothing more is moved.
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

    /// Looks at everything that is stored, and tells what is wrong as it is found, until `report`
    /// breaks.
    ///
    /// Without [`Options::repair`] nothing is written. With it, corrupt blobs and links that lead
    /// nowhere are moved to `portcullis-quarantine` at the root of the storage, each before it is
    /// reported; nothing is deleted.
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
        // Two runs within a second must not share a folder: one might write over what the other
        // has moved.
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

    /// Looks again, and reports what was seen each time.
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

/// What comes out of a channel.
fn received(channel: Receiver<Target>) -> BoxStream<'static, Target> {
    stream::unfold(channel, |mut channel| async move {
        let target = channel.recv().await?;
        Some((target, channel))
    })
    .boxed()
}
