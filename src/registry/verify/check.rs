//! The check of one object: its damage at this moment.

use std::collections::BTreeSet;

use super::{
    Verifier,
    finding::{Finding, Kind, MAX_MISSING, causes},
    target::{Linked, Target},
};
use crate::{
    oci::{Digest, InvalidManifest, Manifest, References, RepositoryName, Schema1},
    registry::{
        Error as RegistryError, manifests,
        tree::{PULLED, TreeKey, UNTAGGED, link},
    },
    storage::{Error, Key},
};

/// How many unknown files of one folder are reported.
const MAX_STRAYS: usize = 32;

impl Verifier<'_> {
    /// The findings about an object; none when it is sound or gone.
    pub(super) async fn look(&self, target: &Target) -> Vec<Finding> {
        let looked = match target {
            Target::Folder(key) => self.storage().list(key, None, 1).await.map(|_| Vec::new()),
            Target::Stray(key) => self.stray(key).await,
            Target::Name(key) => self.name(key).await,
            Target::Blob(digest) => self.blob(digest).await,
            Target::Link(link) => self.link(link).await,
            Target::Manifest(name, digest) => self.manifest(name, digest).await,
        };
        looked.unwrap_or_else(|error| {
            let mut finding = Finding::unreadable(target.key(), &error);
            if let Target::Link(link) = target {
                finding = finding.of(link.repository());
            }
            vec![finding]
        })
    }

    async fn stray(&self, key: &Key) -> Result<Vec<Finding>, Error> {
        if self.storage().size(key).await?.is_some() {
            return Ok(vec![stray(key.clone())]);
        }
        let is_folder = !self.storage().list(key, None, 1).await?.is_empty();
        let message = "a symbolic link to a folder, which is not followed here";
        let finding = || Finding::new(Kind::Stray, key.clone(), message);
        Ok(is_folder.then(finding).into_iter().collect())
    }

    async fn name(&self, key: &Key) -> Result<Vec<Finding>, Error> {
        let there = !self.storage().list(key, None, 1).await?.is_empty();
        let message = "the folder's name is no repository, tag or digest, so nothing below it is \
                       served";
        let finding = || Finding::new(Kind::NameInvalid, key.clone(), message);
        Ok(there.then(finding).into_iter().collect())
    }

    /// The entries of a folder that are not among `known`: names, and whether each is a folder.
    async fn strays(&self, folder: &Key, known: &[(&str, bool)]) -> Result<Vec<Finding>, Error> {
        let entries = self.storage().list(folder, None, MAX_STRAYS).await?;
        let foreign = entries
            .into_iter()
            .filter(|entry| !known.contains(&(entry.name.as_str(), entry.is_prefix)));
        Ok(foreign.map(|entry| stray(folder.child(&entry.name))).collect())
    }

    async fn blob(&self, digest: &Digest) -> Result<Vec<Finding>, Error> {
        let key = TreeKey::Data(digest).key();
        let mut findings = self.strays(&folder_of(&key), &[("data", false)]).await?;
        match self.hash(&key, digest).await? {
            // A push may have repaired a blob that was corrupt before.
            None => self.acquit(digest),
            Some((computed, _)) if computed == *digest => self.acquit(digest),
            Some((computed, size)) => {
                self.condemn(digest);
                let message = format!("the {size} bytes hash to {computed}");
                findings.push(Finding::new(Kind::BlobCorrupt, key, message).about(digest));
            }
        }
        Ok(findings)
    }

    /// The digest of an object, by the algorithm of `named`, and its length.
    pub(super) async fn hash(
        &self,
        key: &Key,
        named: &Digest,
    ) -> Result<Option<(Digest, u64)>, Error> {
        let Some(object) = self.storage().open(key).await? else { return Ok(None) };
        let size = object.size();
        let read = |bytes| self.progress.read(bytes);
        let computed = self.pace.hash(object.stream(0..size), named.algorithm(), read).await?;
        Ok(Some((computed, size)))
    }

    async fn link(&self, link: &Linked) -> Result<Vec<Finding>, Error> {
        let key = link.key();
        // Registries before 2.4 keep signatures beside a revision's link, and this registry the record
        // of the last pull.
        let known = [("link", false), ("signatures", true), (PULLED, false), (UNTAGGED, false)];
        let mut findings = self.strays(&folder_of(&key), &known).await?;
        let Some(content) = self.content(&key).await? else {
            findings.extend(self.unfinished(link).await?);
            return Ok(findings);
        };
        if let Some(wrong) = self.wrong(link, &content).await? {
            // The target may have come or gone together with the link since it was read.
            if self.content(&key).await?.as_ref() == Some(&content) {
                findings.push(wrong);
            }
        }
        Ok(findings)
    }

    /// The finding about a tag without a manifest.
    async fn unfinished(&self, link: &Linked) -> Result<Option<Finding>, Error> {
        let Linked::Current(name, tag) = link else { return Ok(None) };
        let key = TreeKey::TagFolder(name, tag).key();
        let left = !self.storage().list(&key.child("index"), None, 1).await?.is_empty();
        let message = "the tag names nothing: its push or its deletion was cut off";
        Ok(left.then(|| Finding::new(Kind::TagUnfinished, key, message).of(name)))
    }

    /// The content of a link file; empty for a file that is too long for a link.
    pub(super) async fn content(&self, key: &Key) -> Result<Option<Vec<u8>>, Error> {
        match self.storage().size(key).await? {
            None => Ok(None),
            Some(size) if size > link::MAX_LEN as u64 => Ok(Some(Vec::new())),
            Some(_) => Ok(self.storage().read(key, link::MAX_LEN).await?.map(Into::into)),
        }
    }

    /// The finding about a link with this content.
    pub(super) async fn wrong(
        &self,
        link: &Linked,
        content: &[u8],
    ) -> Result<Option<Finding>, Error> {
        let finding = |kind, message: String| {
            let finding = Finding::new(kind, link.key(), message).of(link.repository());
            match link.digest() {
                Some(digest) => finding.about(digest),
                None => finding,
            }
        };
        let found = match link::parse(content) {
            None if content.is_empty() => {
                Some(finding(Kind::LinkInvalid, "the link is empty or too long".to_owned()))
            }
            None => Some(finding(Kind::LinkInvalid, "the link holds no digest".to_owned())),
            Some(target) => match link {
                Linked::Layer(_, digest) if digest.algorithm() != target.algorithm() => {
                    // registry:2 links a sha512 name to sha256 content.
                    match self.hash(&TreeKey::Data(&target).key(), digest).await? {
                        None => Some(missing(finding, &target)),
                        Some((computed, _)) if computed == *digest => None,
                        Some(_) if self.is_condemned(&target) => None,
                        Some(_) => Some(elsewhere(finding, &target)),
                    }
                }
                Linked::Layer(_, digest) | Linked::Revision(_, digest) if *digest == target => {
                    let size = self.storage().size(&TreeKey::Data(&target).key()).await?;
                    size.is_none().then(|| missing(finding, &target))
                }
                Linked::Index(_, _, digest) if *digest == target => None,
                Linked::Layer(..) | Linked::Revision(..) | Linked::Index(..) => {
                    Some(elsewhere(finding, &target))
                }
                Linked::Current(name, tag) => {
                    let revision = TreeKey::Revision(name, &target).key();
                    let entry = TreeKey::TagIndex(name, tag, &target).key();
                    let found = if self.storage().size(&revision).await?.is_none() {
                        let message = format!("the tag names {target}, which is not there");
                        Some(finding(Kind::RevisionMissing, message))
                    } else if self.storage().size(&entry).await?.is_none() {
                        let message = "the tag's index lacks its manifest: registry:2's collector may take \
                             it for untagged; pushing the tag again enters it";
                        Some(finding(Kind::TagIndexMissing, message.to_owned()))
                    } else {
                        None
                    };
                    found.map(|found| found.about(&target))
                }
            },
        };
        let is_note = |found: &Finding| match link {
            // An entry for a manifest that a tag has named is history; requests do not use it.
            Linked::Index(..) => true,
            // The garbage collection of registry:2 removes the bytes and leaves the link. Where a
            // manifest references them, the finding is about the manifest.
            Linked::Layer(..) => found.kind == Kind::BlobMissing,
            Linked::Revision(..) | Linked::Current(..) => false,
        };
        Ok(found.map(|found| if is_note(&found) { found.into_note() } else { found }))
    }

    /// Checks that a manifest of a repository can be read, and that the repository has the content it
    /// references. The checks of blobs and links cover its own bytes.
    async fn manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Finding>, Error> {
        let key = TreeKey::Revision(name, digest).key();
        let Some(content) = self.content(&key).await? else { return Ok(Vec::new()) };
        if link::parse(&content).as_ref() != Some(digest) || self.is_condemned(digest) {
            return Ok(Vec::new());
        }
        let found = self.unsound(name, digest).await?;
        if found.is_some() && self.content(&key).await?.as_ref() != Some(&content) {
            return Ok(Vec::new());
        }
        Ok(found.map(|found| found.of(name).about(digest)).into_iter().collect())
    }

    async fn unsound(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Finding>, Error> {
        let data = TreeKey::Data(digest).key();
        let key = TreeKey::Revision(name, digest).key();
        let Some(size) = self.storage().size(&data).await? else { return Ok(None) };
        if size > manifests::MAX_STORED as u64 {
            let message = format!("{size} bytes are more than a manifest may have");
            return Ok(Some(Finding::new(Kind::ManifestInvalid, key, message)));
        }
        let Some(bytes) = self.storage().read(&data, manifests::MAX_STORED).await? else {
            return Ok(None);
        };
        let manifest = match Manifest::parse(&bytes, None) {
            Ok(manifest) => manifest,
            Err(why) => return self.unaccepted(name, key, &bytes, &why).await,
        };
        let needed = self.manifests.needed(manifest.kind());
        let missing = self.manifests.presence(name, manifest.kind()).await;
        self.incomplete(key, missing.map(|presence| presence.absent), needed)
    }

    /// Checks a manifest that this registry would not accept. Another registry has accepted it, so it is
    /// served as it was pushed, and it is sound as long as its references can be read.
    async fn unaccepted(
        &self,
        name: &RepositoryName,
        key: Key,
        bytes: &[u8],
        why: &InvalidManifest,
    ) -> Result<Option<Finding>, Error> {
        let Some(references) = References::of(bytes) else {
            let message = format!(
                "{why}: what the manifest needs is not known, so that nothing of the repository is \
                 collected; push the image again, or delete the manifest"
            );
            return Ok(Some(Finding::new(Kind::ManifestInvalid, key, message)));
        };
        // Old registries stored such manifests.
        if Schema1::parse(&Manifest::stored_media_type(bytes)).is_some() {
            return Ok(None);
        }
        let References { manifests, blobs, elsewhere, .. } = references;
        let elsewhere: BTreeSet<Digest> = elsewhere.into_iter().collect();
        let blobs: BTreeSet<Digest> =
            blobs.into_iter().filter(|blob| !elsewhere.contains(blob)).collect();
        let manifests: BTreeSet<Digest> = manifests.into_iter().collect();
        let needed = blobs.union(&manifests).cloned().collect();
        let missing = match self.manifests.presence_of_blobs(name, blobs).await {
            Ok(blobs) => {
                self.manifests.presence_of_children(name, manifests).await.map(|children| {
                    let mut missing = blobs.absent;
                    missing.extend(children.absent);
                    missing
                })
            }
            Err(error) => Err(error),
        };
        let note = || Finding::new(Kind::ManifestInvalid, key.clone(), why.to_string()).into_note();
        Ok(Some(self.incomplete(key.clone(), missing, needed)?.unwrap_or_else(note)))
    }

    /// The finding about a manifest that references these digests, some of which may be missing.
    fn incomplete(
        &self,
        key: Key,
        missing: Result<Vec<Digest>, RegistryError>,
        needed: BTreeSet<Digest>,
    ) -> Result<Option<Finding>, Error> {
        let mut missing = match missing {
            Ok(missing) => missing,
            Err(RegistryError::Storage(error)) => return Err(error),
            Err(error) => {
                return Ok(Some(Finding::new(Kind::Unreadable, key, causes(&error))));
            }
        };
        let absent = missing.len();
        missing.extend(needed.into_iter().filter(|digest| self.is_condemned(digest)));
        missing.sort_unstable();
        missing.dedup();
        let Some(first) = missing.first() else { return Ok(None) };
        let what = if absent == missing.len() { "missing" } else { "missing or corrupt" };
        let message = match missing.len() {
            1 => format!("{first} is {what}: push the image again"),
            n => format!("{first} and {} more are {what}: push the image again", n - 1),
        };
        missing.truncate(MAX_MISSING);
        let finding = Finding::new(Kind::ManifestIncomplete, key, message);
        Ok(Some(Finding { missing, ..finding }))
    }
}

fn missing(finding: impl Fn(Kind, String) -> Finding, target: &Digest) -> Finding {
    finding(Kind::BlobMissing, format!("the bytes of {target} are not there"))
}

fn elsewhere(finding: impl Fn(Kind, String) -> Finding, target: &Digest) -> Finding {
    finding(Kind::LinkElsewhere, format!("the link leads to {target}"))
}

fn stray(key: Key) -> Finding {
    let message = match key.as_str().ends_with(".tmp") {
        true => "left by a write that was cut off; nobody needs it",
        false => "nobody knows what this is",
    };
    Finding::new(Kind::Stray, key, message)
}

/// The folder of a file.
fn folder_of(key: &Key) -> Key {
    let folder = key.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
    Key::new(folder.to_owned())
}
