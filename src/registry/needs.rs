//! Who needs a blob: the manifests of its repository that name it.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Error, Registry,
    layout::{LINK, Place},
};
use crate::oci::{Algorithm, Digest, References, RepositoryName};

/// What becomes of a blob that is to be deleted although manifests need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfNeeded {
    /// It stays.
    Refuse,
    /// It goes, and the manifests stay without it.
    Delete,
}

/// More manifests than this are not looked for: nobody reads so many.
const ENOUGH: usize = 100;

/// How many manifests are looked up together.
const BATCH: usize = 100;

/// How many of them at once.
const LOOKUPS: usize = 16;

impl Registry {
    /// Some of the manifests that need a blob of their repository; none when nobody does. The
    /// caller holds the lock for deleting, so that none comes meanwhile.
    ///
    /// A manifest needs the blob by the digest that it names: whether the same bytes have a link by
    /// a digest of another algorithm is all one. One whose bytes are not there, or are those of no
    /// manifest, is an image for nobody and needs nothing; it must not keep blobs for ever.
    ///
    /// # Errors
    ///
    /// When storage fails. What cannot be read now may be a manifest that needs it.
    pub(super) async fn needing(
        &self,
        name: &RepositoryName,
        blob: &Digest,
    ) -> Result<Vec<Digest>, Error> {
        // An index names manifests, which a blob of the same digest has nothing to do with.
        let is_manifest = self.revision(name, blob).await?.is_some();
        let mut needing = Vec::new();
        for algorithm in Algorithm::ALL {
            let folder = Place::Revisions(name, algorithm).key();
            let mut after = None;
            while needing.len() < ENOUGH {
                let held = self.storage().list_holders(&folder, LINK, after.as_deref(), BATCH);
                let names = held.await?.names;
                let Some(last) = names.last() else { break };
                after = Some(last.clone());
                let revisions: Vec<Digest> = names
                    .iter()
                    .filter_map(|hex| Digest::from_parts(algorithm.as_str(), hex).ok())
                    .collect();
                let found: Vec<Option<Digest>> = stream::iter(revisions)
                    .map(|revision| async move {
                        let references = self.references(name, &revision).await?;
                        let needs = references.blobs.contains(blob)
                            || !is_manifest && references.manifests.contains(blob);
                        Ok::<_, Error>(needs.then_some(revision))
                    })
                    .buffered(LOOKUPS)
                    .try_collect()
                    .await?;
                needing.extend(found.into_iter().flatten());
            }
        }
        needing.truncate(ENOUGH);
        Ok(needing)
    }

