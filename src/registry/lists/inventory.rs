//! The inventory of a repository: the bytes that its tags hold, and its untagged manifests.
//!
//! An object is a manifest or a blob. Each is counted once in a repository, however many manifests
//! reference it. The memory that an inventory takes grows with the objects of one repository.

use std::collections::HashMap;

use super::Lists;
use crate::{
    oci::{Algorithm, Digest, Reference, References, RepositoryName, Tag},
    registry::{
        Error, Page,
        tree::{LINK, TreeKey},
    },
};

/// How many names are listed at a time.
const BATCH: usize = 1000;

/// A tag, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagContent {
    /// The tag.
    pub tag: Tag,
    /// The manifest that it names.
    pub digest: Digest,
    /// The bytes of the manifest, its children and its blobs.
    pub bytes: u64,
}

/// The content of a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// How many tags there are.
    pub tags: u64,
    /// The bytes that tags hold, with the referrers of what they name, such as signatures.
    pub bytes: u64,
    /// The part of these bytes that several tags hold.
    pub shared: u64,
    /// The manifests that no tag, no tagged index and no tagged subject keeps.
    pub untagged_manifests: u64,
    /// The bytes that only these manifests hold.
    pub untagged: u64,
}

/// Receives an inventory while it is taken.
pub trait Inventory: Send {
    /// Receives a tag.
    fn tag(&mut self, tag: TagContent);

    /// Receives an object of the repository, once, with its size.
    fn object(&mut self, digest: &Digest, bytes: u64);

    /// Whether the inventory shall end early.
    fn is_over(&self) -> bool {
        false
    }
}

/// An object that was counted.
#[derive(Clone, Copy, Debug)]
struct Object {
    bytes: u64,
    /// The last holder that was counted.
    holder: Holder,
    is_shared: bool,
}

/// What holds an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// A tag, by its number.
    Tag(u64),
    /// The referrers of what tags hold.
    Referrers,
    /// Untagged manifests.
    Untagged,
}

struct Count<'a> {
    lists: &'a Lists,
    name: &'a RepositoryName,
    objects: HashMap<Digest, Object>,
    holdings: Holdings,
    inventory: &'a mut dyn Inventory,
}

impl Lists {
    /// Takes the inventory of a repository; `None` when there is no such repository. It reads every
    /// manifest, looks at the size of every blob, and extends no lease.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn inventory(
        &self,
        name: &RepositoryName,
        inventory: &mut dyn Inventory,
    ) -> Result<Option<Holdings>, Error> {
        let objects = HashMap::new();
        let holdings = Holdings::default();
        let mut count = Count { lists: self, name, objects, holdings, inventory };
        if !count.tags().await? {
            return Ok(None);
        }
        count.revisions().await?;
        Ok(Some(count.holdings))
    }

    /// Up to `limit` manifests of a repository, of one algorithm, behind the hexadecimal digits
    /// `after`.
    async fn revisions(
        &self,
        name: &RepositoryName,
        algorithm: Algorithm,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<String>, Error> {
        let folder = TreeKey::Revisions(name, algorithm).key();
        let held = self.tree.storage().list_holders(&folder, LINK, after, limit + 1).await?;
        Ok(Page::cut(held.names, limit))
    }
}

