//! Manifests and tags: push, pull, refusal, deletion.

use portcullis::oci::ErrorCode;
use serde_json::{Value, json};

use crate::support::{
    Answer, Answered as _, Image, TestServer,
    content::{
        DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, descriptor, empty_index, trifle,
    },
    digest, digest512, files, image, image_with,
};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A manifest of blobs that have not been pushed.
fn manifest_of(config: &str, layers: &[&str]) -> Value {
    let layers: Vec<_> = layers.iter().map(|layer| descriptor(LAYER, layer)).collect();
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(CONFIG, config),
        "layers": layers,
    })
}

fn index_of(media_type: &str, children: &[(&str, &str)]) -> String {
    let children: Vec<_> =
        children.iter().map(|(media_type, child)| descriptor(media_type, child)).collect();
    json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": children }).to_string()
}

/// Asserts that GET and HEAD of this reference return the pushed manifest byte for byte.
async fn assert_manifest(server: &TestServer, target: &str, media_type: &str, manifest: &str) {
    let get = server.get(target).await.expect(200);
    assert_eq!(get.text(), manifest, "{target}");
    let head = server.head(target).await.expect(200);
    assert!(head.body.is_empty());
    for answer in [&get, &head] {
        assert_eq!(answer.header("content-type"), media_type);
        assert_eq!(answer.header("content-length"), manifest.len().to_string());
        let said = answer.header("docker-content-digest");
        let right = match said.starts_with("sha512:") {
            true => digest512(manifest),
            false => digest(manifest),
        };
        assert_eq!(said, right);
        assert_eq!(answer.header("etag"), format!("\"{said}\""));
    }
}

async fn assert_refused(server: &TestServer, media_type: &str, manifest: &str) {
    let answer = server.push_manifest("app", "refused", media_type, manifest).await;
    assert_eq!(answer.status, 400, "{media_type} {manifest}: {answer:?}");
    answer.expect_error(400, ErrorCode::ManifestInvalid);
    server.get("/v2/app/manifests/refused").await.expect(404);
}

/// The missing digests that a refusal names.
fn missing(answer: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    for error in answer.json()["errors"].as_array().unwrap() {
        assert_eq!(error["code"], "MANIFEST_BLOB_UNKNOWN", "{error}");
        let detail = error["detail"].to_string();
        let at = detail.find("sha").unwrap_or_else(|| panic!("no digest: {error}"));
        found.push(detail[at..].split('"').next().unwrap().to_owned());
    }
    found.sort();
    found
}

#[tokio::test]
async fn every_kind_of_manifest_is_returned_byte_for_byte() {
    let server = TestServer::start().await;
    let Image { manifest, layer, .. } = image(&server, "app", "oci").await;
    assert_manifest(&server, "/v2/app/manifests/oci", OCI_MANIFEST, &manifest).await;
    assert!(layer.starts_with("sha256:"));

    let mut docker: Value = serde_json::from_str(&manifest).unwrap();
    docker["mediaType"] = json!(DOCKER_MANIFEST);
    docker["config"]["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
    docker["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
    let docker = docker.to_string();
    let index = index_of(OCI_INDEX, &[(OCI_MANIFEST, &manifest)]);
    let list = index_of(DOCKER_LIST, &[(DOCKER_MANIFEST, &docker)]);
    let nested = index_of(OCI_INDEX, &[(OCI_INDEX, &index), (OCI_MANIFEST, &manifest)]);
    for (tag, media_type, body) in [
        ("docker", DOCKER_MANIFEST, docker),
        ("index", OCI_INDEX, index),
        ("list", DOCKER_LIST, list),
        ("nested", OCI_INDEX, nested),
    ] {
        let answer = server.push_manifest("app", tag, media_type, body.clone()).await;
        let answer = answer.expect(201);
        assert_eq!(answer.header("docker-content-digest"), digest(&body));
        assert_manifest(&server, answer.header("location"), media_type, &body).await;
        assert_manifest(&server, &format!("/v2/app/manifests/{tag}"), media_type, &body).await;
        let target = format!("/v2/app/manifests/{}", digest(&body));
        assert_manifest(&server, &target, media_type, &body).await;
    }
}

#[tokio::test]
async fn artifacts_are_manifests() {
    let server = TestServer::start().await;
    server.push_blob("app", "{}").await;
    let artifact = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.example.sbom.v1",
        "config": descriptor("application/vnd.oci.empty.v1+json", "{}"),
        "layers": [descriptor("application/vnd.oci.empty.v1+json", "{}")],
    })
    .to_string();
    let answer = server.push_manifest("app", "sbom", OCI_MANIFEST, artifact.clone()).await;
    answer.expect(201);
    assert_manifest(&server, "/v2/app/manifests/sbom", OCI_MANIFEST, &artifact).await;
}

