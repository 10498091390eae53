//! References to a blob: the manifests of its repository that name it.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Blobs;
use crate::{
    oci::{Algorithm, Digest, References, RepositoryName},
    registry::{
        Error,
        tree::{LINK, TreeKey},
    },
};

/// Whether a deletion heeds references to the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteMode {
    /// A blob that a manifest references stays.
    IfUnreferenced,
    /// The blob goes, and manifests stay without it.
    Force,
}

/// The search ends after this many manifests; an error message with more has no use.
const ENOUGH: usize = 100;

/// How many manifests are looked up together.
const BATCH: usize = 100;

/// How many of these lookups run at once.
const LOOKUPS: usize = 16;

impl Blobs {
    /// Refuses to delete a blob that manifests of its repository reference. The caller has closed the
    /// fence of the repository, so no manifest comes meanwhile.
    ///
    /// A manifest references the blob by the digest that it names. Where that digest is a sha512 that
    /// registry:2 has linked to the blob's sha256, the manifest references the blob by the sha256 as
    /// well, because registry:2 looks for both.
    ///
    /// # Errors
    ///
    /// When manifests reference the blob; else when manifests cannot be read and may reference it:
    /// their bytes are missing, are no manifest, or name a digest of an unknown form. When storage
    /// fails.
    pub(in crate::registry) async fn refuse_referenced(
        &self,
        name: &RepositoryName,
        blob: &Digest,
    ) -> Result<(), Error> {
        // An index names manifests, not the blob of the same digest.
        let is_manifest = self.manifests.revision(name, blob).await?.is_some();
        let mut needing = Vec::new();
        let mut unclear = Vec::new();
        for algorithm in Algorithm::ALL {
            let folder = TreeKey::Revisions(name, algorithm).key();
            let mut after = None;
            while needing.len() < ENOUGH {
                let held = self.tree.storage().list_holders(&folder, LINK, after.as_deref(), BATCH);
                let names = held.await?.names;
                let Some(last) = names.last() else { break };
                after = Some(last.clone());
                let revisions: Vec<Digest> = names
                    .iter()
                    .filter_map(|hex| Digest::from_parts(algorithm.as_str(), hex).ok())
                    .collect();
                let found: Vec<(Digest, Need)> = stream::iter(revisions)
                    .map(|revision| async move {
                        let need = self.need(name, &revision, blob, is_manifest).await?;
                        Ok::<_, Error>((revision, need))
                    })
                    .buffered(LOOKUPS)
                    .try_collect()
                    .await?;
                for (revision, need) in found {
                    match need {
                        Need::No => {}
                        Need::Yes => needing.push(revision),
                        Need::Unclear => unclear.push(revision.to_string()),
                    }
                }
                unclear.truncate(ENOUGH);
            }
        }
        if !needing.is_empty() {
            needing.truncate(ENOUGH);
            return Err(Error::BlobNeeded(needing));
        }
        let revisions = TreeKey::Manifests(name).key().child("revisions");
        let foreign = self.tree.foreign_links(&revisions).await?;
        unclear.extend(foreign.into_iter().map(|link| link.digest));
        unclear.truncate(ENOUGH);
        if unclear.is_empty() { Ok(()) } else { Err(Error::BlobMayBeNeeded(unclear)) }
    }

    async fn need(
        &self,
        name: &RepositoryName,
        revision: &Digest,
        blob: &Digest,
        is_manifest: bool,
    ) -> Result<Need, Error> {
        let content = self.manifests.revision(name, revision).await?;
        let Some(references) = content.and_then(|content| References::of(&content.bytes)) else {
            return Ok(Need::Unclear);
        };
        if references.blobs.contains(blob) || !is_manifest && references.manifests.contains(blob) {
            return Ok(Need::Yes);
        }
        if blob.algorithm() == Algorithm::Sha256 {
            let named = references.blobs.iter().chain(&references.manifests);
            for alias in named.filter(|digest| digest.algorithm() != Algorithm::Sha256) {
                if self.tree.link(TreeKey::Layer(name, alias)).await?.as_ref() == Some(blob) {
                    return Ok(Need::Yes);
                }
            }
        }
        Ok(Need::No)
    }
}

/// Whether a manifest references a blob.
enum Need {
    No,
    Yes,
    /// The manifest cannot be read.
    Unclear,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::{
        DeleteMode::{Force, IfUnreferenced},
        *,
    };
    use crate::{
        oci::Reference,
        registry::{Caller, ExistingTags, Options, Put, Registry, SystemClock},
        storage::{Durability, Storage as _, memory::Memory},
    };

