//! Referrers: the manifests that name a subject, pushed in any order, and after deletions.

use portcullis::oci::ErrorCode;
use serde_json::{Value, json};

use crate::support::{
    Answer, Image, TestServer,
    content::{OCI_INDEX, OCI_MANIFEST, descriptor, empty_index, trifle},
    digest, digest512, image, image_with,
};

const SBOM: &str = "application/vnd.example.sbom+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

async fn referrers(server: &TestServer, name: &str, query: &str) -> Answer {
    let answer = server.get(&format!("/v2/{name}/referrers/{query}")).await;
    let answer = answer.expect(200);
    assert_eq!(answer.header("content-type"), OCI_INDEX);
    let index = answer.json();
    assert_eq!(index["schemaVersion"], 2);
    assert_eq!(index["mediaType"], OCI_INDEX);
    answer
}

async fn listed(server: &TestServer, name: &str, query: &str) -> Vec<Value> {
    let index = referrers(server, name, query).await.json();
    index["manifests"].as_array().unwrap().clone()
}

async fn digests(server: &TestServer, name: &str, query: &str) -> Vec<String> {
    let descriptors = listed(server, name, query).await;
    let mut digests: Vec<_> =
        descriptors.iter().map(|one| one["digest"].as_str().unwrap().to_owned()).collect();
    digests.sort();
    digests
}

fn sorted<const N: usize>(digests: [&str; N]) -> Vec<String> {
    let mut digests = digests.map(str::to_owned).to_vec();
    digests.sort();
    digests
}

/// Pushes an image that refers to these bytes.
async fn referrer(server: &TestServer, tag: &str, subject: &str, mut fields: Value) -> Image {
    fields["subject"] = descriptor(OCI_MANIFEST, subject);
    image_with(server, "app", tag, fields).await
}

#[tokio::test]
async fn referrers_are_descriptors_with_type_and_annotations() {
    let server = TestServer::start().await;
    let subject = image(&server, "app", "latest").await;
    let annotations = json!({ "org.example.key": "w\u{e9}rt \"x\"", "empty": "" });
    let fields = json!({ "artifactType": SBOM, "annotations": annotations });
    let sbom = referrer(&server, "sbom", &subject.manifest, fields).await;
    let expected = json!([{
        "mediaType": OCI_MANIFEST,
        "digest": sbom.digest,
        "size": sbom.manifest.len(),
        "artifactType": SBOM,
        "annotations": annotations,
    }]);
    let index = referrers(&server, "app", &subject.digest).await.json();
    assert_eq!(index["manifests"], expected);
}

#[tokio::test]
async fn artifact_type_defaults_to_the_media_type_of_the_config() {
    let server = TestServer::start().await;
    let subject = image(&server, "app", "latest").await.manifest;
    referrer(&server, "none", &subject, json!({})).await;
    referrer(&server, "empty", &subject, json!({ "artifactType": "" })).await;
    let listed = listed(&server, "app", &digest(&subject)).await;
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|one| one["artifactType"] == CONFIG), "{listed:?}");
}

#[tokio::test]
async fn index_is_a_referrer_with_an_artifact_type_only_if_it_has_the_fields() {
    let server = TestServer::start().await;
    let subject = image(&server, "app", "latest").await.manifest;
    let mut index: Value = serde_json::from_str(&empty_index("refers")).unwrap();
    index["subject"] = descriptor(OCI_MANIFEST, &subject);
    let plain = index.to_string();
    index["artifactType"] = json!(SBOM);
    let typed = index.to_string();
    for (tag, body) in [("plain", &plain), ("typed", &typed)] {
        let answer = server.push_manifest("app", tag, OCI_INDEX, body.clone()).await;
        answer.expect(201);
    }
    let listed = listed(&server, "app", &digest(&subject)).await;
    assert_eq!(listed.len(), 2);
    for one in listed {
        assert_eq!(one["mediaType"], OCI_INDEX);
        assert_eq!(one["annotations"], json!({ "seed": "refers" }));
        if one["digest"] == digest(&typed) {
            assert_eq!(one["artifactType"], SBOM);
        } else {
            assert_eq!(one["digest"], digest(&plain));
            assert!(one.get("artifactType").is_none(), "{one}");
        }
    }
}

#[tokio::test]
async fn filter_is_applied_and_reported() {
    let server = TestServer::start().await;
    let subject = image(&server, "app", "latest").await.manifest;
    let sbom = referrer(&server, "sbom", &subject, json!({ "artifactType": SBOM })).await;
    let plain = referrer(&server, "plain", &subject, json!({})).await;
    let of = digest(&subject);
    let encoded = SBOM.replace('+', "%2B").replace('/', "%2F");
    for (artifact_type, expected) in [
        (encoded.as_str(), vec![sbom.digest.clone()]),
        (CONFIG.strip_suffix("+json").unwrap(), vec![]),
        (&CONFIG.replace('+', "%2B"), vec![plain.digest.clone()]),
        ("application/vnd.example.other", vec![]),
    ] {
        let query = format!("{of}?artifactType={artifact_type}");
        let answer = referrers(&server, "app", &query).await;
        assert_eq!(answer.header("oci-filters-applied"), "artifactType");
        assert_eq!(digests(&server, "app", &query).await, expected, "{artifact_type}");
    }
    let answer = referrers(&server, "app", &of).await;
    assert!(!answer.headers.contains_key("oci-filters-applied"));
    assert_eq!(digests(&server, "app", &of).await, sorted([&sbom.digest, &plain.digest]));
}

