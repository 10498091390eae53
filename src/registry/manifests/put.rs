//! Putting manifests: verification, completeness, and an order of writes that a crash cannot harm.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Accepted, ExistingTags, Manifests, Put, immutable::Content, withdraw::Written};
use crate::{
    oci::{Algorithm, Digest, Manifest, Reference, RepositoryName, Tag},
    registry::{
        Action, Caller, Error, ManifestContent, Occurrence,
        tree::{Relying, TreeKey},
    },
    storage::{Durability, fences::Part},
};

/// How many tags of a manifest are set at once: syncs that run together share their cost.
const TAGS: usize = 8;

impl Manifests {
    /// Puts a manifest at a tag or at its digest (end-7), and emits its events. The put runs to its end
    /// even when the caller goes away.
    ///
    /// # Errors
    ///
    /// When the bytes are no manifest, do not match the digest, or reference content that the
    /// repository does not have; when a tag names another manifest and is immutable, or the put may only
    /// add tags; when storage fails. A client sees no change then.
    pub async fn put(
        self: &Arc<Self>,
        caller: &Caller,
        name: &RepositoryName,
        put: Put,
    ) -> Result<Accepted, Error> {
        let manifests = Arc::clone(self);
        let caller = caller.clone();
        let name = name.clone();
        let pushed_tags = put.distinct_tags();
        let bytes = put.bytes.clone();
        let work = async move {
            let accepted = manifests.accept(&name, put).await?;
            if manifests.events.wants(Action::Push) {
                let manifest = ManifestContent {
                    digest: accepted.digest.clone(),
                    media_type: Manifest::stored_media_type(&bytes).into(),
                    bytes,
                };
                manifests.emit_pushed(&caller, &name, manifest, pushed_tags).await;
            }
            Ok(accepted)
        };
        self.tree.detached(work).await
    }

    /// Emits an event for each tag that a manifest was put at, or one without a tag.
    async fn emit_pushed(
        &self,
        caller: &Caller,
        name: &RepositoryName,
        manifest: ManifestContent,
        tags: Vec<Tag>,
    ) {
        if tags.is_empty() {
            let occurrence = Occurrence::ManifestPushed { manifest, tag: None };
            self.events.emit(caller, name, occurrence).await;
            return;
        }
        for tag in tags {
            let occurrence =
                Occurrence::ManifestPushed { manifest: manifest.clone(), tag: Some(tag) };
            self.events.emit(caller, name, occurrence).await;
        }
    }

    async fn accept(&self, name: &RepositoryName, put: Put) -> Result<Accepted, Error> {
        let Put { reference, mut tags, content_type, bytes, existing_tags } = put;
        let digest = match reference {
            Reference::Digest(claimed) => verified(claimed, &bytes)?,
            Reference::Tag(tag) => {
                tags.push(tag);
                Digest::of(Algorithm::default(), &bytes)
            }
        };
        let manifest = Manifest::parse(&bytes, content_type.as_deref())?;
        self.policy.judge(&manifest)?;
        let subject = manifest.subject().map(|subject| subject.digest.clone());

        let content = Content { digest: &digest, bytes: &bytes };
        let mut relying = self.relying_on_tags(name, &tags, content, existing_tags).await?;
        let data = TreeKey::Data(&digest).key();
        let mut written = None;
        loop {
            let mut addition = relying.enter().await?;
            match self.refuse_incomplete(name, manifest.kind()).await {
                Ok(bytes) => addition.add_needed(&bytes),
                Err(error) => {
                    drop(addition);
                    if let Some(written) = written {
                        let alone = relying.close(name).await?;
                        self.withdraw(written, manifest.kind(), alone).await?;
                    }
                    return Err(error);
                }
            }
            let written =
                written.get_or_insert_with(|| Written::new(name, &digest, subject.as_ref()));
            self.tree.storage().put(&data, bytes.clone(), Durability::Synced).await?;
            if let Some(subject) = &subject {
                // Before the revision: lists leave out an entry without its revision, and would never
                // find a revision without its entry.
                let place = TreeKey::Referrer { name, subject, referrer: &digest };
                self.tree.enter(place, &digest).await?;
            }
            self.tree.set_link(TreeKey::Revision(name, &digest), &digest).await?;
            // A tag never names a manifest that may have gone.
            if !addition.holds(Part::All).await? {
                continue;
            }
            let target = &digest;
            let tags = &tags;
            let released: Vec<Option<Digest>> = stream::iter(0..tags.len())
                .map(|at| async move { self.set_tag(name, &tags[at], target).await })
                .buffered(TAGS)
                .try_collect()
                .await?;
            written.moved(tags, released);
            if addition.end(Part::Repository).await? {
                break;
            }
        }
        Ok(Accepted { digest, subject })
    }

    /// The fence for a put of `content` at these tags, once it is certain that the put moves no tag that
    /// has to stay.
    async fn relying_on_tags(
        &self,
        name: &RepositoryName,
        tags: &[Tag],
        content: Content<'_>,
        existing: ExistingTags,
    ) -> Result<Relying<'_>, Error> {
        let adds_only = existing == ExistingTags::Keep && !tags.is_empty();
        if !adds_only && !self.immutable.are_among(name, tags) {
            return Ok(self.tree.relying(name, Some(content.digest)));
        }
        let alone = self.tree.closing(name).await?;
        self.refuse_moved(name, tags, content, existing).await?;
        Ok(self.tree.relying_alone(alone, content.digest))
    }

    /// Points a tag at a manifest of the repository, and returns the manifest that it named before. The
    /// caller has entered the fence of the repository.
    pub(in crate::registry) async fn set_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<Option<Digest>, Error> {
        // registry:2 keeps the manifests that a tag ever named. Its garbage collection may delete a
        // revision that is in the index of no tag, so the index comes first.
        self.tree.set_link(TreeKey::TagIndex(name, tag, digest), digest).await?;
        let released = self.tree.extend_released(name, tag, Some(digest)).await?;
        self.tree.set_link(TreeKey::TagCurrent(name, tag), digest).await?;
        Ok(released)
    }
}

/// The digest of a manifest, if it is the one that the client claims.
fn verified(claimed: Digest, bytes: &[u8]) -> Result<Digest, Error> {
    let computed = Digest::of(claimed.algorithm(), bytes);
    if computed == claimed {
        Ok(computed)
    } else {
        Err(Error::DigestMismatch { claimed, computed })
    }
}
