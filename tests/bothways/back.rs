//! docker-registry serves what Portcullis has written, docker-registry's collector keeps it whole,
//! and the two programs can take turns.

use std::{collections::BTreeSet, sync::LazyLock};

use bytes::Bytes;
use reqwest::Method;
use serde_json::json;

use crate::{
    api::Api,
    content::{Author, DOCKER, OCI, descriptor, digest, digest512, layer, named},
    ledger::Ledger,
    place::{Place, is_registry_3, registry2_is_there},
};

/// An upload in several chunks, long enough for the state of its hasher to be saved.
const LARGE: usize = 9 << 20;

/// Pushes content that docker-registry would refuse, but can serve.
async fn more(author: &mut Author<'_>) {
    let subject = author.image("ref/erred", &["subject"], OCI, "subject").await;
    author.referrer("ref/erred", &subject, "first").await;
    let mut bare = author.parts("ref/erred", OCI, "bare").await;
    bare.as_object_mut().unwrap().remove("mediaType");
    author.manifest("ref/erred", &["bare"], OCI.image, &bare).await;
    // An index that has a subject, and no type of its own.
    let index = json!({ "schemaVersion": 2, "manifests": [subject], "subject": subject });
    author.manifest("ref/erred", &["index"], OCI.list, &index).await;

    // Named by SHA-512, the layer and the manifest.
    let bytes = layer("sha512");
    author.api.push("five-one-two", &bytes, &digest512(&bytes)).await;
    author.ledger.blob("five-one-two", &digest512(&bytes), bytes.clone());
    let mut manifest = author.parts("five-one-two", OCI, "five-one-two").await;
    let mut layer = descriptor(OCI.layer, &bytes);
    layer["digest"] = json!(digest512(&bytes));
    manifest["layers"].as_array_mut().unwrap().push(layer);
    author.manifest("five-one-two", &["by256"], OCI.image, &manifest).await;
    let text = manifest.to_string();
    let by512 = digest512(&text);
    author.api.put("five-one-two", &format!("{by512}?tag=by512"), OCI.image, &text).await;
    author.ledger.manifest("five-one-two", &by512, OCI.image, text);
    author.ledger.tag("five-one-two", "by512", &by512);

    let bytes = large();
    let location = author.api.begin("large").await;
    let location = author.api.chunk(&location, 0, bytes.slice(..LARGE / 2)).await;
    let location = author.api.chunk(&location, LARGE / 2, bytes.slice(LARGE / 2..LARGE - 7)).await;
    author.api.close(&location, &digest(&bytes), bytes.slice(LARGE - 7..)).await;
    let mut manifest = author.parts("large", DOCKER, "large").await;
    manifest["layers"].as_array_mut().unwrap().push(descriptor(DOCKER.layer, &bytes));
    author.ledger.blob("large", &digest(&bytes), bytes);
    author.manifest("large", &["9M"], DOCKER.image, &manifest).await;
}

fn large() -> Bytes {
    static BYTES: LazyLock<Bytes> =
        LazyLock::new(|| (0..LARGE).map(|at| u8::try_from(at * at % 251).unwrap()).collect());
    BYTES.clone()
}

