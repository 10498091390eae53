//! Tags that a put may not move: immutable ones, which keep their first manifest until they are deleted,
//! and all that exist, for a caller who may only add tags.

use super::{ExistingTags, Manifests};
use crate::{
    oci::{Digest, RepositoryName, Tag},
    registry::{Error, TagSelector, tree::TreeKey},
};

/// A push that would have moved an immutable tag.
#[derive(Debug, thiserror::Error)]
#[error(
    "the tag {tag} of {repository} is immutable and names other content (storage.immutabletags: \
     {rule}); push another tag, or delete this one first where deletion is allowed"
)]
pub struct TagImmutable {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// The manifest that it names.
    pub digest: Digest,
    /// The rule that matches it, in words.
    pub rule: String,
}

/// A push that would have moved a tag, by a caller who may only add tags.
#[derive(Debug, thiserror::Error)]
#[error("the tag {tag} of {repository} names other content, and the caller may only add tags")]
pub struct TagExists {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
}

/// The content of a put.
#[derive(Clone, Copy)]
pub(super) struct Content<'a> {
    pub(super) digest: &'a Digest,
    pub(super) bytes: &'a [u8],
}

impl Content<'_> {
    /// Whether a tag that names the manifest `current` names this content. A client may push the same
    /// content under a digest of another algorithm.
    fn is_named_by(self, current: &Digest) -> bool {
        current == self.digest || *current == Digest::of(current.algorithm(), self.bytes)
    }
}

/// The rules for immutable tags.
#[derive(Debug)]
pub(in crate::registry) struct ImmutableTags(Vec<TagSelector>);

impl ImmutableTags {
    pub(in crate::registry) const fn new(rules: Vec<TagSelector>) -> Self {
        Self(rules)
    }

    /// Whether one of these tags is immutable.
    pub(in crate::registry) fn are_among(&self, name: &RepositoryName, tags: &[Tag]) -> bool {
        tags.iter().any(|tag| self.rule(name, tag).is_some())
    }

    fn rule(&self, name: &RepositoryName, tag: &Tag) -> Option<&TagSelector> {
        self.0.iter().find(|scope| scope.covers_some_of(name) && scope.covers(tag))
    }
}