#[tokio::test]
async fn referrer_may_come_before_its_subject() {
    let server = TestServer::start().await;
    let subject = empty_index("later");
    let of = digest(&subject);
    let early = referrer(&server, "early", &subject, json!({})).await;
    assert_eq!(digests(&server, "app", &of).await, [early.digest.as_str()]);
    let answer = server.push_manifest("app", "later", OCI_INDEX, subject).await;
    answer.expect(201);
    assert_eq!(digests(&server, "app", &of).await, [early.digest.as_str()]);
}

#[tokio::test]
async fn manifest_without_referrers_has_an_empty_index() {
    let server = TestServer::start().await;
    let image = image(&server, "app", "latest").await;
    for (name, digest) in [
        ("app", image.digest.clone()),
        ("app", digest("unknown")),
        ("app", digest512("unknown")),
        ("nowhere", digest("unknown")),
    ] {
        assert!(listed(&server, name, &digest).await.is_empty());
    }
    let query = format!("{}?artifactType=x", digest("unknown"));
    let answer = referrers(&server, "app", &query).await;
    assert_eq!(answer.json()["manifests"], json!([]));
}

#[tokio::test]
async fn malformed_digest_is_refused() {
    let server = TestServer::start().await;
    trifle(&server, "app", "latest").await;
    for bad in ["latest", "sha256:abc", "sha256", "nonsense:0", &format!("md5:{}", "0".repeat(32))]
    {
        let answer = server.get(&format!("/v2/app/referrers/{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
        answer.expect_error(400, ErrorCode::DigestInvalid);
    }
}

#[tokio::test]
async fn deleted_referrer_is_not_listed() {
    let server = TestServer::start().await;
    let subject = image(&server, "app", "latest").await.manifest;
    let of = digest(&subject);
    let gone = referrer(&server, "gone", &subject, json!({})).await;
    let stays = referrer(&server, "stays", &subject, json!({})).await;
    server.delete("/v2/app/manifests/gone").await.expect(202);
    assert_eq!(
        digests(&server, "app", &of).await,
        sorted([&gone.digest, &stays.digest]),
        "without its tag it still refers"
    );
    server.delete(&format!("/v2/app/manifests/{}", gone.digest)).await.expect(202);
    assert_eq!(digests(&server, "app", &of).await, [stays.digest.as_str()]);
    let server = server.restart().await;
    assert_eq!(digests(&server, "app", &of).await, [stays.digest.as_str()]);
    let again = server.push_manifest("app", "gone", OCI_MANIFEST, gone.manifest).await;
    again.expect(201);
    assert_eq!(digests(&server, "app", &of).await, sorted([&gone.digest, &stays.digest]));
}

#[tokio::test]
async fn referrer_outlives_its_subject() {
    let server = TestServer::start().await;
    let subject = image(&server, "app", "latest").await;
    let sbom = referrer(&server, "sbom", &subject.manifest, json!({})).await;
    server.delete(&format!("/v2/app/manifests/{}", subject.digest)).await.expect(202);
    assert_eq!(digests(&server, "app", &subject.digest).await, [sbom.digest.as_str()]);
}

#[tokio::test]
async fn referrer_pushed_twice_is_listed_once() {
    let server = TestServer::start().await;
    let subject = image(&server, "app", "latest").await;
    let sbom = referrer(&server, "sbom", &subject.manifest, json!({})).await;
    for reference in ["sbom", "other", &sbom.digest] {
        let manifest = sbom.manifest.clone();
        let answer = server.push_manifest("app", reference, OCI_MANIFEST, manifest).await;
        answer.expect(201);
    }
    assert_eq!(digests(&server, "app", &subject.digest).await, [sbom.digest.as_str()]);
}

#[tokio::test]
async fn referrers_are_private_to_their_repository() {
    let server = TestServer::start().await;
    let subject = image(&server, "app", "latest").await;
    trifle(&server, "other", "latest").await;
    referrer(&server, "sbom", &subject.manifest, json!({})).await;
    assert!(listed(&server, "other", &subject.digest).await.is_empty());
}

#[tokio::test]
async fn refused_referrer_is_not_listed() {
    let server = TestServer::start().await;
    let subject = image(&server, "app", "latest").await;
    let refused = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(CONFIG, "missing"),
        "layers": [],
        "subject": descriptor(OCI_MANIFEST, &subject.manifest),
    });
    let answer = server.push_manifest("app", "x", OCI_MANIFEST, refused.to_string()).await;
    answer.expect_error(400, ErrorCode::ManifestBlobUnknown);
    let mut index: Value = serde_json::from_str(&empty_index("x")).unwrap();
    index["subject"] = descriptor(OCI_MANIFEST, &subject.manifest);
    let answer = server.push_manifest("app", &digest("y"), OCI_INDEX, index.to_string()).await;
    answer.expect_error(400, ErrorCode::DigestInvalid);
    assert!(listed(&server, "app", &subject.digest).await.is_empty());
}

