//! What other registries have taken and this one would not: what can be read of it stays with what it
//! names, and what cannot be read stays with all that its repository has.

use bytes::Bytes;
use serde_json::{Value, json};

use super::tests::{HOUR, Process, image, index, name, process};
use crate::{
    oci::{Algorithm, Digest, Reference},
    registry::{
        Caller, DeleteMode, Error,
        retention::{RetentionOptions, RetentionRule},
        tree::TreeKey,
    },
    storage::{Durability, Key, Storage as _, memory::Memory as Objects},
};

const APP: &str = "app";

async fn write(objects: &Objects, key: &Key, bytes: impl Into<Bytes>) {
    objects.put(key, bytes.into(), Durability::Lazy).await.unwrap();
}

/// Stores a manifest as another registry has it, at the tag `odd`.
async fn store(objects: &Objects, text: &str) -> Digest {
    let digest = Digest::of(Algorithm::Sha256, text.as_bytes());
    let (app, tag) = (name(APP), "odd".parse().unwrap());
    write(objects, &TreeKey::Data(&digest).key(), text.to_owned()).await;
    for place in [
        TreeKey::Revision(&app, &digest),
        TreeKey::TagIndex(&app, &tag, &digest),
        TreeKey::TagCurrent(&app, &tag),
    ] {
        write(objects, &place.key(), digest.to_string()).await;
    }
    digest
}

async fn has_link(objects: &Objects, digest: &Digest) -> bool {
    objects.size(&TreeKey::Layer(&name(APP), digest).key()).await.unwrap().is_some()
}

/// A digest of an algorithm that is not computed here.
fn sha384() -> String {
    format!("sha384:{}", "0".repeat(96))
}

/// Deletes all tags but the latest.
async fn retain(process: &Process) -> u64 {
    let rules = json!({ "rules": [{ "keeplatest": 1 }] });
    let options: RetentionOptions = serde_json::from_value(rules).unwrap();
    let rules: Vec<RetentionRule> = options.rules;
    let retained = process
        .registry
        .retention()
        .apply(&rules, false, |_| std::ops::ControlFlow::Continue(()))
        .await;
    retained.unwrap().deleted
}

#[tokio::test]
async fn nothing_goes_from_a_repository_with_a_manifest_that_cannot_be_read() {
    let named = |digest: &str| json!({ "mediaType": "x", "digest": digest, "size": 1 });
    let unknown = || named(&sha384());
    let config = Digest::of(Algorithm::Sha256, b"{}").to_string();
    let unreadable: [Value; 12] = [
        json!({ "schemaVersion": 2 }),
        json!({ "schemaVersion": 2, "mediaType": "application/vnd.example.future.v1+json" }),
        json!({ "schemaVersion": 1, "signatures": [] }),
        json!({ "payload": "e30", "signatures": [{}] }),
        json!({ "schemaVersion": 2, "config": unknown(), "layers": [] }),
        json!({ "schemaVersion": 2, "config": named(&config), "layers": [unknown()] }),
        json!({ "schemaVersion": 2, "Config": named(&config), "LAYERS": [unknown()] }),
        json!({ "schemaVersion": 2, "config": named(&config), "layers": [], "subject": unknown() }),
        json!({ "schemaVersion": 2, "manifests": [unknown()] }),
        json!({ "schemaVersion": 2, "manifests": [{ "mediaType": "x", "size": 1 }] }),
        json!({ "schemaVersion": 1, "fsLayers": [{ "blobSum": "tarsum.v1+sha256:00" }] }),
        json!({ "schemaVersion": 2, "layers": { "0": named(&config) } }),
    ];
    let texts = unreadable.iter().map(Value::to_string);
    for text in texts.chain(["not JSON".to_owned(), String::new()]) {
        let objects = Objects::default();
        let process = process(&objects, HOUR);
        let untagged = process.image(APP, None, b"untagged").await;
        let loose = process.blob(APP, b"loose").await;
        let odd = store(&objects, &text).await;
        objects.advance(10 * HOUR);
        process.image(APP, Some("last"), b"last").await;
        objects.advance(10 * HOUR);

        let (collected, notes) = process.collect(true).await;
        assert_eq!(collected.kept, 1, "{text}: {notes:?}");
        let gone = (collected.manifests, collected.links, collected.blobs, collected.emptied);
        assert_eq!(gone, (0, 0, 0, 0), "{text}: {notes:?}");
        assert!(notes.iter().any(|note| note.contains(&odd.to_string())), "{text}: {notes:?}");
        assert_eq!(retain(&process).await, 0, "{text}");
        let refused = process
            .registry
            .blobs()
            .delete(&Caller::default(), &name(APP), &loose, DeleteMode::IfUnreferenced)
            .await;
        assert!(matches!(refused, Err(Error::BlobMayBeNeeded(told)) if told == [odd.to_string()]));
        assert!(process.has(APP, "odd").await && process.has(APP, &untagged.to_string()).await);
        assert!(has_link(&objects, &loose).await, "{text}");

        // The client that deletes the manifest decides.
        assert!(
            process
                .registry
                .manifests()
                .delete(&Caller::default(), &name(APP), &odd)
                .await
                .unwrap()
        );
        let (collected, notes) = process.collect(true).await;
        assert_eq!((collected.kept, collected.manifests), (0, 1), "{text}: {notes:?}");
        assert!(!has_link(&objects, &loose).await, "{text}");
        assert!(process.has(APP, "last").await);
    }
}