impl Manifests {
    /// Refuses to move tags to `content` that are immutable, and all where `existing` tags are kept. The
    /// caller has closed the fence of the repository.
    ///
    /// A tag whose manifest is damaged or missing is kept all the same: clients have seen that manifest,
    /// and pushing it again mends the tag.
    pub(super) async fn refuse_moved(
        &self,
        name: &RepositoryName,
        tags: &[Tag],
        content: Content<'_>,
        existing: ExistingTags,
    ) -> Result<(), Error> {
        for tag in tags {
            let rule = self.immutable.rule(name, tag);
            if rule.is_none() && existing == ExistingTags::Move {
                continue;
            }
            let current = self.tree.link(TreeKey::TagCurrent(name, tag)).await?;
            let Some(current) = current.filter(|current| !content.is_named_by(current)) else {
                continue;
            };
            let repository = name.clone();
            let tag = tag.clone();
            return Err(match rule {
                Some(rule) if existing == ExistingTags::Move => Error::TagImmutable(TagImmutable {
                    repository,
                    tag,
                    digest: current,
                    rule: rule.to_string(),
                }),
                _ => Error::TagExists(TagExists { repository, tag }),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::{
        oci::{Algorithm, Reference},
        registry::{Caller, Options, Put, Registry, SystemClock, TagRules},
        storage::{
            Storage,
            filesystem::{self, Filesystem},
            memory::Memory,
        },
    };

    fn registry(rules: &serde_json::Value) -> (Memory, Registry) {
        let memory = Memory::default();
        (memory.clone(), over(Arc::new(memory), rules))
    }

    fn over(storage: Arc<dyn Storage>, rules: &serde_json::Value) -> Registry {
        let immutabletags = serde_json::from_value(rules.clone()).unwrap();
        let tags = TagRules { immutabletags, ..TagRules::default() };
        let options = Options { tags, ..Options::default() };
        Registry::new(storage, Arc::new(SystemClock), options)
    }

    fn reference(text: &str) -> Reference {
        text.parse()
            .map(Reference::Digest)
            .unwrap_or_else(|_| Reference::Tag(text.parse().unwrap()))
    }

    /// A manifest without references, with content of its own for each seed.
    fn manifest(seed: &str) -> Bytes {
        let index = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [],
            "annotations": { "seed": seed },
        });
        index.to_string().into()
    }

    async fn put(registry: &Registry, at: &str, tags: &[&str], seed: &str) -> Result<(), Error> {
        let put = Put {
            reference: reference(at),
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            content_type: None,
            bytes: manifest(seed),
            existing_tags: ExistingTags::Move,
        };
        put_in(registry, put).await
    }

    /// As [`put`], by a caller who may only add tags.
    async fn add(registry: &Registry, at: &str, tags: &[&str], seed: &str) -> Result<(), Error> {
        let put = Put {
            reference: reference(at),
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            content_type: None,
            bytes: manifest(seed),
            existing_tags: ExistingTags::Keep,
        };
        put_in(registry, put).await
    }

    async fn put_in(registry: &Registry, put: Put) -> Result<(), Error> {
        let name = "team/app".parse().unwrap();
        registry.manifests().put(&Caller::default(), &name, put).await.map(drop)
    }

    #[tokio::test]
    async fn other_content_of_an_immutable_tag_is_refused_and_not_stored() {
        let (memory, registry) = registry(&serde_json::json!([
            { "repositories": "other/**" },
            { "repositories": "team/*", "tags": "^v" },
        ]));
        put(&registry, "v1", &[], "one").await.unwrap();
        put(&registry, "latest", &[], "one").await.unwrap();
        put(&registry, "latest", &[], "two").await.unwrap();
        let other = Digest::of(Algorithm::Sha256, &manifest("three")).to_string();
        for (at, tags) in [("v1", &[][..]), (&other, &["new", "v1"]), ("v2", &["v1"])] {
            match put(&registry, at, tags, "three").await {
                Err(Error::TagImmutable(TagImmutable { tag, rule, digest, .. })) => {
                    assert_eq!(tag.as_str(), "v1");
                    assert_eq!(rule, "repositories team/*, tags ^v");
                    assert_eq!(digest, Digest::of(Algorithm::Sha256, &manifest("one")));
                }
                other => panic!("{at}: {other:?}"),
            }
        }
        let other: Digest = other.parse().unwrap();
        let name = "team/app".parse().unwrap();
        for place in [TreeKey::Data(&other), TreeKey::Revision(&name, &other)] {
            assert_eq!(memory.size(&place.key()).await.unwrap(), None, "{place:?}");
        }
        assert_eq!(registry.lists().tags(&name, None, 9).await.unwrap().unwrap().items.len(), 2);
    }

    #[tokio::test]
    async fn same_content_is_accepted_again_and_a_deleted_tag_may_change() {
        let (_, registry) = registry(&serde_json::json!([{}]));
        put(&registry, "v1", &[], "one").await.unwrap();
        put(&registry, "v1", &[], "one").await.unwrap();
        let by_512 = Digest::of(Algorithm::Sha512, &manifest("one")).to_string();
        put(&registry, &by_512, &["v1", "v2"], "one").await.unwrap();
        put(&registry, "v2", &[], "one").await.unwrap();
        put(&registry, "v1", &[], "two").await.unwrap_err();
        let name = "team/app".parse().unwrap();
        assert!(
            registry
                .manifests()
                .delete_tag(&Caller::default(), &name, &"v1".parse().unwrap())
                .await
                .unwrap()
        );
        put(&registry, "v1", &[], "two").await.unwrap();
    }

    #[tokio::test]
    async fn caller_who_may_only_add_tags_moves_none() {
        let (memory, registry) = registry(&serde_json::json!([{ "tags": "^v" }]));
        add(&registry, "v1", &[], "one").await.unwrap();
        add(&registry, "latest", &[], "one").await.unwrap();
        add(&registry, "latest", &[], "one").await.expect("it names the same content");
        let other = Digest::of(Algorithm::Sha256, &manifest("two"));
        let by_digest = other.to_string();
        for (at, tags, kept) in [
            ("latest", &[][..], "latest"),
            (&by_digest, &["new", "latest"], "latest"),
            // An immutable tag is one of others' rights first.
            ("v1", &[], "v1"),
        ] {
            match add(&registry, at, tags, "two").await {
                Err(Error::TagExists(TagExists { tag, .. })) => assert_eq!(tag.as_str(), kept),
                other => panic!("{at}: {other:?}"),
            }
        }
        let name = "team/app".parse().unwrap();
        assert_eq!(memory.size(&TreeKey::Revision(&name, &other).key()).await.unwrap(), None);
        assert_eq!(registry.lists().tags(&name, None, 9).await.unwrap().unwrap().items.len(), 2);
        add(&registry, &by_digest, &["new"], "two").await.unwrap();
        add(&registry, &by_digest, &[], "two").await.unwrap();
        put(&registry, "latest", &[], "two").await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn tag_that_two_callers_add_at_once_has_the_content_of_one() {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let rootdirectory = folder.path().to_owned();
        let storage = Filesystem::open(&filesystem::Options { rootdirectory }).unwrap();
        let registry = over(Arc::new(storage), &serde_json::json!([]));
        for round in 0..16 {
            let tag = format!("v{round}");
            let (one, two) =
                tokio::join!(add(&registry, &tag, &[], "one"), add(&registry, &tag, &[], "two"));
            assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn first_push_succeeds_in_one_of_two_processes() {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let process = || {
            let rootdirectory = folder.path().to_owned();
            let storage = Filesystem::open(&filesystem::Options { rootdirectory }).unwrap();
            over(Arc::new(storage), &serde_json::json!([{}]))
        };
        let here = process();
        let there = process();
        for round in 0..16 {
            let tag = format!("v{round}");
            let (one, two) =
                tokio::join!(put(&here, &tag, &[], "one"), put(&there, &tag, &[], "two"));
            assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
            let name = "team/app".parse().unwrap();
            let found = here.manifests().get(&name, &reference(&tag)).await.unwrap().unwrap();
            assert_eq!(found.bytes, manifest(if one.is_ok() { "one" } else { "two" }));
        }
    }
}
