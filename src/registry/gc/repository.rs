//! The mark phase in one repository: it plans, removes the unreachable part, and marks the rest.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use moka::sync::Cache;

use super::{
    Collection, GcEvent, KeptUntagged, Untagged,
    content::{Aliases, Content},
    mark_set::{Id, Mark},
    reachability::{Revision, Roots, judge, untagged},
};
use crate::{
    oci::{Digest, References, RepositoryName},
    registry::{
        Error,
        manifests::MAX_STORED,
        tree::{CURRENT, Tree, TreeKey, lease, link},
        walk::RepositoryFolder,
    },
    storage::{ErrorKind, Look, Seen},
};

/// How many manifests are read at once.
const READS: usize = 8;

/// How many references of manifests are cached: images have layers in common, and repositories have
/// images in common.
const REMEMBERED: u64 = 512 * 1024;

/// A cache of the references of manifests.
pub(super) struct Memory(Cache<Id, Arc<References>>);

impl Default for Memory {
    fn default() -> Self {
        let weight = |_: &Id, references: &Arc<References>| {
            u32::try_from(references.count() + 1).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().weigher(weight).max_capacity(REMEMBERED).build())
    }
}

/// The decision about a repository.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) revisions: Vec<Revision>,
    /// The positions of manifests that go, parents first.
    pub(super) untagged: Vec<Vec<usize>>,
    /// Whether each of the revisions has no tag, and none that keeps it. Empty where that is not known.
    unreached: Vec<bool>,
    /// Links that stay.
    layers: Vec<Digest>,
    /// Links of these that only the grace period keeps, with their times.
    young: HashMap<Digest, SystemTime>,
    /// Links that go.
    pub(super) links: Vec<Digest>,
    /// Folders without their link.
    pub(super) leftovers: Vec<Digest>,
    /// The targets of links that are called by another digest.
    targets: Vec<Digest>,
    /// Whether there are links by digests of unknown algorithms, which stay.
    has_foreign: bool,
    /// Why the whole repository stays.
    kept: Option<String>,
}

impl Plan {
    fn keep(&mut self, why: String) {
        self.untagged.clear();
        self.unreached.clear();
        self.young.clear();
        self.layers.append(&mut self.links);
        self.leftovers.clear();
        self.kept = Some(why);
    }

    /// Keeps the targets of links that are called by another digest: a blob that registry:2 received
    /// by its sha512 has a link by its sha256 as well, and registry:2 cannot serve it without that
    /// link. Returns the reason where a target is unclear.
    fn alias(&mut self, aliases: Aliases) -> Option<String> {
        let Aliases { targets, has_foreign, unclear } = aliases;
        let needed: HashSet<&Digest> = targets.iter().collect();
        self.layers.extend(self.links.extract_if(.., |link| needed.contains(link)));
        self.targets = targets;
        self.has_foreign = has_foreign;
        unclear
    }

    /// Leaves manifests beyond `most`, and with them the links, for the next batch. Whether this is
    /// the last batch.
    pub(super) fn cut(&mut self, most: usize) -> bool {
        let mut left = most;
        let mut is_last = true;
        for level in &mut self.untagged {
            is_last &= level.len() <= left;
            level.truncate(left);
            left -= level.len();
        }
        if !is_last {
            self.links.clear();
            self.leftovers.clear();
        }
        is_last
    }

    /// The manifests that go and have a subject, each with its subject.
    pub(super) fn going_about(&self) -> impl Iterator<Item = (&Digest, &Digest)> {
        self.untagged.iter().flatten().flat_map(|at| {
            let Revision { digest, references, .. } = &self.revisions[*at];
            let subjects = references.iter().flat_map(|references| &references.subjects);
            subjects.map(move |subject| (digest, subject))
        })
    }

    pub(super) fn going(&self) -> impl Iterator<Item = &Digest> {
        self.untagged.iter().flatten().map(|at| &self.revisions[*at].digest)
    }

    /// Whether the whole repository stays as it is.
    pub(super) const fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    pub(super) fn staying(&self) -> impl Iterator<Item = Staying<'_>> {
        let going: HashSet<usize> = self.untagged.iter().flatten().copied().collect();
        let all = self.revisions.iter().enumerate().filter(move |(at, _)| !going.contains(at));
        all.map(|(at, revision)| {
            let is_untagged = self.unreached.get(at).copied().unwrap_or_default();
            Staying { revision, is_untagged }
        })
    }

    /// Whether a look found nothing that goes.
    fn changes_nothing(&self) -> bool {
        let goes = [&self.links, &self.leftovers].iter().any(|links| !links.is_empty());
        self.untagged.is_empty() && !goes && self.kept.is_none() && !self.is_emptied()
    }

    /// Whether nothing but folders stays.
    pub(super) fn is_emptied(&self) -> bool {
        self.kept.is_none()
            && self.layers.is_empty()
            && !self.has_foreign
            && self.staying().next().is_none()
    }
}

