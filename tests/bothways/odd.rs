//! Manifests that registry:2 accepts although no specification has them: keys in another case or
//! twice, null lists, indexes of blobs, digests by other algorithms. After a collection by
//! Portcullis both programs still have the blobs that they reference.

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha384};

use crate::{
    api::Api,
    content::{DOCKER, OCI, descriptor, digest, digest512, layer},
    place::{Place, registry2_is_there},
};

/// A repository with such a manifest, at the tag `t`.
struct Odd {
    name: String,
    kind: &'static str,
    text: String,
    /// The blobs that it references, by the digests in the manifest.
    blobs: Vec<(String, Bytes)>,
    /// The finding of `portcullis verify` about the manifest; empty without one.
    found: &'static str,
}

fn digest384(bytes: impl AsRef<[u8]>) -> String {
    let hash = Sha384::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha384:{hex}")
}

/// A descriptor by another digest.
fn named(digest: &str, bytes: &Bytes) -> Value {
    let mut descriptor = descriptor(OCI.layer, bytes);
    descriptor["digest"] = json!(digest);
    descriptor
}

/// A blob that no manifest references.
fn loose(name: &str) -> Bytes {
    layer(&format!("{name}-loose"))
}

/// Each kind of them, with blobs of its own.
fn all() -> Vec<Odd> {
    let part = |name: &str, part: &str| layer(&format!("{name}-{part}"));
    let parts = |name: &str| [part(name, "config"), part(name, "one"), part(name, "two")];
    let by_sha256 = |bytes: &[Bytes]| -> Vec<(String, Bytes)> {
        bytes.iter().map(|bytes| (digest(bytes), bytes.clone())).collect()
    };
    let odd = |name: &str, kind, text: String, blobs, found| Odd {
        name: format!("odd/{name}"),
        kind,
        text,
        blobs,
        found,
    };
    let [config, one, two] = parts("cased");
    let [c, a, b] = [&config, &one, &two].map(|bytes| descriptor(DOCKER.layer, bytes));
    let cased = format!(
        r#"{{"SchemaVersion":2,"MediaType":"{}","Config":{c},"Layers":[{a},{b}]}}"#,
        DOCKER.image
    );
    let cased =
        odd("cased", DOCKER.image, cased, by_sha256(&[config, one, two]), "note manifest_invalid");
    let [config, one, two] = parts("twice");
    let [c, a, b] = [&config, &one, &two].map(|bytes| descriptor(OCI.layer, bytes));
    let twice = format!(r#"{{"schemaVersion":2,"config":{c},"layers":[{a}],"Layers":[{b}]}}"#);
    let twice =
        odd("twice", OCI.image, twice, by_sha256(&[config, one, two]), "note manifest_invalid");
    let [config, one, two] = parts("cache");
    let children = [&config, &one, &two].map(|bytes| descriptor(OCI.layer, bytes));
    let cache = json!({ "schemaVersion": 2, "mediaType": OCI.list, "manifests": children });
    let cache = odd("cache", OCI.list, cache.to_string(), by_sha256(&[config, one, two]), "");
    let [config, ..] = parts("null");
    let mut sizeless = descriptor(DOCKER.layer, &config);
    sizeless.as_object_mut().unwrap().remove("size");
    let null = json!({
        "schemaVersion": 2, "mediaType": DOCKER.image, "config": sizeless, "layers": null,
        "annotations": null,
    });
    let null = odd("null", DOCKER.image, null.to_string(), by_sha256(&[config]), "");
    let none = json!({ "schemaVersion": 2, "mediaType": OCI.list, "manifests": null });
    let none = odd("none", OCI.list, none.to_string(), Vec::new(), "");
    let by_others = |name: &str, by: &dyn Fn(&Bytes) -> String, found| {
        let [config, one, two] = parts(name);
        let layers: Vec<(String, Bytes)> =
            [one, two].into_iter().map(|bytes| (by(&bytes), bytes)).collect();
        let image = json!({
            "schemaVersion": 2,
            "mediaType": OCI.image,
            "config": descriptor(OCI.layer, &config),
            "layers": layers.iter().map(|(digest, bytes)| named(digest, bytes)).collect::<Vec<_>>(),
        });
        let blobs = [by_sha256(&[config]), layers].concat();
        odd(name, OCI.image, image.to_string(), blobs, found)
    };
    let sha512 = by_others("sha512", &|bytes| digest512(bytes), "");
    let sha384 = by_others("sha384", &|bytes| digest384(bytes), "problem manifest_invalid");
    vec![cased, twice, cache, null, none, sha512, sha384]
}

/// Requests the manifest and everything that it references; where not all algorithms `are_known`,
/// as far as requests can name it.
async fn check(api: &Api, odd: &Odd, are_known: bool) {
    let Odd { name, kind, text, blobs, .. } = odd;
    for reference in ["t", digest(text).as_str()] {
        let answer = api.get(&format!("/v2/{name}/manifests/{reference}")).await.expect(200);
        assert_eq!(answer.body, text.as_bytes(), "{name}");
        assert_eq!(answer.header("content-type"), *kind, "{name}");
    }
    for (digest, bytes) in blobs {
        if are_known || !digest.starts_with("sha384:") {
            let answer = api.get(&format!("/v2/{name}/blobs/{digest}")).await.expect(200);
            assert_eq!(answer.body, *bytes, "{name}: {digest}");
        }
    }
}

/// A readable manifest: the blob that it does not reference is gone, and the blobs that it
/// references cannot be deleted.
async fn check_deletions(api: &Api, odd: &Odd) {
    let target = |digest: &str| format!("/v2/{}/blobs/{digest}", odd.name);
    let loose = target(&digest(loose(&odd.name)));
    api.get(&loose).await.expect(if odd.name == "odd/sha384" { 200 } else { 404 });
    let mut kept: Vec<String> = odd.blobs.iter().map(|(digest, _)| digest.clone()).collect();
    // registry:2 serves a blob with another digest through the link by its sha256.
    kept.extend(odd.blobs.iter().map(|(_, bytes)| digest(bytes)));
    for digest in kept.iter().filter(|digest| !digest.starts_with("sha384:")) {
        let answer = api.send(Method::DELETE, &target(digest), &[], "").await;
        answer.expect_error(409, "DENIED");
    }
}

#[tokio::test]
async fn odd_manifests_keep_what_they_name_through_a_collection_and_on_the_way_back() {
    if !registry2_is_there("bothways: odd") {
        return;
    }
    let place = Place::new("odd");
    let all = all();
    let (registry, api) = place.registry2();
    for Odd { name, kind, text, blobs, .. } in &all {
        for (digest, bytes) in blobs {
            api.push(name, bytes, digest).await;
        }
        let loose = loose(name);
        api.push(name, &loose, &digest(&loose)).await;
        api.put(name, "t", kind, text).await;
    }
    for odd in &all {
        check(&api, odd, true).await;
    }
    drop(registry);

    let verdict = place.verify(&[]);
    for Odd { name, text, found, .. } in &all {
        let link = format!("{name}/_manifests/revisions/sha256/{}/link", &digest(text)[7..]);
        let line = verdict.findings.lines().find(|line| line.contains(&link)).unwrap_or_default();
        assert!(line.starts_with(found) && line.is_empty() == found.is_empty(), "{verdict:?}");
    }
    assert_eq!(verdict.code, Some(1));
    for arguments in [&[][..], &["--delete-untagged"], &["--delete-untagged"]] {
        let said = place.collect_here(arguments);
        assert_eq!(said.matches("nothing is deleted here").count(), 1, "{said}");
        assert!(said.contains("odd/sha384: nothing is deleted here: the manifest"), "{said}");
    }
    let (server, api) = place.portcullis();
    for odd in &all {
        check(&api, odd, false).await;
        check_deletions(&api, odd).await;
    }
    drop(server);
    let (registry, api) = place.registry2();
    for odd in &all {
        check(&api, odd, true).await;
    }
    drop(registry);

    // An unreadable manifest can be deleted by its digest; the next collection removes the rest.
    let (server, api) = place.portcullis();
    let odd = all.iter().find(|odd| odd.name == "odd/sha384").unwrap();
    let target = format!("/v2/{}/manifests/{}", odd.name, digest(&odd.text));
    api.send(Method::DELETE, &target, &[], "").await.expect(202);
    drop(server);
    let said = place.collect_here(&[]);
    assert!(!said.contains("nothing is deleted here"), "{said}");
    let (server, api) = place.portcullis();
    for gone in [loose(&odd.name), odd.blobs[0].1.clone()] {
        api.get(&format!("/v2/{}/blobs/{}", odd.name, digest(gone))).await.expect(404);
    }
    for odd in all.iter().filter(|odd| odd.name != "odd/sha384") {
        check(&api, odd, false).await;
    }
    drop(server);
    assert_eq!(place.verify(&[]).code, Some(0));
}