#[tokio::test]
async fn content_written_here_is_served_by_registry_2_and_survives_its_collector() {
    if !registry2_is_there("bothways: back") {
        return;
    }
    let place = Place::new("back");
    let mut ledger = Ledger::default();
    let (server, api) = place.portcullis();
    let mut author = Author { api: &api, ledger: &mut ledger };
    author.fill().await;
    more(&mut author).await;
    author.blob("blobs/only", "of no manifest").await;
    // Two unfinished uploads, one with a saved hasher.
    let begun = api.begin("team/app").await;
    let half = api.chunk(&api.begin("team/app").await, 0, large().slice(..LARGE - 1)).await;
    ledger.check(&api).await;
    assert_eq!(api.repositories().await, ledger.repositories());
    drop(server);
    place.verify_whole();

    let (registry, api) = place.registry2();
    ledger.check(&api).await;
    let mut catalog = api.repositories().await;
    // registry:2 lists them for ever, although they have no tag; registry:3 lists repositories that
    // have had a manifest.
    assert!(catalog.remove("emptied"), "{catalog:?}");
    assert_eq!(catalog.remove("blobs/only"), !is_registry_3(), "{catalog:?}");
    assert_eq!(catalog, ledger.repositories());
    assert!(api.tags("emptied").await.is_empty());
    // It knows no upload without a signature of its own; registry:3 does.
    for left in [&begun, &half] {
        api.get(left).await.expect(if is_registry_3() { 204 } else { 404 });
    }
    drop(registry);

    let said = place.collect(&[]);
    // The layers and configurations of two deleted images, and one blob of no image.
    assert_eq!(ledger.collect(), 5, "{said}");
    served_by_both(&place, &ledger).await;
    // It removes the bytes and leaves the links, which does no harm; registry:3 leaves the bytes of
    // repositories that never had a manifest.
    let links = if is_registry_3() { 1 } else { 5 };
    let verdict = place.verify(&[]);
    assert_eq!(verdict.code, Some(0), "{verdict:?}");
    assert_eq!(verdict.findings.lines().count(), links, "{verdict:?}");
    for line in verdict.findings.lines() {
        assert!(line.starts_with("note blob_missing ") && line.contains("/_layers/"), "{line}");
    }

    // --delete-untagged removes every manifest without a tag, the children of a list too. So all
    // but one get tags: the one that a tag has left.
    let (server, api) = place.portcullis();
    tag_all(&api, &mut ledger).await;
    drop(server);
    let said = place.collect(&["--delete-untagged"]);
    let [((name, before), ..)] = &ledger.untagged()[..] else { panic!("{said}") };
    ledger.lose_manifest(name, before);
    assert_eq!(ledger.collect(), 2, "{said}");
    served_by_both(&place, &ledger).await;
    assert_eq!(place.verify(&[]).code, Some(0));

    // The interrupted uploads can still be resumed.
    let (server, api) = place.portcullis();
    let (bytes, rest) = (large(), large().slice(LARGE - 1..));
    api.close(&half, &digest(&bytes), rest).await;
    ledger.blob("team/app", &digest(&bytes), bytes);
    api.send(Method::DELETE, &begun, &[], "").await.expect(204);
    ledger.check(&api).await;
    drop(server);
}

/// Both programs serve all of it, one after the other.
async fn served_by_both(place: &Place, ledger: &Ledger) {
    let (registry, api) = place.registry2();
    ledger.check(&api).await;
    drop(registry);
    let (server, api) = place.portcullis();
    ledger.check(&api).await;
    assert_eq!(api.repositories().await, ledger.repositories());
    drop(server);
}

/// Gives a tag to each manifest without one, except the manifest that the tag `moved` has left.
async fn tag_all(api: &Api, ledger: &mut Ledger) {
    let mut kept = 0;
    for ((name, digest), kind, text) in ledger.untagged() {
        if name == "team/app" {
            kept += 1;
            continue;
        }
        let tag = format!("keep-{}", &digest[7..19]);
        api.put(&name, &tag, kind, &text).await;
        ledger.tag(&name, &tag, &digest);
    }
    assert_eq!(kept, 1);
}

/// Portcullis accepts artifact manifests of OCI's release candidates. registry:2 does not know
/// them, and its collector stops before it removes anything.
#[tokio::test]
async fn registry_2_collects_nothing_as_long_as_there_is_an_artifact_that_it_cannot_read() {
    if !registry2_is_there("bothways: artifact") {
        return;
    }
    let place = Place::new("artifact");
    let mut ledger = Ledger::default();
    let (server, api) = place.portcullis();
    let mut author = Author { api: &api, ledger: &mut ledger };
    author.image("app", &["latest"], OCI, "app").await;
    author.blob("app", "of no manifest").await;
    let kind = "application/vnd.oci.artifact.manifest.v1+json";
    let artifact = json!({ "mediaType": kind, "artifactType": "a/b", "blobs": [] }).to_string();
    api.put("app", "artifact", kind, &artifact).await;
    drop(server);
    let (success, said) = place.try_to_collect(&[]);
    assert!(!success && said.contains(&digest(&artifact)), "{said}");

    let name = digest(&artifact);
    ledger.tag("app", "artifact", &name);
    ledger.manifest("app", &name, kind, artifact);
    let (server, api) = place.portcullis();
    ledger.check(&api).await;
    Author { api: &api, ledger: &mut ledger }.delete("app", &name).await;
    drop(server);
    place.collect(&[]);
    assert_eq!(ledger.collect(), 1);
    served_by_both(&place, &ledger).await;
}