    fn of(text: &str) -> Digest {
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    /// A registry, and the memory below it.
    fn registry() -> (Memory, Registry) {
        let memory = Memory::default();
        let storage = Arc::new(memory.clone());
        (memory, Registry::new(storage, Arc::new(SystemClock), Options::default()))
    }

    async fn put(memory: &Memory, key: TreeKey<'_>, bytes: impl Into<Bytes>) {
        memory.put(&key.key(), bytes.into(), Durability::Lazy).await.unwrap();
    }

    async fn blob(memory: &Memory, at: &str, text: &str) -> Digest {
        let digest = of(text);
        put(memory, TreeKey::Data(&digest), text.to_owned()).await;
        put(memory, TreeKey::Layer(&name(at), &digest), digest.to_string()).await;
        digest
    }

    /// Writes a manifest into storage without validation, as another registry may have done.
    async fn manifest(memory: &Memory, at: &str, manifest: &str) -> Digest {
        let digest = of(manifest);
        put(memory, TreeKey::Data(&digest), manifest.to_owned()).await;
        put(memory, TreeKey::Revision(&name(at), &digest), digest.to_string()).await;
        digest
    }

    /// Deletes a blob as a client does.
    async fn delete(
        registry: &Registry,
        name: &RepositoryName,
        blob: &Digest,
        mode: DeleteMode,
    ) -> Result<bool, Error> {
        registry.blobs().delete(&Caller::default(), name, blob, mode).await
    }

    fn image(layer: &Digest, seed: usize) -> Value {
        let config = json!({ "mediaType": "x", "digest": layer, "size": 1 });
        json!({ "schemaVersion": 2, "config": config, "layers": [], "annotations": { "n": seed.to_string() } })
    }

    #[tokio::test]
    async fn blob_is_referenced_by_every_kind_of_manifest_that_names_it() {
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
            let needed = blob(&memory, "app", "a").await;
            let other = blob(&memory, "app", "b").await;
            let by = manifest(&memory, "app", &needs(descriptor(&needed)).to_string()).await;
            blob(&memory, "beside", "a").await;
            let refused = delete(&registry, &app, &needed, IfUnreferenced).await;
            assert!(matches!(refused, Err(Error::BlobNeeded(manifests)) if manifests == [by]));
            assert!(registry.blobs().size(&app, &needed).await.unwrap().is_some());
            let beside = name("beside");
            assert!(delete(&registry, &beside, &needed, IfUnreferenced).await.unwrap());
            assert!(delete(&registry, &app, &other, IfUnreferenced).await.unwrap());
            assert!(delete(&registry, &app, &needed, Force).await.unwrap());
            assert!(!delete(&registry, &app, &needed, IfUnreferenced).await.unwrap());
        }
    }

    #[tokio::test]
    async fn unreadable_manifest_keeps_every_blob_until_it_is_deleted() {
        let needed = |needed: &Digest| image(needed, 0).to_string();
        let sha384 = format!("sha384:{}", "0".repeat(96));
        let unknown = json!({ "digest": sha384 });
        for odd in [
            "not JSON".to_owned(),
            needed(&of("a"))[1..].to_owned(),
            "{}".to_owned(),
            json!({ "schemaVersion": 2, "mediaType": "future" }).to_string(),
            json!({ "config": unknown, "layers": [] }).to_string(),
            json!({ "manifests": [unknown] }).to_string(),
            json!({ "manifests": [], "subject": unknown }).to_string(),
        ] {
            let (memory, registry) = registry();
            let app = name("app");
            let blob = blob(&memory, "app", "a").await;
            let unclear = manifest(&memory, "app", &odd).await;
            let refused = delete(&registry, &app, &blob, IfUnreferenced).await;
            match refused {
                Err(Error::BlobMayBeNeeded(manifests)) => {
                    assert_eq!(manifests, [unclear.to_string()]);
                }
                other => panic!("{other:?}: {odd}"),
            }
            assert!(registry.blobs().size(&app, &blob).await.unwrap().is_some());
            assert!(registry.manifests().delete(&Caller::default(), &app, &unclear).await.unwrap());
            assert!(delete(&registry, &app, &blob, IfUnreferenced).await.unwrap());
        }
    }

    #[tokio::test]
    async fn manifest_without_bytes_may_reference_a_blob() {
        let (memory, registry) = registry();
        let app = name("app");
        let needed = blob(&memory, "app", "a").await;
        let absent = manifest(&memory, "app", &image(&needed, 0).to_string()).await;
        memory.delete(&TreeKey::Data(&absent).key()).await.unwrap();
        let elsewhere = of("x");
        put(&memory, TreeKey::Revision(&app, &elsewhere), of("y").to_string()).await;
        let foreign = TreeKey::Manifests(&app).key().child("revisions/sha384/00/link");
        memory.put(&foreign, "sha384:00".into(), Durability::Lazy).await.unwrap();
        let mut expected = vec![absent.to_string(), elsewhere.to_string()];
        expected.sort_unstable();
        expected.push("sha384:00".to_owned());
        match delete(&registry, &app, &needed, IfUnreferenced).await {
            Err(Error::BlobMayBeNeeded(manifests)) => assert_eq!(manifests, expected),
            other => panic!("{other:?}"),
        }
        assert!(delete(&registry, &app, &needed, Force).await.unwrap());
    }