impl Count<'_> {
    /// Counts what the tags hold; false when there is no such repository.
    async fn tags(&mut self) -> Result<bool, Error> {
        let mut after: Option<Tag> = None;
        loop {
            let last = after.as_ref().map(Tag::as_str);
            let Some(page) = self.lists.tags(self.name, last, BATCH).await? else {
                return Ok(after.is_some());
            };
            for tag in &page.items {
                if self.inventory.is_over() {
                    return Ok(true);
                }
                self.tag(tag).await?;
            }
            if !page.more {
                return Ok(true);
            }
            after = page.items.last().cloned();
        }
    }

    async fn tag(&mut self, tag: &Tag) -> Result<(), Error> {
        let reference = Reference::Tag(tag.clone());
        let found = self.lists.manifests.get(self.name, &reference).await?;
        // The tag has gone meanwhile, or its manifest is not there, which the log says.
        let Some(found) = found else { return Ok(()) };
        self.holdings.tags += 1;
        let bytes = self.hold(found.digest.clone(), Holder::Tag(self.holdings.tags)).await?;
        self.inventory.tag(TagContent { tag: tag.clone(), digest: found.digest, bytes });
        Ok(())
    }

    /// Counts a manifest and all that it references for a holder; gives the bytes of objects that
    /// this holder had not been counted for.
    async fn hold(&mut self, manifest: Digest, holder: Holder) -> Result<u64, Error> {
        let mut bytes = 0;
        let mut waiting = vec![manifest];
        while let Some(digest) = waiting.pop() {
            let known = self.objects.get(&digest).copied();
            if known.is_some_and(|known| known.holder == holder) {
                continue;
            }
            // Build caches list blobs among the children of an index.
            let Some(content) = self.lists.manifests.revision(self.name, &digest).await? else {
                bytes += self.blob(&digest, holder).await?;
                continue;
            };
            bytes += self.add(&digest, content.bytes.len() as u64, holder);
            let references = References::of(&content.bytes).unwrap_or_default();
            for blob in &references.blobs {
                bytes += self.blob(blob, holder).await?;
            }
            waiting.extend(references.manifests);
        }
        Ok(bytes)
    }

    async fn blob(&mut self, digest: &Digest, holder: Holder) -> Result<u64, Error> {
        let size = match self.objects.get(digest) {
            Some(known) if known.holder == holder => return Ok(0),
            Some(known) => Some(known.bytes),
            None => {
                let place = TreeKey::Layer(self.name, digest);
                match self.lists.tree.link(place).await? {
                    Some(target) => {
                        let data = TreeKey::Data(&target).key();
                        self.lists.tree.storage().size(&data).await?
                    }
                    None => None,
                }
            }
        };
        // A blob that is kept elsewhere, or is missing, takes no room.
        Ok(size.map_or(0, |size| self.add(digest, size, holder)))
    }

    fn add(&mut self, digest: &Digest, bytes: u64, holder: Holder) -> u64 {
        match self.objects.get_mut(digest) {
            Some(known) => {
                if matches!(holder, Holder::Tag(_)) && !known.is_shared {
                    known.is_shared = true;
                    self.holdings.shared += bytes;
                }
                known.holder = holder;
            }
            None => {
                self.objects.insert(digest.clone(), Object { bytes, holder, is_shared: false });
                self.inventory.object(digest, bytes);
                match holder {
                    Holder::Untagged => self.holdings.untagged += bytes,
                    Holder::Tag(_) | Holder::Referrers => self.holdings.bytes += bytes,
                }
            }
        }
        bytes
    }

    /// Counts the manifests that no tag holds. Those with a subject that is held are held as well.
    async fn revisions(&mut self) -> Result<(), Error> {
        let mut referrers: Vec<(Digest, Vec<Digest>)> = Vec::new();
        let mut untagged = Vec::new();
        for algorithm in Algorithm::ALL {
            let mut after: Option<String> = None;
            loop {
                let page =
                    self.lists.revisions(self.name, algorithm, after.as_deref(), BATCH).await?;
                for hex in &page.items {
                    let Ok(digest) = Digest::from_parts(algorithm.as_str(), hex) else { continue };
                    if self.objects.contains_key(&digest) {
                        continue;
                    }
                    let content = self.lists.manifests.revision(self.name, &digest).await?;
                    let Some(content) = content else { continue };
                    let references = References::of(&content.bytes).unwrap_or_default();
                    match references.subjects.is_empty() {
                        true => untagged.push(digest),
                        false => referrers.push((digest, references.subjects)),
                    }
                }
                if !page.more {
                    break;
                }
                after = page.items.last().cloned();
            }
        }
        // A signature may be the subject of another one.
        loop {
            let (held, left): (Vec<_>, Vec<_>) =
                referrers.into_iter().partition(|(_, subjects)| {
                    subjects.iter().any(|subject| self.objects.contains_key(subject))
                });
            referrers = left;
            if held.is_empty() {
                break;
            }
            for (digest, _) in held {
                self.hold(digest, Holder::Referrers).await?;
            }
        }
        untagged.extend(referrers.into_iter().map(|(digest, _)| digest));
        for digest in untagged {
            self.holdings.untagged_manifests += 1;
            self.hold(digest, Holder::Untagged).await?;
        }
        Ok(())
    }
}