#[tokio::test]
async fn manifest_needs_no_layers() {
    let server = TestServer::start().await;
    server.push_blob("app", "{}").await;
    let manifest = manifest_of("{}", &[]).to_string();
    let answer = server.push_manifest("app", "none", OCI_MANIFEST, manifest).await;
    answer.expect(201);
}

#[tokio::test]
async fn whitespace_and_order_are_kept() {
    let server = TestServer::start().await;
    let config = server.push_blob("app", "{}").await;
    let odd = format!(
        "\r\n{{ \"layers\":[ ],\t\"unknown\" : {{\"b\":1.0, \"a\":1e3}},\n\n \"annotations\":{{\"\\u0041\":\"\\/ \u{e9}\"}}, \
         \"config\":{{\"size\":2,\"digest\":\"{config}\",\"mediaType\":\"{CONFIG}\",\"data\":\"e30=\"}},\
         \"schemaVersion\" :2}} \n\n"
    );
    let answer = server.push_manifest("app", "odd", OCI_MANIFEST, odd.clone()).await;
    assert_eq!(answer.expect(201).header("docker-content-digest"), digest(&odd));
    assert_manifest(&server, "/v2/app/manifests/odd", OCI_MANIFEST, &odd).await;
    let server = server.restart().await;
    assert_manifest(&server, "/v2/app/manifests/odd", OCI_MANIFEST, &odd).await;
}

#[tokio::test]
async fn parameters_of_the_content_type_are_ignored() {
    let server = TestServer::start().await;
    for (tag, index) in [
        ("with", empty_index("1")),
        ("without", { json!({ "schemaVersion": 2, "manifests": [] }).to_string() }),
    ] {
        let media_type = format!("{OCI_INDEX}; charset=utf-8");
        let answer = server.push_manifest("app", tag, &media_type, index.clone()).await;
        answer.expect(201);
        assert_manifest(&server, &format!("/v2/app/manifests/{tag}"), OCI_INDEX, &index).await;
    }
}

#[tokio::test]
async fn digest_does_not_depend_on_the_accept_header() {
    let server = TestServer::start().await;
    let manifest = image(&server, "app", "one").await.manifest;
    let list = index_of(DOCKER_LIST, &[(OCI_MANIFEST, &manifest)]);
    let answer = server.push_manifest("app", "list", DOCKER_LIST, list.clone()).await;
    answer.expect(201);
    for accept in [None, Some("*/*"), Some(DOCKER_LIST), Some("application/*, */*;q=0.1")] {
        for (tag, body) in [("one", &manifest), ("list", &list)] {
            if tag == "one" && accept == Some(DOCKER_LIST) {
                continue;
            }
            let mut request = server.request("GET", &format!("/v2/app/manifests/{tag}"));
            if let Some(accept) = accept {
                request = request.header("accept", accept);
            }
            assert_eq!(&request.answer().await.expect(200).text(), body, "{accept:?}");
        }
    }
}

#[tokio::test]
async fn unchanged_manifest_is_not_sent_again() {
    let server = TestServer::start().await;
    let digest = trifle(&server, "app", "latest").await;
    let other = crate::support::digest("other");
    for reference in ["latest", &digest] {
        let target = format!("/v2/app/manifests/{reference}");
        for (tag, status) in [
            (format!("\"{digest}\""), 304),
            (format!("W/\"{digest}\""), 304),
            (digest.clone(), 304),
            (format!("\"{other}\", \"{digest}\""), 304),
            ("*".to_owned(), 304),
            (format!("\"{other}\""), 200),
        ] {
            for method in ["GET", "HEAD"] {
                let request = server.request(method, &target).header("if-none-match", &tag);
                let answer = request.answer().await.expect(status);
                assert_eq!(answer.header("etag"), format!("\"{digest}\""));
                assert!(status == 200 || answer.body.is_empty());
            }
        }
    }
    trifle(&server, "app", "moved").await;
    let moved = server
        .request("GET", "/v2/app/manifests/moved")
        .header("if-none-match", format!("\"{digest}\""));
    moved.answer().await.expect(200);
}

