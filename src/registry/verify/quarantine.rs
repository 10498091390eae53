//! Moves what is damaged out of the tree. Nothing is ever deleted or written over.
//!
//! What is moved is what somebody finished writing: links and data are synced before they get their
//! names, so that they may be relocated. After a power cut the old name may be there again beside the
//! new one; the next run finds it.
//!
//! Data goes before what links to it, for the links are looked at later: a crash in between leaves
//! links that lead nowhere, which the next run finds.
//!
//! A server may run beside this, and a client may push at any moment what is about to be moved. So
//! what was moved is looked at once more where it is then. If it is right by now, the push came
//! first, and it is moved back; if the push comes later, it makes its name anew.

use super::{
    Verifier,
    finding::{Finding, Kind, causes},
    target::Target,
};
use crate::storage::{Error, Key};

/// What became of something that was to be moved.
enum Moved {
    /// It is there.
    To(Key),
    /// It had become right meanwhile, and is where it was.
    Back,
}

impl Verifier<'_> {
    /// Moves what was found, when that mends it. `None` when it has mended itself.
    pub(super) async fn quarantine(
        &self,
        target: &Target,
        mut finding: Finding,
    ) -> Option<Finding> {
        let Some(folder) = &self.quarantine else { return Some(finding) };
        if !finding.kind.is_mended_by_moving() || finding.key != target.key() {
            return Some(finding);
        }
        let to = folder.child(finding.key.as_str());
        match self.remove(target, &finding.key, to).await {
            Ok(Moved::To(key)) => finding.moved_to = Some(key),
            Ok(Moved::Back) => return None,
            Err(error) => finding.not_moved = Some(causes(&error)),
        }
        Some(finding)
    }

    async fn remove(&self, target: &Target, from: &Key, to: Key) -> Result<Moved, Error> {
        self.storage().relocate(from, &to).await?;
        if let Target::Blob(digest) = target {
            // From here on its absence says all.
            self.acquit(digest);
        }
        if self.is_right(target, &to).await? && self.storage().size(from).await?.is_none() {
            self.storage().relocate(&to, from).await?;
            return Ok(Moved::Back);
        }
        Ok(Moved::To(to))
    }

    /// Whether what lies at `key` would be right at its place.
    async fn is_right(&self, target: &Target, key: &Key) -> Result<bool, Error> {
        match target {
            Target::Blob(digest) => {
                let hashed = self.hash(key, digest).await?;
                Ok(hashed.is_some_and(|(computed, _)| computed == *digest))
            }
            Target::Link(link) => {
                let Some(content) = self.content(key).await? else { return Ok(false) };
                let wrong = self.wrong(link, &content).await?;
                Ok(wrong.is_none_or(|wrong| matches!(wrong.kind, Kind::TagIndexMissing)))
            }
            _ => Ok(false),
        }
    }
}