#[tokio::test]
async fn both_collectors_say_the_same_and_ours_leaves_nothing_to_theirs() {
    if !registry2_is_there("bothways: collectors") || is_registry_3() {
        return;
    }
    let place = Place::new("collectors");
    let mut ledger = Ledger::default();
    let (registry, api) = place.registry2();
    let mut author = Author { api: &api, ledger: &mut ledger };
    author.fill().await;
    let gone = author.image("app", &["gone"], OCI, "gone").await;
    author.delete("app", named(&gone)).await;
    author.blob("app", "of no manifest").await;
    drop(registry);
    let lines = |said: &str| -> BTreeSet<String> {
        let is_ours = |line: &str| {
            line.contains(": layer link eligible for deletion: ")
                || line.ends_with(": empty repository deleted")
        };
        said.lines().filter(|line| !is_ours(line)).map(str::to_owned).collect()
    };
    let (theirs, here) = (place.collect(&["--dry-run"]), place.collect_here(&["--dry-run"]));
    assert_eq!(lines(&here), lines(&theirs));
    let here = place.collect_here(&[]);
    assert_eq!(lines(&here), lines(&theirs));
    // Besides the content of the ledger, the bytes of deleted manifests.
    assert!(ledger.collect() < here.matches("\nblob eligible for deletion: ").count(), "{here}");
    served_by_both(&place, &ledger).await;
    place.verify_whole();
    let theirs = place.collect(&["--dry-run"]);
    assert!(theirs.contains(" blobs marked, 0 blobs and 0 manifests eligible"), "{theirs}");
}

#[tokio::test]
async fn both_registries_take_turns_on_one_tree() {
    if !registry2_is_there("bothways: turns") {
        return;
    }
    let place = Place::new("turns");
    let mut ledger = Ledger::default();
    let (server, api) = place.portcullis();
    let mut author = Author { api: &api, ledger: &mut ledger };
    let subject = author.image("app", &["subject"], OCI, "subject").await;
    let mut referrers = vec![author.referrer("app", &subject, "first").await];
    assert_eq!(api.referrers("app", named(&subject)).await, referrers.iter().cloned().collect());
    drop(server);

    for round in 0..2 {
        let (registry, api) = place.registry2();
        turn(&api, &mut ledger, &format!("theirs-{round}")).await;
        let mut author = Author { api: &api, ledger: &mut ledger };
        referrers.push(author.referrer("app", &subject, &format!("theirs-{round}")).await);
        ledger.check(&api).await;
        drop(registry);

        let (server, api) = place.portcullis();
        ledger.check(&api).await;
        let expected = referrers.iter().cloned().collect();
        assert_eq!(api.referrers("app", named(&subject)).await, expected);
        turn(&api, &mut ledger, &format!("ours-{round}")).await;
        let mut author = Author { api: &api, ledger: &mut ledger };
        referrers.push(author.referrer("app", &subject, &format!("ours-{round}")).await);
        ledger.check(&api).await;
        assert_eq!(api.repositories().await, ledger.repositories());
        drop(server);
        place.verify_whole();
    }
}

/// Pushes, moves tags, and deletes content that the other program has pushed.
async fn turn(api: &Api, ledger: &mut Ledger, seed: &str) {
    let mut author = Author { api, ledger };
    if author.ledger.tags_of("app").contains("doomed") {
        let [theirs, ..] = author.ledger.parts_of("app", "doomed");
        author.delete("app", &theirs).await;
    }
    author.image("app", &["latest", seed], DOCKER, seed).await;
    author.list("app", &["list"], OCI, seed).await;
    author.image("app", &["doomed"], OCI, &format!("{seed}-doomed")).await;
}
