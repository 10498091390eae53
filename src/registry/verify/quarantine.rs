//! The quarantine: damaged objects are moved there, out of the tree. No object is deleted or overwritten.
//!
//! Moved objects are complete: links and data are synced before they get their names, so a rename may
//! move them. After a power cut the old name may exist again beside the new one; the next run finds it.
//!
//! Data goes before its links, because links are checked later: a crash in between leaves broken links,
//! which the next run finds.
//!
//! A server may run meanwhile, and a client may push the same content at any moment. So a moved object
//! is checked once more at its new place. If it is sound there, the push came before the move, and the
//! object is moved back. A push after the move writes the object anew.

use super::{
    Verifier,
    finding::{Finding, Kind, causes},
    target::Target,
};
use crate::storage::{Error, Key};

/// The outcome of a move.
enum Moved {
    /// The object is at this key.
    To(Key),
    /// The object was sound by then, and is back at its old key.
    Back,
}

impl Verifier<'_> {
    /// Moves a damaged object, if that repairs the damage. `None` when a push has repaired it meanwhile.
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
            // From here on the blob counts as missing, not as corrupt.
            self.acquit(digest);
        }
        if self.is_right(target, &to).await? && self.storage().size(from).await?.is_none() {
            self.storage().relocate(&to, from).await?;
            return Ok(Moved::Back);
        }
        Ok(Moved::To(to))
    }

    /// Whether the object at `key` would be sound at the place of `target`.
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
