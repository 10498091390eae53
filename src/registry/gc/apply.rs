//! Removal from a repository, while its fence is closed.

use std::collections::{BTreeMap, HashSet};

use super::{Collection, GcEvent, repository::Plan};
use crate::{
    oci::{Digest, RepositoryName},
    registry::{
        Error, Occurrence,
        tree::{Removing, TreeKey, repositories},
        walk::{PARTS, RepositoryFolder},
    },
    storage::{Durability, Key, Look},
};

/// How many manifests are removed before the fence opens for pushes in between.
const BATCH: usize = 500;

/// How many folders one survey covers.
const LOOKS: usize = 64;

impl Collection<'_> {
    /// Removes the unreachable part of a repository, and returns the plan with the rest.
    pub(super) async fn take_away(
        &mut self,
        place: &RepositoryFolder,
        name: &RepositoryName,
        released: Option<&HashSet<Digest>>,
    ) -> Result<Plan, Error> {
        loop {
            let alone = self.tree.closing(name).await?;
            // A look before the fence was closed may be outdated.
            let mut plan = self.consider(place, released).await?;
            let is_last = plan.cut(BATCH);
            for level in plan.untagged.iter().filter(|level| !level.is_empty()) {
                let level: Vec<&Digest> =
                    level.iter().map(|at| &plan.revisions[*at].digest).collect();
                // Durably, because their children are next.
                self.remove(&place.folder.child("_manifests/revisions"), level, &alone).await?;
            }
            self.forget_manifests(name, &plan, &alone).await?;
            if is_last {
                let links = plan.links.iter().chain(&plan.leftovers).collect();
                self.remove(&place.folder.child("_layers"), links, &alone).await?;
            }
            self.tell(&plan);
            let is_empty = is_last && released.is_none() && plan.is_emptied();
            let tidied = if is_empty { self.tidy(place, &alone).await } else { Ok(()) };
            let opened = tidied.and(alone.open().await);
            // The manifests have gone durably, so their events are emitted even if the fence does not open.
            for digest in plan.going() {
                let occurrence = Occurrence::ManifestDeleted(digest.clone());
                self.events.emit(&self.caller, name, occurrence).await;
            }
            opened?;
            if is_last {
                return Ok(plan);
            }
        }
    }

    /// Removes everything below some digests in a folder, durably.
    async fn remove(
        &self,
        folder: &Key,
        digests: Vec<&Digest>,
        alone: &Removing<'_>,
    ) -> Result<(), Error> {
        let mut by_algorithm: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for digest in digests {
            by_algorithm.entry(digest.algorithm()).or_default().push(digest.hex().to_owned());
        }
        for (algorithm, names) in by_algorithm {
            let folder = folder.child(algorithm.as_str());
            alone.delete_below(&folder, names, Durability::Synced).await?;
        }
        Ok(())
    }

    /// Removes the folder of an empty repository, and the folders above it that become empty.
    async fn tidy(&mut self, place: &RepositoryFolder, alone: &Removing<'_>) -> Result<(), Error> {
        if !place.is_folder || self.tagged(place).await?.is_none_or(|tagged| !tagged.is_empty()) {
            return Ok(());
        }
        for part in PARTS.map(|part| place.folder.child(part)) {
            // An upload begins without this fence, so only empty folders of uploads go.
            if !part.as_str().ends_with("_uploads") {
                alone.delete_all(&part).await?;
            }
            alone.prune(&part).await?;
        }
        if alone.prune_up(&place.folder, &repositories()).await? {
            self.watch.found(GcEvent::Empty);
            self.collected.emptied += 1;
        }
        Ok(())
    }

    /// Removes the other entries of removed manifests: those in the indexes of tags, and those among
    /// the referrers of their subjects.
    async fn forget_manifests(
        &self,
        name: &RepositoryName,
        plan: &Plan,
        alone: &Removing<'_>,
    ) -> Result<(), Error> {
        let gone: HashSet<&Digest> = plan.going().collect();
        if gone.is_empty() {
            return Ok(());
        }
        for (referrer, subject) in plan.going_about() {
            let place = TreeKey::ReferrerFolder { name, subject, referrer };
            alone.delete_all(&place.key()).await?;
        }
        let tags = TreeKey::Tags(name).key();
        let all =
            self.tree.storage().survey(vec![Look { folder: tags.clone(), object: None }]).await?;
        let indexes: Vec<Key> = all
            .iter()
            .flatten()
            .flat_map(|tag| {
                let index = tags.child(&tag.name).child("index");
                crate::oci::Algorithm::ALL.map(|algorithm| index.child(algorithm.as_str()))
            })
            .collect();
        for some in indexes.chunks(LOOKS) {
            let look = |folder: &Key| Look { folder: folder.clone(), object: None };
            let seen = self.tree.storage().survey(some.iter().map(look).collect()).await?;
            for (folder, entries) in some.iter().zip(seen) {
                let algorithm = folder.as_str().rsplit('/').next().unwrap_or_default();
                let is_gone = |hex: &String| {
                    Digest::from_parts(algorithm, hex).is_ok_and(|digest| gone.contains(&digest))
                };
                let names: Vec<String> =
                    entries.into_iter().map(|entry| entry.name).filter(is_gone).collect();
                if !names.is_empty() {
                    alone.delete_below(folder, names, Durability::Lazy).await?;
                }
            }
        }
        Ok(())
    }
}