#[tokio::test]
async fn tag_moves_and_the_old_manifest_stays() {
    let server = TestServer::start().await;
    let (old, new) = (empty_index("old"), empty_index("new"));
    for body in [&old, &new] {
        let answer = server.push_manifest("app", "latest", OCI_INDEX, body.clone()).await;
        answer.expect(201);
        assert_manifest(&server, "/v2/app/manifests/latest", OCI_INDEX, body).await;
    }
    let target = format!("/v2/app/manifests/{}", digest(&old));
    assert_manifest(&server, &target, OCI_INDEX, &old).await;
    let server = server.restart().await;
    assert_manifest(&server, "/v2/app/manifests/latest", OCI_INDEX, &new).await;
    assert_manifest(&server, &target, OCI_INDEX, &old).await;
}

#[tokio::test]
async fn manifests_have_sha512_digests_too() {
    let server = TestServer::start().await;
    let body = empty_index("sha512");
    let by_digest = format!("/v2/app/manifests/{}", digest512(&body));
    let answer = server
        .request("PUT", &format!("{by_digest}?tag=one&tag=two"))
        .header("content-type", OCI_INDEX)
        .body(body.clone())
        .answer()
        .await
        .expect(201);
    assert_eq!(answer.header("docker-content-digest"), digest512(&body));
    let location = answer.header("location");
    for target in [&by_digest, "/v2/app/manifests/one", "/v2/app/manifests/two", location] {
        assert_manifest(&server, target, OCI_INDEX, &body).await;
    }
    let server = server.restart().await;
    assert_manifest(&server, "/v2/app/manifests/two", OCI_INDEX, &body).await;
    server.delete("/v2/app/manifests/two").await.expect(202);
    server.delete(&by_digest).await.expect(202);
    for target in [&by_digest, "/v2/app/manifests/one", "/v2/app/manifests/two"] {
        server.get(target).await.expect_error(404, ErrorCode::ManifestUnknown);
    }
}

#[tokio::test]
async fn image_of_sha512_blobs_is_an_image() {
    let server = TestServer::start().await;
    let (config, layer) = (digest512("{}"), digest512("layer"));
    for (digest, bytes) in [(&config, "{}"), (&layer, "layer")] {
        server
            .request("POST", &format!("/v2/app/blobs/uploads/?digest={digest}"))
            .body(bytes)
            .answer()
            .await
            .expect(201);
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": { "mediaType": CONFIG, "digest": config, "size": 2 },
        "layers": [{ "mediaType": LAYER, "digest": layer, "size": 5 }],
    })
    .to_string();
    let answer = server.push_manifest("app", "latest", OCI_MANIFEST, manifest.clone()).await;
    answer.expect(201);
    assert_manifest(&server, "/v2/app/manifests/latest", OCI_MANIFEST, &manifest).await;
    // An index may name its child by another algorithm than its tag does.
    let child = digest512(&manifest);
    let answer = server.push_manifest("app", &child, OCI_MANIFEST, manifest.clone()).await;
    answer.expect(201);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{ "mediaType": OCI_MANIFEST, "digest": child, "size": manifest.len() }],
    });
    let answer = server.push_manifest("app", "index", OCI_INDEX, index.to_string()).await;
    answer.expect(201);
}

#[tokio::test]
async fn several_tags_are_set_by_one_put() {
    let server = TestServer::start().await;
    let body = empty_index("tags");
    let tags: Vec<_> = (0..12).map(|number| format!("v{number}")).collect();
    let query = tags.join("&tag=");
    let target = format!("/v2/app/manifests/{}?tag={query}", digest(&body));
    let answer = server
        .request("PUT", &target)
        .header("content-type", OCI_INDEX)
        .body(body.clone())
        .answer()
        .await
        .expect(201);
    let mut acknowledged: Vec<String> = Vec::new();
    for value in answer.headers.get_all("oci-tag") {
        let value = value.to_str().unwrap();
        acknowledged.extend(value.split(',').map(|tag| tag.trim().to_owned()));
    }
    acknowledged.sort();
    let mut expected = tags.clone();
    expected.sort();
    assert_eq!(acknowledged, expected);
    for tag in tags {
        assert_manifest(&server, &format!("/v2/app/manifests/{tag}"), OCI_INDEX, &body).await;
    }
}

