//! The decision about the tags of a repository: which tags no rule keeps, and the reason.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use super::{Retention, RetentionRule, rules::Keep};
use crate::{
    humanize::Ago,
    oci::{Digest, References, RepositoryName, Tag},
    registry::{
        Error,
        pulls::Pulls,
        tree::{CURRENT, TreeKey},
    },
    storage::Look,
};

/// A tag that no condition keeps. Its text is the reason: `not among the 10 latest, pushed 45 days ago`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The tag.
    pub tag: Tag,
    /// The manifest that it names.
    pub digest: Option<Digest>,
    /// The `keeplatest` of its rule.
    latest: Option<usize>,
    /// The time since its push.
    pushed: Duration,
    /// The time since its last pull, where the rule needs it; `Some(None)` without a pull since the push.
    pulled: Option<Option<Duration>>,
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(latest) = self.latest {
            write!(f, "not among the {latest} latest, ")?;
        }
        write!(f, "pushed {}", Ago(self.pushed))?;
        match self.pulled {
            None => Ok(()),
            Some(None) => f.write_str(", not pulled since"),
            Some(Some(pulled)) => write!(f, ", pulled {}", Ago(pulled)),
        }
    }
}

/// The tags of a repository that a rule matches.
#[derive(Debug)]
pub(super) struct Candidates {
    pub(super) tags: Vec<Candidate>,
    /// The time of the storage.
    pub(super) now: SystemTime,
}

/// A tag that a rule matches.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) tag: Tag,
    keep: Keep,
    /// The number of tags of the rule that were pushed later.
    rank: usize,
    pushed: SystemTime,
}

impl Retention {
    /// Lists the tags of a repository that a rule matches.
    pub(super) async fn candidates(
        &self,
        name: &RepositoryName,
        rules: &[RetentionRule],
    ) -> Result<Candidates, Error> {
        let look = Look { folder: TreeKey::Tags(name).key(), object: Some(CURRENT) };
        let now = self.tree.storage().time().await?;
        let seen = self.tree.storage().survey(vec![look]).await?.into_iter().flatten();
        let mut tags: Vec<(SystemTime, Tag)> =
            seen.filter_map(|seen| Some((seen.object?.1, seen.name.parse().ok()?))).collect();
        // The latest first; of tags pushed at once, the one whose name comes last.
        tags.sort_unstable_by(|a, b| (b.0, b.1.as_str()).cmp(&(a.0, a.1.as_str())));
        let mut ranks = vec![0; rules.len()];
        let under = tags.into_iter().filter_map(|(pushed, tag)| {
            let rule = rules.iter().position(|rule| rule.scope.covers(&tag))?;
            let rank = ranks[rule];
            ranks[rule] += 1;
            Some(Candidate { tag, keep: rules[rule].keep, rank, pushed })
        });
        Ok(Candidates { tags: under.collect(), now })
    }

    /// Decides about a tag; `None` when a condition keeps it.
    pub(super) async fn expired(
        &self,
        name: &RepositoryName,
        candidate: Candidate,
        now: SystemTime,
    ) -> Result<Option<Expired>, Error> {
        let Candidate { tag, keep, rank, pushed } = candidate;
        // A time in the future counts as now.
        let since = |time| now.duration_since(time).unwrap_or_default();
        if keep.latest.is_some_and(|latest| rank < latest)
            || keep.pushed_within.is_some_and(|within| since(pushed) < within)
        {
            return Ok(None);
        }
        let digest = self.tree.link(TreeKey::TagCurrent(name, &tag)).await?;
        if let Some(digest) = &digest
            && self.is_unclear(name, digest).await?
        {
            return Ok(None);
        }
        let mut pulled = None;
        if let Some(within) = keep.pulled_within {
            let last = match &digest {
                Some(digest) => Pulls::last(&self.tree, name, digest).await?,
                None => None,
            };
            // A pull by another tag may be older than the push of this one.
            let last = last.filter(|last| *last > pushed);
            if since(last.unwrap_or(pushed)) < within {
                return Ok(None);
            }
            pulled = Some(last.map(since));
        }
        Ok(Some(Expired { tag, digest, latest: keep.latest, pushed: since(pushed), pulled }))
    }

    /// Whether a manifest of a repository cannot be read. Everything that such a manifest may reference
    /// stays, and so do its tags, by which users know it.
    async fn is_unclear(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        let key = TreeKey::Revision(name, digest).key();
        if self.tree.storage().size(&key).await?.is_none() {
            return Ok(false);
        }
        let content = self.manifests.revision(name, digest).await?;
        let is_clear = content.is_some_and(|content| References::of(&content.bytes).is_some());
        if !is_clear {
            self.tree.skip(&key, "a manifest that cannot be read; it and its tags stay");
        }
        Ok(!is_clear)
    }
}
