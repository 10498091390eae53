//! Manifests of schema 1, as old registries have stored them: they are served, and new ones are
//! refused.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    api::Api,
    content::{Author, DOCKER, digest, layer},
    ledger::Ledger,
    place::{Place, is_registry_3, registry2_is_there},
};

const BARE: &str = "application/vnd.docker.distribution.manifest.v1+json";
const SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// The signed payload: since 2.1 registry:2 stores this, and its digest is that of the manifest.
fn payload(name: &str, tag: &str) -> String {
    let history = json!({
        "architecture": "amd64", "os": "linux", "id": "ab".repeat(32),
        "created": "2015-10-31T22:22:56.015925234Z", "config": {},
    });
    let payload = json!({
        "schemaVersion": 1,
        "name": name,
        "tag": tag,
        "architecture": "amd64",
        "fsLayers": [{ "blobSum": digest(layer("old")) }],
        "history": [{ "v1Compatibility": history.to_string() }],
    });
    format!("{payload:#}")
}

/// A signature, which neither program verifies here.
fn signature() -> Value {
    json!({
        "header": { "jwk": { "crv": "P-256", "kid": "A:B", "kty": "EC", "x": "eA", "y": "eQ" }, "alg": "ES256" },
        "signature": "c2lnbmF0dXJl",
        "protected": "eyJmb3JtYXRMZW5ndGgiOjF9",
    })
}

/// Puts a manifest into the tree in the form of an old registry, and gives its digest.
fn store(place: &Place, name: &str, tag: &str, text: &str) -> String {
    let digest = digest(text);
    let hex = &digest[7..];
    let manifests = format!("repositories/{name}/_manifests");
    place.write(&format!("blobs/sha256/{}/{hex}/data", &hex[..2]), text);
    place.write(&format!("{manifests}/revisions/sha256/{hex}/link"), &digest);
    place.write(&format!("{manifests}/tags/{tag}/index/sha256/{hex}/link"), &digest);
    place.write(&format!("{manifests}/tags/{tag}/current/link"), &digest);
    digest
}

/// Before 2.4 signatures were kept as blobs, with links beside that of the revision.
fn store_signature(place: &Place, name: &str, manifest: &str) {
    let text = signature().to_string();
    let digest = digest(&text);
    let (hex, of) = (&digest[7..], &manifest[7..]);
    place.write(&format!("blobs/sha256/{}/{hex}/data", &hex[..2]), text);
    let signatures = format!("repositories/{name}/_manifests/revisions/sha256/{of}/signatures");
    place.write(&format!("{signatures}/sha256/{hex}/link"), &digest);
}

async fn assert_served(api: &Api, name: &str, tag: &str, kind: &str, text: &str) {
    for reference in [tag, &digest(text)] {
        let target = format!("/v2/{name}/manifests/{reference}");
        for method in [Method::GET, Method::HEAD] {
            let answer = api.send(method.clone(), &target, &[], "").await.expect(200);
            assert_eq!(answer.header("content-type"), kind);
            assert_eq!(answer.header("docker-content-digest"), digest(text));
            assert!(method == Method::HEAD || answer.body == text);
        }
    }
}

#[tokio::test]
async fn schema_1_manifests_of_old_registries_are_served_and_new_ones_refused() {
    let place = Place::new("schema1");
    let mut ledger = Ledger::default();
    let (server, api) = place.portcullis();
    let mut author = Author { api: &api, ledger: &mut ledger };
    author.image("team/old", &["new"], DOCKER, "new").await;
    author.blob("team/old", layer("old")).await;
    drop(server);
    let bare = payload("team/old", "bare");
    let mut signed: Value = serde_json::from_str(&payload("team/old", "signed")).unwrap();
    signed["signatures"] = json!([signature()]);
    let signed = format!("{signed:#}");
    let stored = store(&place, "team/old", "bare", &bare);
    store_signature(&place, "team/old", &stored);
    store(&place, "team/old", "signed", &signed);

    let (server, api) = place.portcullis();
    assert_served(&api, "team/old", "bare", BARE, &bare).await;
    assert_served(&api, "team/old", "signed", SIGNED, &signed).await;
    let tags: Vec<String> = api.tags("team/old").await.into_iter().collect();
    assert_eq!(tags, ["bare", "new", "signed"]);
    for (kind, text) in [
        (BARE, &bare),
        (SIGNED, &signed),
        ("application/json", &signed),
        ("application/json", &bare),
        (DOCKER.image, &bare),
    ] {
        for reference in ["again", &stored] {
            let target = format!("/v2/team/old/manifests/{reference}");
            let headers = [("content-type", kind)];
            let answer = api.send(Method::PUT, &target, &headers, text.clone()).await;
            if answer.status == 400 && reference == stored && text == &signed {
                // The digest is checked first.
                answer.expect_error(400, "DIGEST_INVALID");
                continue;
            }
            let told = answer.expect_error(400, "MANIFEST_INVALID");
            assert!(told.contains("schema 1") && told.contains("push the image again"), "{told}");
        }
    }
    api.get("/v2/team/old/manifests/again").await.expect_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(api.tags("team/old").await.len(), 3);
    assert_eq!(place.metric("portcullis_storage_skipped_total").await, 0);
    drop(server);
    place.verify_whole();

    // registry:3 no longer supports schema 1, and answers with an error.
    if !registry2_is_there("bothways: schema 1 beside registry:2") || is_registry_3() {
        return;
    }
    // registry:2 signs it anew with a key of its own, so its bytes differ each time.
    let (registry, api) = place.registry2();
    let answer = api.get("/v2/team/old/manifests/bare").await.expect(200);
    assert_eq!(answer.header("docker-content-digest"), stored);
    assert_eq!(answer.header("content-type"), SIGNED);
    assert_eq!(answer.json()["fsLayers"], json!([{ "blobSum": digest(layer("old")) }]));
    drop(registry);
}