#[tokio::test]
async fn sha512_referrers_of_sha512_subjects_are_listed() {
    let server = TestServer::start().await;
    let subject = empty_index("subject");
    let of = digest512(&subject);
    server.push_manifest("app", &of, OCI_INDEX, subject.clone()).await.expect(201);
    let mut index: Value = serde_json::from_str(&empty_index("refers")).unwrap();
    index["subject"] = json!({ "mediaType": OCI_INDEX, "digest": of, "size": subject.len() });
    let index = index.to_string();
    let by = digest512(&index);
    let answer = server.push_manifest("app", &by, OCI_INDEX, index.clone()).await;
    assert_eq!(answer.expect(201).header("oci-subject"), of);
    assert_eq!(digests(&server, "app", &of).await, [by.as_str()]);
    let server = server.restart().await;
    assert_eq!(digests(&server, "app", &of).await, [by.as_str()]);
    server.delete(&format!("/v2/app/manifests/{by}")).await.expect(202);
    assert!(listed(&server, "app", &of).await.is_empty());
}

#[tokio::test]
async fn many_referrers_are_all_listed() {
    let server = TestServer::start().await;
    let subject = image(&server, "app", "latest").await;
    let mut expected = Vec::new();
    for number in 0..40 {
        let mut index: Value = serde_json::from_str(&empty_index(&number.to_string())).unwrap();
        index["subject"] = descriptor(OCI_MANIFEST, &subject.manifest);
        let index = index.to_string();
        let by = digest(&index);
        server.push_manifest("app", &by, OCI_INDEX, index).await.expect(201);
        expected.push(by);
    }
    expected.sort();
    assert_eq!(digests(&server, "app", &subject.digest).await, expected);
}

/// registry:2 keeps no list of referrers: its tree has the manifests alone.
#[tokio::test]
async fn tree_that_registry_2_wrote_has_its_referrers() {
    let server = TestServer::start().await;
    let subject = image(&server, "app", "latest").await;
    let tagged =
        referrer(&server, "tagged", &subject.manifest, json!({ "artifactType": SBOM })).await;
    let early = referrer(&server, "early", "not here", json!({})).await;
    server.delete("/v2/app/manifests/early").await.expect(202);
    let ours = server.tree().join("repositories/app/_referrers");
    std::fs::remove_dir_all(&ours).unwrap();
    let server = server.restart().await;
    assert_eq!(digests(&server, "app", &subject.digest).await, [tagged.digest.as_str()]);
    let filtered = format!("{}?artifactType={}", subject.digest, SBOM.replace('+', "%2B"));
    assert_eq!(digests(&server, "app", &filtered).await, [tagged.digest.as_str()]);
    assert_eq!(digests(&server, "app", &digest("not here")).await, [early.digest.as_str()]);
    // Later referrers join the existing ones.
    let later = referrer(&server, "later", &subject.manifest, json!({})).await;
    assert_eq!(
        digests(&server, "app", &subject.digest).await,
        sorted([&tagged.digest, &later.digest])
    );
}

/// registry:2 may have run on the tree between two runs of ours.
#[tokio::test]
async fn manifests_pushed_by_registry_2_are_among_the_referrers() {
    let server = TestServer::start().await;
    let subject = image(&server, "app", "latest").await;
    let first = referrer(&server, "first", &subject.manifest, json!({})).await;
    let second = referrer(&server, "second", &subject.manifest, json!({})).await;
    let both = sorted([&first.digest, &second.digest]);
    assert_eq!(digests(&server, "app", &subject.digest).await, both);
    // As if registry:2 had pushed it, which makes no entries.
    let hex = |digest: &str| digest.strip_prefix("sha256:").unwrap().to_owned();
    let of = hex(&subject.digest);
    let entry = format!("repositories/app/_referrers/sha256/{of}/sha256/{}", hex(&second.digest));
    std::fs::remove_dir_all(server.tree().join(entry)).unwrap();
    let server = server.restart().await;
    assert_eq!(digests(&server, "app", &subject.digest).await, both);
}

/// The same when the first request after the start is a push.
#[tokio::test]
async fn push_to_a_tree_of_registry_2_does_not_hide_its_referrers() {
    let server = TestServer::start().await;
    let subject = image(&server, "app", "latest").await;
    let first = referrer(&server, "first", &subject.manifest, json!({})).await;
    let ours = server.tree().join("repositories/app/_referrers");
    std::fs::remove_dir_all(&ours).unwrap();
    let server = server.restart().await;
    let second = referrer(&server, "second", &subject.manifest, json!({})).await;
    let both = sorted([&first.digest, &second.digest]);
    assert_eq!(digests(&server, "app", &subject.digest).await, both);
    let server = server.restart().await;
    assert_eq!(digests(&server, "app", &subject.digest).await, both);
}