#[tokio::test]
async fn bad_tag_among_several_is_not_set() {
    let server = TestServer::start().await;
    let body = empty_index("tags");
    for bad in [".bad", "-bad", "a%2Fb", "..", "%00", &"x".repeat(129)] {
        let target = format!("/v2/app/manifests/{}?tag=good&tag={bad}", digest(&body));
        let request = server.request("PUT", &target).header("content-type", OCI_INDEX);
        let answer = request.body(body.clone()).answer().await;
        assert!(answer.status.is_client_error(), "{bad}: {answer:?}");
        server.get("/v2/app/manifests/good").await.expect(404);
    }
}

#[tokio::test]
async fn manifest_at_the_wrong_digest_is_refused_and_leaves_nothing() {
    let server = TestServer::start().await;
    let body = empty_index("right");
    for wrong in [digest("wrong"), digest512("wrong")] {
        let target = format!("{wrong}?tag=latest");
        let answer = server.push_manifest("app", &target, OCI_INDEX, body.clone()).await;
        answer.expect_error(400, ErrorCode::DigestInvalid);
        server.get("/v2/app/manifests/latest").await.expect(404);
        for digest in [&wrong, &digest(&body)] {
            server.get(&format!("/v2/app/manifests/{digest}")).await.expect(404);
        }
        let left = files(&server.tree());
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn every_missing_blob_is_named() {
    let server = TestServer::start().await;
    server.push_blob("app", "here").await;
    server.push_blob("elsewhere", "there").await;
    let manifest = manifest_of("config", &["here", "gone", "there"]).to_string();
    let answer = server.push_manifest("app", "latest", OCI_MANIFEST, manifest.clone()).await;
    let answer = answer.expect_error(400, ErrorCode::ManifestBlobUnknown);
    let mut expected = vec![digest("config"), digest("gone"), digest("there")];
    expected.sort();
    assert_eq!(missing(&answer), expected);
    server.get("/v2/app/manifests/latest").await.expect(404);
    let target = format!("/v2/app/manifests/{}", digest(&manifest));
    server.get(&target).await.expect(404);
}

#[tokio::test]
async fn every_missing_child_of_an_index_is_named() {
    let server = TestServer::start().await;
    let here = image(&server, "app", "here").await.manifest;
    let there = image(&server, "elsewhere", "there").await.manifest;
    for (parent, child) in [(OCI_INDEX, OCI_MANIFEST), (DOCKER_LIST, DOCKER_MANIFEST)] {
        let children = [(OCI_MANIFEST, here.as_str()), (child, "gone"), (child, &there)];
        let index = index_of(parent, &children);
        let answer = server.push_manifest("app", "index", parent, index).await;
        let answer = answer.expect_error(400, ErrorCode::ManifestBlobUnknown);
        let mut expected = vec![digest("gone"), digest(&there)];
        expected.sort();
        assert_eq!(missing(&answer), expected);
    }
}

#[tokio::test]
async fn deleted_blob_is_missing() {
    let server = TestServer::start().await;
    let config = server.push_blob("app", "{}").await;
    server.delete(&format!("/v2/app/blobs/{config}")).await.expect(202);
    let manifest = manifest_of("{}", &[]).to_string();
    let answer = server.push_manifest("app", "latest", OCI_MANIFEST, manifest).await;
    let answer = answer.expect_error(400, ErrorCode::ManifestBlobUnknown);
    assert_eq!(missing(&answer), [config]);
}

#[tokio::test]
async fn foreign_layers_by_url_need_not_be_stored() {
    let server = TestServer::start().await;
    server.push_blob("app", "{}").await;
    for (tag, manifest_type, layer_type) in [
        ("docker", DOCKER_MANIFEST, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
        ("oci", OCI_MANIFEST, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
    ] {
        let mut manifest = manifest_of("{}", &[]);
        manifest["mediaType"] = json!(manifest_type);
        manifest["layers"] = json!([descriptor(layer_type, "far away")]);
        manifest["layers"][0]["urls"] = json!(["https://far.example/layer"]);
        let answer = server.push_manifest("app", tag, manifest_type, manifest.to_string()).await;
        answer.expect(201);
    }
}

#[tokio::test]
async fn subject_is_acknowledged_whether_it_exists_or_not() {
    let server = TestServer::start().await;
    let subject = image(&server, "app", "subject").await;
    for (tag, subject) in [
        ("present", descriptor(OCI_MANIFEST, &subject.manifest)),
        ("missing", descriptor(OCI_MANIFEST, "not pushed yet")),
    ] {
        let digest = subject["digest"].as_str().unwrap().to_owned();
        let referrer = image_with(&server, "app", tag, json!({ "subject": subject })).await;
        let answer = server.push_manifest("app", tag, OCI_MANIFEST, referrer.manifest).await;
        assert_eq!(answer.expect(201).header("oci-subject"), digest);
        let mut index: Value = serde_json::from_str(&empty_index(tag)).unwrap();
        index["subject"] = subject;
        let answer = server.push_manifest("app", tag, OCI_INDEX, index.to_string()).await;
        assert_eq!(answer.expect(201).header("oci-subject"), digest);
    }
    let answer = server.push_manifest("app", "none", OCI_INDEX, empty_index("none")).await;
    assert!(!answer.expect(201).headers.contains_key("oci-subject"));
}

#[tokio::test]
async fn malformed_manifest_is_refused() {
    let server = TestServer::start().await;
    server.push_blob("app", "{}").await;
    let right = manifest_of("{}", &[]);
    let changed = |pointer: &str, value: Value| {
        let mut manifest = right.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        manifest.pointer_mut(parent).unwrap()[key] = value;
        manifest.to_string()
    };
    for body in [
        "",
        "nonsense",
        "{",
        "[]",
        "null",
        "\"text\"",
        "{}",
        "\u{feff}{}",
        &changed("/schemaVersion", json!(1)),
        &changed("/schemaVersion", json!("2")),
        &changed("/config", Value::Null),
        &changed("/config", json!([])),
        &changed("/config/digest", json!("nonsense")),
        &changed("/config/digest", json!("sha256:../../../x")),
        &changed("/config/size", json!(-1)),
        &changed("/config/size", json!("2")),
        &changed("/layers", json!({})),
        &changed("/layers", json!(["sha256:0"])),
        &changed("/subject", json!({ "digest": "nonsense" })),
        &format!("{right}x"),
        &"[".repeat(100_000),
        &format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000)),
    ] {
        let short: String = body.chars().take(100).collect();
        let answer = server.push_manifest("app", "refused", OCI_MANIFEST, body).await;
        assert_eq!(answer.status, 400, "{short}: {answer:?}");
        answer.expect_error(400, ErrorCode::ManifestInvalid);
    }
    server.get("/v2/app/manifests/refused").await.expect(404);
    let answer = server
        .request("PUT", "/v2/app/manifests/refused")
        .header("content-type", OCI_MANIFEST)
        .body(vec![b'{', b'"', 0xff, b'"', b':', b'1', b'}'])
        .answer()
        .await;
    answer.expect_error(400, ErrorCode::ManifestInvalid);
}

#[tokio::test]
async fn key_in_another_case_or_twice_is_refused_and_named() {
    let server = TestServer::start().await;
    server.push_blob("app", "{}").await;
    server.push_blob("app", "layer").await;
    let text = manifest_of("{}", &["layer"]).to_string();
    server.push_manifest("app", "right", OCI_MANIFEST, text.clone()).await.expect(201);
    let never = json!([descriptor(LAYER, "never pushed")]);
    for (from, to, key) in [
        ("{", format!(r#"{{"Layers":{never},"#), "Layers"),
        ("{", format!("{{\"layer\u{17f}\":{never},"), "layer\u{17f}"),
        ("\"layers\"", "\"LAYERS\"".to_owned(), "LAYERS"),
        ("{", r#"{"Manifests":[],"#.to_owned(), "Manifests"),
        ("{", format!(r#"{{"MediaType":"{OCI_INDEX}","#), "MediaType"),
        ("{", r#"{"SchemaVersion":1,"#.to_owned(), "SchemaVersion"),
        ("{", format!(r#"{{"Subject":{},"#, never[0]), "Subject"),
        ("\"digest\"", format!(r#""Digest":{},"digest""#, never[0]["digest"]), "Digest"),
        ("\"digest\"", r#""URLs":["https://evil.example/"],"digest""#.to_owned(), "URLs"),
        ("{", format!(r#"{{"layers":{never},"#), "layers"),
        ("{", r#"{"annotations":{"a":"b","a":"c"},"#.to_owned(), "a"),
        ("{", r#"{"x":1,"x":2,"#.to_owned(), "x"),
    ] {
        let body = text.replacen(from, &to, 1);
        assert_ne!(body, text);
        let answer = server.push_manifest("app", "refused", OCI_MANIFEST, body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert!(answer.text().contains(&format!("`{key}`")), "{key}: {}", answer.text());
        answer.expect_error(400, ErrorCode::ManifestInvalid);
    }
    server.get("/v2/app/manifests/refused").await.expect(404);
}

#[tokio::test]
async fn lists_that_are_null_or_missing_are_empty() {
    let server = TestServer::start().await;
    server.push_blob("app", "{}").await;
    for (kind, is_image) in
        [(OCI_MANIFEST, true), (DOCKER_MANIFEST, true), (OCI_INDEX, false), (DOCKER_LIST, false)]
    {
        let list = if is_image { "layers" } else { "manifests" };
        let mut body = json!({ "schemaVersion": 2, "mediaType": kind, "annotations": null });
        if is_image {
            body["config"] = json!({ "digest": digest("{}"), "mediaType": CONFIG });
        }
        for body in [body.clone(), {
            body[list] = Value::Null;
            body
        }] {
            let body = body.to_string();
            server.push_manifest("app", "empty", kind, body.clone()).await.expect(201);
            assert_manifest(&server, "/v2/app/manifests/empty", kind, &body).await;
        }
    }
    let untyped = r#"{"schemaVersion":2,"mediaType":"","manifests":null}"#;
    server.push_manifest("app", "untyped", OCI_INDEX, untyped).await.expect(201);
    assert_manifest(&server, "/v2/app/manifests/untyped", OCI_INDEX, untyped).await;
}

#[tokio::test]
async fn index_may_list_blobs_of_its_repository() {
    let server = TestServer::start().await;
    server.push_blob("app", "cache").await;
    server.push_blob("app", "layer").await;
    server.push_blob("other", "elsewhere").await;
    let cache = "application/vnd.buildkit.cacheconfig.v0";
    for kind in [OCI_INDEX, DOCKER_LIST] {
        let index = index_of(kind, &[(LAYER, "layer"), (cache, "cache")]);
        server.push_manifest("app", "cache", kind, index.clone()).await.expect(201);
        assert_manifest(&server, "/v2/app/manifests/cache", kind, &index).await;
    }
    for (media_type, child) in [(LAYER, "absent"), (LAYER, "elsewhere")] {
        let index = index_of(OCI_INDEX, &[(LAYER, "layer"), (media_type, child)]);
        let answer = server.push_manifest("app", "lacking", OCI_INDEX, index).await;
        assert_eq!(missing(&answer), [digest(child)]);
    }
}

#[tokio::test]
async fn contradictory_media_type_is_refused() {
    let server = TestServer::start().await;
    let Image { manifest, .. } = image(&server, "app", "image").await;
    let index = index_of(OCI_INDEX, &[(OCI_MANIFEST, &manifest)]);
    for (media_type, body) in [
        (DOCKER_MANIFEST, &manifest),
        (OCI_INDEX, &manifest),
        (DOCKER_LIST, &index),
        (OCI_MANIFEST, &index),
        ("application/json", &manifest),
        ("text/plain", &manifest),
        ("application/octet-stream", &index),
    ] {
        assert_refused(&server, media_type, body).await;
    }
}

#[tokio::test]
async fn body_of_another_kind_is_refused_even_without_media_type() {
    let server = TestServer::start().await;
    let Image { manifest, .. } = image(&server, "app", "image").await;
    let index = index_of(OCI_INDEX, &[(OCI_MANIFEST, &manifest)]);
    let bare = |body: &str| {
        let mut body: Value = serde_json::from_str(body).unwrap();
        body.as_object_mut().unwrap().remove("mediaType");
        body.to_string()
    };
    assert_refused(&server, OCI_MANIFEST, &bare(&index)).await;
    assert_refused(&server, OCI_INDEX, &bare(&manifest)).await;
    assert_refused(&server, DOCKER_LIST, &bare(&manifest)).await;
}

#[tokio::test]
async fn schema_1_manifest_is_refused() {
    let server = TestServer::start().await;
    let old =
        json!({ "schemaVersion": 1, "name": "app", "tag": "old", "fsLayers": [] }).to_string();
    for media_type in [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws; charset=utf-8",
        "application/json",
        OCI_MANIFEST,
    ] {
        assert_refused(&server, media_type, &old).await;
        let answer = server.push_manifest("app", "refused", media_type, old.as_str()).await;
        let detail = answer.json()["errors"][0]["detail"].to_string();
        assert!(detail.contains("schema 1 manifests are no longer accepted"), "{detail}");
        assert!(detail.contains("push the image again with a current client"), "{detail}");
    }
}

#[tokio::test]
async fn unknown_manifest_is_unknown() {
    let server = TestServer::start().await;
    trifle(&server, "app", "latest").await;
    for reference in ["other", &digest("other"), &digest512("other")] {
        let target = format!("/v2/app/manifests/{reference}");
        let unknown = ErrorCode::ManifestUnknown;
        server.get(&target).await.expect_error(404, unknown);
        assert!(server.head(&target).await.expect(404).body.is_empty());
        server.delete(&target).await.expect_error(404, unknown);
        let nowhere = format!("/v2/nowhere/manifests/{reference}");
        server.get(&nowhere).await.expect(404);
        server.head(&nowhere).await.expect(404);
        server.delete(&nowhere).await.expect(404);
    }
}

#[tokio::test]
async fn manifest_is_private_to_its_repository() {
    let server = TestServer::start().await;
    let digest = trifle(&server, "team/a", "latest").await;
    trifle(&server, "team/b", "other").await;
    for other in ["team/b", "team", "team/a/sub"] {
        for reference in ["latest", &digest] {
            let target = format!("/v2/{other}/manifests/{reference}");
            for method in ["GET", "HEAD", "DELETE"] {
                let answer = server.request(method, &target).answer().await;
                assert_eq!(answer.status, 404, "{method} {target}");
            }
        }
    }
}

#[tokio::test]
async fn deleted_tag_leaves_the_manifest_and_its_other_tags() {
    let server = TestServer::start().await;
    let body = empty_index("body");
    for tag in ["one", "two"] {
        let answer = server.push_manifest("app", tag, OCI_INDEX, body.clone()).await;
        answer.expect(201);
    }
    server.delete("/v2/app/manifests/one").await.expect(202);
    let unknown = ErrorCode::ManifestUnknown;
    server.get("/v2/app/manifests/one").await.expect_error(404, unknown);
    server.delete("/v2/app/manifests/one").await.expect_error(404, unknown);
    assert_manifest(&server, "/v2/app/manifests/two", OCI_INDEX, &body).await;
    let by_digest = format!("/v2/app/manifests/{}", digest(&body));
    assert_manifest(&server, &by_digest, OCI_INDEX, &body).await;
    let server = server.restart().await;
    server.get("/v2/app/manifests/one").await.expect(404);
    server.delete("/v2/app/manifests/two").await.expect(202);
    assert_manifest(&server, &by_digest, OCI_INDEX, &body).await;
}

#[tokio::test]
async fn deleted_manifest_loses_its_tags() {
    let server = TestServer::start().await;
    let body = empty_index("body");
    for tag in ["one", "two"] {
        let answer = server.push_manifest("app", tag, OCI_INDEX, body.clone()).await;
        answer.expect(201);
    }
    let other = trifle(&server, "app", "other").await;
    // A tag that has moved to another manifest stays.
    let answer = server.push_manifest("app", "moved", OCI_INDEX, body.clone()).await;
    answer.expect(201);
    let moved = trifle(&server, "app", "moved").await;
    let by_digest = format!("/v2/app/manifests/{}", digest(&body));
    server.delete(&by_digest).await.expect(202);
    let unknown = ErrorCode::ManifestUnknown;
    for target in [&by_digest, "/v2/app/manifests/one", "/v2/app/manifests/two"] {
        server.get(target).await.expect_error(404, unknown);
        server.head(target).await.expect(404);
    }
    server.delete(&by_digest).await.expect_error(404, unknown);
    for (tag, digest) in [("other", other), ("moved", moved)] {
        let answer = server.get(&format!("/v2/app/manifests/{tag}")).await.expect(200);
        assert_eq!(answer.header("docker-content-digest"), digest);
    }
    let tags = server.get("/v2/app/tags/list").await.expect(200);
    assert_eq!(tags.json()["tags"], json!(["moved", "other"]));
    let answer = server.push_manifest("app", "one", OCI_INDEX, body.clone()).await;
    answer.expect(201);
    server.get("/v2/app/manifests/one").await.expect(200);
    server.get("/v2/app/manifests/two").await.expect(404);
}

#[tokio::test]
async fn deleted_manifest_leaves_its_blobs_and_other_repositories() {
    let server = TestServer::start().await;
    let image = image(&server, "app", "latest").await;
    trifle(&server, "app", "stays").await;
    let body = empty_index("shared");
    for name in ["app", "other"] {
        let answer = server.push_manifest(name, "shared", OCI_INDEX, body.clone()).await;
        answer.expect(201);
    }
    let shared = digest(&body);
    for digest in [&image.digest, &shared] {
        server.delete(&format!("/v2/app/manifests/{digest}")).await.expect(202);
    }
    for blob in [&image.layer, &image.config] {
        server.get(&format!("/v2/app/blobs/{blob}")).await.expect(200);
    }
    server.get("/v2/other/manifests/shared").await.expect(200);
}

#[tokio::test]
async fn manifests_and_tags_stay_with_deletion_disabled() {
    let server = TestServer::with(|config| config.storage.delete.enabled = false).await;
    let digest = trifle(&server, "app", "latest").await;
    for reference in ["latest", &digest] {
        let target = format!("/v2/app/manifests/{reference}");
        server.delete(&target).await.expect_error(405, ErrorCode::Unsupported);
        server.get(&target).await.expect(200);
    }
}

#[tokio::test]
async fn interrupted_manifest_is_not_stored() {
    let server = TestServer::start().await;
    let body = empty_index("whole");
    let head = format!(
        "PUT /v2/app/manifests/latest\r\ncontent-type: {OCI_INDEX}\r\ncontent-length: {}\r\n",
        body.len() + 10
    );
    server.break_off(&head, body.as_bytes()).await;
    server.get("/v2/app/manifests/latest").await.expect(404);
    let target = format!("/v2/app/manifests/{}", digest(&body));
    server.get(&target).await.expect(404);
}

#[tokio::test]
async fn concurrent_pushes_of_one_tag_leave_one_of_them() {
    let server = TestServer::start().await;
    let bodies: Vec<_> = (0..6).map(|number| empty_index(&number.to_string())).collect();
    let pushes =
        bodies.iter().map(|body| server.push_manifest("app", "latest", OCI_INDEX, body.clone()));
    for answer in futures_util::future::join_all(pushes).await {
        answer.expect(201);
    }
    let last = server.get("/v2/app/manifests/latest").await.expect(200).text();
    assert!(bodies.contains(&last));
    for body in &bodies {
        let target = format!("/v2/app/manifests/{}", digest(body));
        server.get(&target).await.expect(200);
    }
}

#[tokio::test]
async fn method_that_manifests_do_not_have_is_unsupported() {
    let server = TestServer::start().await;
    trifle(&server, "app", "latest").await;
    for method in ["POST", "PATCH"] {
        let answer = server.request(method, "/v2/app/manifests/latest").answer().await;
        answer.expect_error(405, ErrorCode::Unsupported);
    }
}

/// A repository may have the name of a part of a path.
#[tokio::test]
async fn repositories_may_have_the_names_of_endpoints() {
    let server = TestServer::start().await;
    for name in ["blobs", "manifests", "tags", "v2/tags/list", "a/blobs/uploads", "referrers/a"] {
        let image = image(&server, name, "list").await;
        let answer = server.get(&format!("/v2/{name}/manifests/list")).await.expect(200);
        assert_eq!(answer.text(), image.manifest, "{name}");
        server.get(&format!("/v2/{name}/blobs/{}", image.layer)).await.expect(200);
        let tags = server.get(&format!("/v2/{name}/tags/list")).await.expect(200);
        assert_eq!(tags.json(), json!({ "name": name, "tags": ["list"] }));
        server.get(&format!("/v2/{name}/referrers/{}", image.digest)).await.expect(200);
    }
}