#[tokio::test]
async fn content_that_an_odd_manifest_names_stays_and_the_rest_goes() {
    let named = |bytes: &[u8]| {
        let digest = Digest::of(Algorithm::Sha256, bytes);
        json!({ "mediaType": "x", "digest": digest, "size": 1 }).to_string()
    };
    let (config, one, two) = (named(b"{}"), named(b"one"), named(b"two"));
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    for text in [
        format!(
            r#"{{"SchemaVersion":2,"MediaType":"{docker}","Config":{config},"Layers":[{one},{two}]}}"#
        ),
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{one}],"Layers":[{two}]}}"#),
        format!(r#"{{"schemaVersion":2,"Layers":[{one}],"config":{config},"layers":[{two}]}}"#),
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{one},{two}],"layers":null}}"#),
        format!(r#"{{"config":{config},"layer\u017f":[{one},{two}]}}"#),
        format!(r#"{{"config":{config},"config":{one},"layers":null,"Config":{two}}}"#),
        // A build cache: an index of blobs.
        format!(r#"{{"schemaVersion":2,"manifests":[{config},{one},{two}]}}"#),
        format!(r#"{{"schemaVersion":2,"Manifests":[{config}],"manifests":[{one},{two}]}}"#),
        format!(
            r#"{{"schemaVersion":1,"fsLayers":[{}]}}"#,
            [&config, &one, &two].map(|named| named.replace("digest", "blobSum")).join(",")
        ),
    ] {
        let objects = Objects::default();
        let process = process(&objects, HOUR);
        let mut needed = Vec::new();
        for bytes in [&b"{}"[..], b"one", b"two"] {
            needed.push(process.blob(APP, bytes).await);
        }
        let loose = process.blob(APP, b"loose").await;
        store(&objects, &text).await;
        objects.advance(10 * HOUR);
        for untagged in [false, true] {
            let (collected, notes) = process.collect(untagged).await;
            assert_eq!((collected.kept, collected.manifests), (0, 0), "{text}: {notes:?}");
        }
        for digest in &needed {
            assert!(
                process.registry.blobs().open(&name(APP), digest).await.unwrap().is_some(),
                "{text}"
            );
            let refused = process
                .registry
                .blobs()
                .delete(&Caller::default(), &name(APP), digest, DeleteMode::IfUnreferenced)
                .await;
            assert!(matches!(refused, Err(Error::BlobNeeded(_))), "{text}: {refused:?}");
        }
        assert!(!has_link(&objects, &loose).await, "{text}");
        assert!(process.has(APP, "odd").await);
    }
}

#[tokio::test]
async fn list_of_nothing_is_read_and_needs_nothing() {
    let kind = "application/vnd.oci.image.index.v1+json";
    for nothing in [
        json!({ "schemaVersion": 2, "mediaType": kind }),
        json!({ "schemaVersion": 2, "mediaType": kind, "manifests": null }),
        json!({ "schemaVersion": 2, "manifests": null, "annotations": null }),
    ] {
        let objects = Objects::default();
        let process = process(&objects, HOUR);
        let loose = process.blob(APP, b"loose").await;
        store(&objects, &nothing.to_string()).await;
        objects.advance(10 * HOUR);
        let (collected, notes) = process.collect(true).await;
        assert_eq!((collected.kept, collected.links), (0, 1), "{nothing}: {notes:?}");
        assert!(!has_link(&objects, &loose).await && process.has(APP, "odd").await);
    }
}

/// A link by another digest to bytes that are kept by their sha256, as registry:2 has them.
async fn link_as(objects: &Objects, algorithm: &str, hex: &str, target: &Digest) -> Key {
    let key = TreeKey::Layers(&name(APP)).key().child(algorithm).child(hex).child("link");
    write(objects, &key, target.to_string()).await;
    key
}

#[tokio::test]
async fn link_by_sha256_stays_as_long_as_one_by_sha512_leads_to_it() {
    let objects = Objects::default();
    let process = process(&objects, HOUR);
    let (config, layer) = (process.blob(APP, b"{}").await, process.blob(APP, b"layer").await);
    let sha512 = Digest::of(Algorithm::Sha512, b"layer");
    let alias = link_as(&objects, "sha512", sha512.hex(), &layer).await;
    let manifest = store(&objects, &image(&config, &sha512).to_string()).await;
    for untagged in [false, true] {
        objects.advance(10 * HOUR);
        let (collected, notes) = process.collect(untagged).await;
        assert_eq!((collected.links, collected.blobs), (0, 0), "{notes:?}");
        assert!(has_link(&objects, &layer).await && has_link(&objects, &sha512).await);
    }
    assert!(
        process
            .registry
            .manifests()
            .delete(&Caller::default(), &name(APP), &manifest)
            .await
            .unwrap()
    );
    process.image(APP, Some("1"), b"another").await;
    let (collected, notes) = process.collect(false).await;
    assert_eq!((collected.links, collected.blobs), (2, 2), "{notes:?}");
    assert_eq!(objects.size(&alias).await.unwrap(), None);

    // Where it has gone, as earlier versions took it, the bytes stay all the same.
    process.blob(APP, b"layer").await;
    link_as(&objects, "sha512", sha512.hex(), &layer).await;
    store(&objects, &image(&config, &sha512).to_string()).await;
    objects.delete(&TreeKey::Layer(&name(APP), &layer).key()).await.unwrap();
    objects.advance(10 * HOUR);
    process.collect(false).await;
    assert!(process.registry.blobs().open(&name(APP), &sha512).await.unwrap().is_some());
}

#[tokio::test]
async fn links_by_unknown_algorithms_stay_with_what_they_lead_to() {
    let hex = "0".repeat(96);
    let objects = Objects::default();
    let process = process(&objects, HOUR);
    let layer = process.blob(APP, b"layer").await;
    let loose = process.blob(APP, b"loose").await;
    let alias = link_as(&objects, "sha384", &hex, &layer).await;
    // What registry:2 leaves of a link that was deleted, and a link to bytes that are not collected.
    let app = TreeKey::Layers(&name(APP)).key();
    let own = app.child("sha384").child(&"1".repeat(96)).child("link");
    write(&objects, &own, format!("sha384:{}", "1".repeat(96))).await;
    objects.advance(10 * HOUR);
    for untagged in [false, true] {
        let (collected, notes) = process.collect(untagged).await;
        assert_eq!((collected.kept, collected.emptied), (0, 0), "{notes:?}");
        assert!(has_link(&objects, &layer).await, "{notes:?}");
    }
    assert!(!has_link(&objects, &loose).await, "of what is known the rest goes");
    for key in [&alias, &own, &TreeKey::Data(&layer).key()] {
        assert!(objects.size(key).await.unwrap().is_some(), "{key}");
    }
}

#[tokio::test]
async fn of_a_repository_all_stays_while_a_link_by_an_unknown_algorithm_is_not_understood() {
    let sha512 = format!("_layers/sha512/{}/link", "0".repeat(128));
    for (path, content) in [
        ("_layers/sha384/00/link", "rubbish"),
        // One by a known algorithm, which is too young to go.
        (&sha512, "rubbish"),
        // Algorithms whose names have several parts.
        ("_layers/tarsum/v1/sha256/00/link", "sha256:00"),
        ("_manifests/revisions/sha384/00/link", "sha384:00"),
        ("_manifests/revisions/tarsum/v1/sha256/00/link", "tarsum.v1+sha256:00"),
    ] {
        let objects = Objects::default();
        let process = process(&objects, HOUR);
        process.image(APP, Some("1"), b"layer").await;
        let untagged = process.image(APP, None, b"untagged").await;
        let loose = process.blob(APP, b"loose").await;
        objects.advance(10 * HOUR);
        let key = crate::registry::tree::repositories().child(APP).child(path);
        write(&objects, &key, content).await;
        let (collected, notes) = process.collect(true).await;
        assert_eq!(collected.kept, 1, "{path}: {notes:?}");
        let gone = (collected.manifests, collected.links, collected.blobs);
        assert_eq!(gone, (0, 0, 0), "{path}: {notes:?}");
        assert!(has_link(&objects, &loose).await, "{path}");
        assert!(process.has(APP, &untagged.to_string()).await, "{path}");
        assert!(objects.size(&key).await.unwrap().is_some(), "{path}");
    }
}

#[tokio::test]
async fn index_of_blobs_is_taken_and_kept_whole() {
    let objects = Objects::default();
    let process = process(&objects, HOUR);
    let mut blobs = Vec::new();
    for bytes in [&b"layer"[..], b"another", b"cache"] {
        blobs.push(process.blob(APP, bytes).await);
    }
    let child = process.image(APP, None, b"of an image").await;
    let children: Vec<&Digest> = blobs.iter().chain([&child]).collect();
    process.try_put(APP, Some("cache"), index(&children)).await.unwrap();
    objects.advance(10 * HOUR);
    let (collected, notes) = process.collect(true).await;
    assert_eq!((collected.manifests, collected.links, collected.blobs), (0, 0, 0), "{notes:?}");
    for blob in &blobs {
        assert!(process.registry.blobs().open(&name(APP), blob).await.unwrap().is_some());
        let refused = process
            .registry
            .blobs()
            .delete(&Caller::default(), &name(APP), blob, DeleteMode::IfUnreferenced)
            .await;
        assert!(matches!(refused, Err(Error::BlobNeeded(_))));
    }
    let reference = Reference::Digest(child);
    assert!(process.registry.manifests().get(&name(APP), &reference).await.unwrap().is_some());
    // A blob of another repository does not belong to this one.
    let elsewhere = process.blob("elsewhere", b"elsewhere").await;
    let refused = process.try_put(APP, Some("cache"), index(&[&elsewhere])).await;
    assert!(matches!(refused, Err(Error::ManifestBlobUnknown(missing)) if missing == [elsewhere]));
}