/// The times at which manifests were last pulled, and last found to be without a tag for the first time.
struct Uses {
    pulled: HashMap<Digest, SystemTime>,
    noted: HashMap<Digest, SystemTime>,
}

/// A manifest that stays.
pub(super) struct Staying<'a> {
    pub(super) revision: &'a Revision,
    /// Whether it has no tag, and nothing with a tag keeps it.
    pub(super) is_untagged: bool,
}

/// The digests that a reachable manifest marks: its own, and those that it references.
fn names(revision: &Revision) -> impl Iterator<Item = Id> {
    digests(revision).map(Id::of)
}

fn digests(revision: &Revision) -> impl Iterator<Item = &Digest> {
    let named = revision.references.iter().flat_map(|it| it.blobs.iter().chain(&it.manifests));
    std::iter::once(&revision.digest).chain(named)
}

impl Collection<'_> {
    /// Removes the unreachable part of a repository, and marks the rest.
    pub(super) async fn repository(
        &mut self,
        place: &RepositoryFolder,
        content: Content,
    ) -> Result<(), Error> {
        self.collected.repositories += 1;
        self.watch.found(GcEvent::Repository(&place.text));
        let Content { layers, revisions, may_have_foreign, .. } = content;
        let revisions = self.revisions(revisions).await?;
        let needed: HashSet<Id> = revisions.iter().flat_map(names).collect();
        // The usual case, which closes no fence.
        let all_stays = self.how.untagged == Untagged::Stay
            && !may_have_foreign
            && !revisions.is_empty()
            && revisions.iter().all(|revision| revision.references.is_some())
            && layers.iter().all(|layer| needed.contains(&Id::of(layer)));
        let plan = match &place.name {
            _ if all_stays => {
                let Aliases { targets, .. } = self.aliases(place, &layers, false).await?;
                let tagged = self.tagged(place).await?;
                let unreached = tagged.map(|tagged| untagged(&revisions, &tagged));
                let unreached = unreached.unwrap_or_default();
                Plan { revisions, unreached, layers, targets, ..Plan::default() }
            }
            Some(name) if !self.how.dry_run => self.look_and_take_away(place, name).await?,
            _ => {
                let plan = self.consider(place, None).await?;
                self.tell(&plan);
                plan
            }
        };
        if let Some(name) = &place.name {
            self.note_untagged(name, &plan).await?;
        }
        self.mark(&plan);
        Ok(())
    }

    /// Removes the unreachable part of a repository. Where manifests go by their last pull, nearly every
    /// run finds nothing that goes, and closes no fence either.
    async fn look_and_take_away(
        &mut self,
        place: &RepositoryFolder,
        name: &RepositoryName,
    ) -> Result<Plan, Error> {
        if self.limits.unused.is_some() {
            let plan = self.consider(place, None).await?;
            if plan.changes_nothing() {
                return Ok(plan);
            }
        }
        self.take_away(place, name, None).await
    }

    /// Marks everything that stays, each digest with the reason.
    fn mark(&mut self, plan: &Plan) {
        let grace = self.how.grace + lease::slack(self.how.grace);
        let mut marked = HashSet::new();
        for Staying { revision, is_untagged } in plan.staying() {
            self.watch.found(GcEvent::Manifest(&revision.digest));
            let references = revision.references.as_deref();
            let named = references.into_iter().flat_map(|it| it.blobs.iter().chain(&it.manifests));
            named.for_each(|digest| self.watch.found(GcEvent::Named(digest)));
            let mark = match (is_untagged, self.how.untagged) {
                (false, _) => Mark::Needed,
                (true, Untagged::Go) => {
                    self.collected.graced.manifests += 1;
                    self.collected.graced.until(revision.linked + grace);
                    Mark::Grace
                }
                (true, Untagged::Stay | Untagged::GoAfter(_)) => {
                    self.collected.untagged.manifests += 1;
                    Mark::Untagged
                }
            };
            for id in names(revision) {
                self.marks.add(id, mark);
                marked.insert(id);
            }
        }
        for layer in plan.layers.iter().filter(|layer| !marked.contains(&Id::of(layer))) {
            let mark = match plan.young.get(layer) {
                Some(since) => {
                    self.collected.graced.links += 1;
                    self.collected.graced.until(*since + grace);
                    Mark::Grace
                }
                None => Mark::Needed,
            };
            self.marks.add(Id::of(layer), mark);
        }
        plan.targets.iter().for_each(|digest| self.marks.add(Id::of(digest), Mark::Needed));
    }

    /// Counts the untagged manifests of a repository, and the bytes that only they need in it.
    pub(super) async fn untagged_in(&self, name: &RepositoryName) -> Result<KeptUntagged, Error> {
        let plan = self.consider(&RepositoryFolder::of(name), None).await?;
        let needed: HashSet<&Digest> = plan
            .staying()
            .filter(|stays| !stays.is_untagged)
            .flat_map(|stays| digests(stays.revision))
            .collect();
        let mut untagged = KeptUntagged::default();
        let mut counted = HashSet::new();
        for Staying { revision, .. } in plan.staying().filter(|stays| stays.is_untagged) {
            untagged.manifests += 1;
            for digest in digests(revision).filter(|digest| !needed.contains(digest)) {
                if counted.insert(digest) {
                    let size = self.tree.storage().size(&TreeKey::Data(digest).key()).await?;
                    untagged.bytes += size.unwrap_or_default();
                }
            }
        }
        Ok(untagged)
    }

    /// Removes the manifests that became unreachable when these lost a tag.
    pub(super) async fn take_released(
        &mut self,
        name: &RepositoryName,
        released: &HashSet<Digest>,
    ) -> Result<(), Error> {
        self.take_away(&RepositoryFolder::of(name), name, Some(released)).await.map(drop)
    }

    /// Decides about a repository.
    pub(super) async fn consider(
        &self,
        place: &RepositoryFolder,
        released: Option<&HashSet<Digest>>,
    ) -> Result<Plan, Error> {
        let content = self.look(std::slice::from_ref(place), true).await?.pop().unwrap_or_default();
        let Content { mut layers, links, revisions, pulled, noted, may_have_foreign } = content;
        let tagged = self.tagged(place).await?;
        let mut plan = Plan { revisions: self.revisions(revisions).await?, ..Plan::default() };
        self.keep_used(place, &mut plan.revisions, &Uses { pulled, noted });
        plan.untagged = match (&tagged, released) {
            (Some(tagged), Some(released)) => {
                judge(&plan.revisions, Roots::Released { tagged, released })
            }
            (Some(tagged), None) if self.how.untagged != Untagged::Stay => {
                judge(&plan.revisions, Roots::Tagged(tagged))
            }
            _ => Vec::new(),
        };
        if let Some(tagged) = &tagged {
            plan.unreached = untagged(&plan.revisions, tagged);
        }
        let needed: HashSet<Id> = plan.staying().flat_map(|stays| names(stays.revision)).collect();
        layers.sort_unstable();
        for layer in layers {
            match links.get(&layer) {
                _ if needed.contains(&Id::of(&layer)) => plan.layers.push(layer),
                Some(since) if *since < self.limits.names => plan.links.push(layer),
                Some(since) => {
                    plan.young.insert(layer.clone(), *since);
                    plan.layers.push(layer);
                }
                None => plan.leftovers.push(layer),
            }
        }
        let unread = plan.revisions.iter().find(|revision| revision.references.is_none());
        let mut why = unread.map(|unread| format!("the manifest {} cannot be read", unread.digest));
        if tagged.is_none() && self.how.untagged != Untagged::Stay {
            why.get_or_insert_with(|| "a tag leads nowhere".to_owned());
        } else if place.name.is_none() {
            why.get_or_insert_with(|| "no repository can be called so".to_owned());
        }
        let all_links_stay =
            why.is_some() || released.is_some() || self.is_being_pushed_to(place, &plan).await?;
        if all_links_stay {
            plan.layers.append(&mut plan.links);
        }
        let mut unclear = plan.alias(self.aliases(place, &plan.layers, may_have_foreign).await?);
        if unclear.is_some() && !plan.links.is_empty() {
            plan.layers.append(&mut plan.links);
            unclear = plan.alias(self.aliases(place, &plan.layers, may_have_foreign).await?);
        }
        if let Some(why) = why.or(unclear) {
            plan.keep(why);
        }
        Ok(plan)
    }

    /// Keeps the manifests that were tagged or pulled too recently, where these go by that.
    fn keep_used(&self, place: &RepositoryFolder, revisions: &mut [Revision], uses: &Uses) {
        let Some(unused) = self.limits.unused else { return };
        let is_recent = |time: &SystemTime| *time >= unused;
        for revision in revisions {
            let Revision { digest, linked, noted, young, .. } = revision;
            let found_untagged = uses.noted.get(digest);
            let is_pulled_now = || {
                let name = place.name.as_ref();
                // The record of a pull may wait for this very fence.
                self.pulls.zip(name).is_some_and(|(pulls, name)| pulls.has_seen(name, digest))
            };
            *noted = found_untagged.is_some();
            *young |= is_recent(linked)
                || found_untagged.is_none_or(is_recent)
                || uses.pulled.get(digest).is_some_and(is_recent)
                || is_pulled_now();
        }
    }

    /// Whether an upload is under way: the first layers of its image may be older than the grace
    /// period by now.
    async fn is_being_pushed_to(
        &self,
        place: &RepositoryFolder,
        plan: &Plan,
    ) -> Result<bool, Error> {
        if plan.links.is_empty() {
            return Ok(false);
        }
        let look = Look { folder: place.folder.child("_uploads"), object: Some("data") };
        let uploads = self.tree.storage().survey(vec![look]).await?;
        let since = |upload: &Seen| upload.object.map(|(_, since)| since);
        Ok(uploads.iter().flatten().filter_map(since).any(|since| since >= self.limits.bytes))
    }

    /// The manifests that the tags of a repository name; `None` when a tag cannot be read.
    pub(super) async fn tagged(
        &self,
        place: &RepositoryFolder,
    ) -> Result<Option<HashSet<Digest>>, Error> {
        let storage = self.tree.storage();
        let folder = place.folder.child("_manifests/tags");
        let look = Look { folder: folder.clone(), object: Some(CURRENT) };
        let seen = storage.survey(vec![look]).await?.into_iter().flatten();
        let links = stream::iter(seen.map(|tag| folder.child(&tag.name).child(CURRENT)))
            .map(|link| async move { storage.read(&link, link::MAX_LEN).await })
            .buffer_unordered(READS);
        let mut links = std::pin::pin!(links);
        let mut tagged = HashSet::new();
        while let Some(read) = links.next().await {
            match read {
                // The tag has gone since.
                Ok(None) => {}
                Ok(Some(bytes)) => match link::parse(&bytes) {
                    Some(digest) => drop(tagged.insert(digest)),
                    None => return Ok(None),
                },
                Err(error) if error.kind() == ErrorKind::TooLong => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(tagged))
    }

    /// Reads the references of manifests.
    async fn revisions(
        &self,
        mut revisions: Vec<(Digest, SystemTime)>,
    ) -> Result<Vec<Revision>, Error> {
        // The observer receives them in order.
        revisions.sort_unstable();
        let limit = self.limits.names;
        stream::iter(revisions)
            .map(|(digest, since)| async move {
                let references = self.memory.references(self.tree, &digest).await?;
                let young = since >= limit;
                Ok(Revision { digest, linked: since, noted: false, young, references })
            })
            .buffered(READS)
            .try_collect()
            .await
    }

    /// Reports the manifests and links that go, and counts them.
    pub(super) fn tell(&mut self, plan: &Plan) {
        for digest in plan.going() {
            self.watch.found(GcEvent::Untagged(digest));
            self.collected.manifests += 1;
        }
        for link in &plan.links {
            self.watch.found(GcEvent::Link(link));
            self.collected.links += 1;
        }
        if let Some(why) = &plan.kept {
            self.watch.found(GcEvent::Kept(why));
            self.collected.kept += 1;
        }
    }
}

impl Memory {
    /// The references of a manifest; `None` where it cannot be read.
    async fn references(
        &self,
        tree: &Tree,
        digest: &Digest,
    ) -> Result<Option<Arc<References>>, Error> {
        let id = Id::of(digest);
        let Self(known) = self;
        if let Some(known) = known.get(&id) {
            return Ok(Some(known));
        }
        let data = TreeKey::Data(digest).key();
        let bytes = match tree.storage().read(&data, MAX_STORED).await {
            Err(error) if error.kind() == ErrorKind::TooLong => None,
            read => read?,
        };
        let references = bytes.and_then(|bytes| References::of(&bytes)).map(Arc::new);
        if let Some(references) = &references {
            known.insert(id, Arc::clone(references));
        }
        Ok(references)
    }
}