    #[tokio::test]
    async fn keys_in_another_case_and_repeated_keys_are_references() {
        let digest = of("a");
        for by in [
            format!(r#"{{"SchemaVersion":2,"Config":{{"Digest":"{digest}"}},"Layers":[]}}"#),
            format!(r#"{{"layers":[{{"digest":"{digest}"}}],"Layers":[],"layers":[]}}"#),
            format!(r#"{{"layers":[{{"digest":"{}","DIGEST":"{digest}"}}]}}"#, of("b")),
        ] {
            let (memory, registry) = registry();
            let needed = blob(&memory, "app", "a").await;
            let by = manifest(&memory, "app", &by).await;
            let refused = delete(&registry, &name("app"), &needed, IfUnreferenced).await;
            assert!(matches!(refused, Err(Error::BlobNeeded(manifests)) if manifests == [by]));
        }
    }

    #[tokio::test]
    async fn link_without_a_blob_is_deleted_despite_references() {
        let (memory, registry) = registry();
        let app = name("app");
        let collected = blob(&memory, "app", "a").await;
        manifest(&memory, "app", &image(&collected, 0).to_string()).await;
        memory.delete(&TreeKey::Data(&collected).key()).await.unwrap();
        assert!(delete(&registry, &app, &collected, IfUnreferenced).await.unwrap());
    }

    #[tokio::test]
    async fn child_of_an_index_does_not_keep_a_blob_of_its_digest() {
        let (memory, registry) = registry();
        let app = name("app");
        let nothing = r#"{"manifests":[]}"#;
        let child = manifest(&memory, "app", nothing).await;
        let index = json!({ "manifests": [{ "digest": child }] }).to_string();
        manifest(&memory, "app", &index).await;
        let as_blob = blob(&memory, "app", nothing).await;
        assert_eq!(child, as_blob);
        assert!(delete(&registry, &app, &as_blob, IfUnreferenced).await.unwrap());
        assert!(registry.manifests().get(&app, &Reference::Digest(child)).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn sha512_reference_keeps_the_sha256_link_of_its_content() {
        let (memory, registry) = registry();
        let app = name("app");
        let sha256 = blob(&memory, "app", "a").await;
        let sha512 = Digest::of(Algorithm::Sha512, b"a");
        // registry:2 writes this link for a push by sha512, and reads both links.
        put(&memory, TreeKey::Layer(&app, &sha512), sha256.to_string()).await;
        let by = manifest(&memory, "app", &image(&sha512, 0).to_string()).await;
        for needed in [&sha512, &sha256] {
            let refused = delete(&registry, &app, needed, IfUnreferenced).await;
            assert!(
                matches!(refused, Err(Error::BlobNeeded(manifests)) if manifests == [by.clone()])
            );
        }
        // A blob that is stored by its sha512 needs no other link.
        put(&memory, TreeKey::Layer(&app, &sha512), sha512.to_string()).await;
        assert!(delete(&registry, &app, &sha256, IfUnreferenced).await.unwrap());
    }

    #[tokio::test]
    async fn refusal_names_a_bounded_number_of_manifests() {
        let (memory, registry) = registry();
        let needed = blob(&memory, "app", "a").await;
        for number in 0..ENOUGH + BATCH + 7 {
            manifest(&memory, "app", &image(&needed, number).to_string()).await;
        }
        match delete(&registry, &name("app"), &needed, IfUnreferenced).await {
            Err(Error::BlobNeeded(manifests)) => assert_eq!(manifests.len(), ENOUGH),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn push_of_a_manifest_and_deletion_of_its_blob_exclude_each_other() {
        let (memory, registry) = registry();
        let app = name("app");
        let caller = Caller::default();
        for round in 0..200 {
            let needed = blob(&memory, "app", &round.to_string()).await;
            let bytes = Bytes::from(image(&needed, 0).to_string());
            let reference = Reference::Tag("latest".parse().unwrap());
            let put = Put {
                reference,
                tags: Vec::new(),
                content_type: None,
                bytes,
                existing_tags: ExistingTags::Move,
            };
            let (put, deleted) = tokio::join!(
                registry.manifests().put(&caller, &app, put),
                registry.blobs().delete(&caller, &app, &needed, IfUnreferenced)
            );
            assert_ne!(put.is_ok(), deleted.is_ok(), "{put:?} {deleted:?}");
        }
    }
}