    async fn references(
        &self,
        name: &RepositoryName,
        revision: &Digest,
    ) -> Result<References, Error> {
        let content = self.revision(name, revision).await?;
        Ok(content.and_then(|content| References::of(&content.bytes)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        oci::Reference,
        registry::{Options, Put, SystemClock},
        storage::{Durability, Storage as _, memory::Memory},
    };

    fn of(text: &str) -> Digest {
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    /// A registry, and what is below it.
    fn registry() -> (Memory, Registry) {
        let memory = Memory::default();
        let storage = Arc::new(memory.clone());
        (memory, Registry::new(storage, Arc::new(SystemClock), Options::default()))
    }

    async fn put(memory: &Memory, place: Place<'_>, bytes: impl Into<Bytes>) {
        memory.put(&place.key(), bytes.into(), Durability::Lazy).await.unwrap();
    }

    async fn blob(memory: &Memory, at: &str, text: &str) -> Digest {
        let digest = of(text);
        put(memory, Place::Data(&digest), text.to_owned()).await;
        put(memory, Place::Layer(&name(at), &digest), digest.to_string()).await;
        digest
    }

    /// Puts a manifest where another registry might have, looked at by nobody.
    async fn manifest(memory: &Memory, at: &str, manifest: &str) -> Digest {
        let digest = of(manifest);
        put(memory, Place::Data(&digest), manifest.to_owned()).await;
        put(memory, Place::Revision(&name(at), &digest), digest.to_string()).await;
        digest
    }

    fn image(layer: &Digest, seed: usize) -> Value {
        let config = json!({ "mediaType": "x", "digest": layer, "size": 1 });
        json!({ "schemaVersion": 2, "config": config, "layers": [], "annotations": { "n": seed.to_string() } })
    }

    #[tokio::test]
    async fn whatever_names_a_blob_needs_it_and_nothing_else_does() {
        let descriptor = |digest: &Digest| json!({ "digest": digest, "size": 1 });
        for needs in [
            |d: Value| json!({ "schemaVersion": 2, "config": d, "layers": [] }),
            |d: Value| json!({ "schemaVersion": 2, "layers": [d], "mediaType": "future" }),
            |d: Value| json!({ "mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": [d] }),
            |d: Value| json!({ "schemaVersion": 1, "fsLayers": [{ "blobSum": d["digest"] }] }),
            |d: Value| json!({ "schemaVersion": 2, "manifests": [d] }),
        ] {
            let (memory, registry) = registry();
            let app = name("app");
            let (needed, other) =
                (blob(&memory, "app", "a").await, blob(&memory, "app", "b").await);
            let by = manifest(&memory, "app", &needs(descriptor(&needed)).to_string()).await;
            blob(&memory, "beside", "a").await;
            let refused = registry.delete_blob(&app, &needed, IfNeeded::Refuse).await;
            assert!(matches!(refused, Err(Error::BlobNeeded(told)) if told == [by]));
            assert!(registry.blob_size(&app, &needed).await.unwrap().is_some());
            let beside = name("beside");
            assert!(registry.delete_blob(&beside, &needed, IfNeeded::Refuse).await.unwrap());
            assert!(registry.delete_blob(&app, &other, IfNeeded::Refuse).await.unwrap());
            assert!(registry.delete_blob(&app, &needed, IfNeeded::Delete).await.unwrap());
            assert!(!registry.delete_blob(&app, &needed, IfNeeded::Refuse).await.unwrap());
        }
    }

    #[tokio::test]
    async fn what_nobody_can_pull_keeps_no_blob() {
        let (memory, registry) = registry();
        let app = name("app");
        let needed = blob(&memory, "app", "a").await;
        let image = image(&needed, 0).to_string();
        // No bytes, none of a manifest, a link to something else.
        let absent = manifest(&memory, "app", &image).await;
        memory.delete(&Place::Data(&absent).key()).await.unwrap();
        manifest(&memory, "app", &image[1..]).await;
        put(&memory, Place::Revision(&app, &of("x")), of("y").to_string()).await;
        assert!(registry.delete_blob(&app, &needed, IfNeeded::Refuse).await.unwrap());
    }

    #[tokio::test]
    async fn a_link_without_bytes_is_needed_by_nobody() {
        let (memory, registry) = registry();
        let app = name("app");
        let collected = blob(&memory, "app", "a").await;
        manifest(&memory, "app", &image(&collected, 0).to_string()).await;
        memory.delete(&Place::Data(&collected).key()).await.unwrap();
        assert!(registry.delete_blob(&app, &collected, IfNeeded::Refuse).await.unwrap());
    }

    #[tokio::test]
    async fn a_manifest_that_an_index_names_does_not_keep_a_blob_of_its_digest() {
        let (memory, registry) = registry();
        let app = name("app");
        let child = manifest(&memory, "app", "{}").await;
        let index = json!({ "manifests": [{ "digest": child }] }).to_string();
        manifest(&memory, "app", &index).await;
        let as_blob = blob(&memory, "app", "{}").await;
        assert_eq!(child, as_blob);
        assert!(registry.delete_blob(&app, &as_blob, IfNeeded::Refuse).await.unwrap());
        assert!(registry.manifest(&app, &Reference::Digest(child)).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn the_digest_that_a_manifest_names_is_what_counts() {
        let (memory, registry) = registry();
        let app = name("app");
        let sha256 = blob(&memory, "app", "a").await;
        let sha512 = Digest::of(Algorithm::Sha512, b"a");
        // As registry:2 files what was pushed by its sha512.
        put(&memory, Place::Layer(&app, &sha512), sha256.to_string()).await;
        manifest(&memory, "app", &image(&sha512, 0).to_string()).await;
        let refused = registry.delete_blob(&app, &sha512, IfNeeded::Refuse).await;
        assert!(matches!(refused, Err(Error::BlobNeeded(_))));
        assert!(registry.delete_blob(&app, &sha256, IfNeeded::Refuse).await.unwrap());
        assert!(registry.blob_size(&app, &sha512).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn no_more_manifests_are_told_than_people_read() {
        let (memory, registry) = registry();
        let needed = blob(&memory, "app", "a").await;
        for number in 0..ENOUGH + BATCH + 7 {
            manifest(&memory, "app", &image(&needed, number).to_string()).await;
        }
        match registry.delete_blob(&name("app"), &needed, IfNeeded::Refuse).await {
            Err(Error::BlobNeeded(told)) => assert_eq!(told.len(), ENOUGH),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_blob_and_a_manifest_that_needs_it_never_pass_each_other() {
        let (memory, registry) = registry();
        let app = name("app");
        for round in 0..200 {
            let needed = blob(&memory, "app", &round.to_string()).await;
            let bytes = Bytes::from(image(&needed, 0).to_string());
            let reference = Reference::Tag("latest".parse().unwrap());
            let put = Put { reference, tags: Vec::new(), content_type: None, bytes };
            let (put, deleted) = tokio::join!(
                registry.put_manifest(&app, put),
                registry.delete_blob(&app, &needed, IfNeeded::Refuse)
            );
            assert_ne!(put.is_ok(), deleted.is_ok(), "{put:?} {deleted:?}");
        }
    }
}
