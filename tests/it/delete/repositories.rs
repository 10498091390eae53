//! Deleting whole repositories: nothing is left of the deleted one, and others are untouched.

use std::{fs, path::PathBuf};

use portcullis::oci::ErrorCode;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    Answered as _, TestServer,
    content::{OCI_MANIFEST, closing, descriptor, trifle},
    digest, files, image, image_with, noise,
};

fn repositories(server: &TestServer) -> PathBuf {
    server.tree().join("repositories")
}

/// The entries directly below `repositories`: a deletion removes the folders too.
fn top(server: &TestServer) -> Vec<String> {
    let entries = fs::read_dir(repositories(server)).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn catalog(server: &TestServer) -> serde_json::Value {
    server.get("/v2/_catalog").await.expect(200).json()["repositories"].clone()
}

#[tokio::test]
async fn deleted_repository_is_in_no_list_and_has_no_folder() {
    let server = TestServer::start().await;
    for target in ["/v2/team/app/", "/v2/team/app"] {
        let pushed = image(&server, "team/app", "latest").await;
        let subject = json!({ "subject": descriptor(OCI_MANIFEST, &pushed.manifest) });
        let referrer = image_with(&server, "team/app", "signature", subject).await;
        let referrers = format!("/v2/team/app/referrers/{}", pushed.digest);
        let listed = server.get(&referrers).await.expect(200).json();
        assert_eq!(listed["manifests"][0]["digest"], referrer.digest);
        let upload = server.open_upload("team/app").await;
        server.patch(&upload, None, "some").await.expect(202);

        let answer = server.delete(target).await.expect(202);
        assert!(answer.body.is_empty());
        assert_eq!(catalog(&server).await, json!([]));
        assert_eq!(top(&server), [""; 0]);
        server.get("/v2/team/app/tags/list").await.expect_error(404, ErrorCode::NameUnknown);
        for reference in ["latest", &pushed.digest, &referrer.digest] {
            let target = format!("/v2/team/app/manifests/{reference}");
            server.get(&target).await.expect_error(404, ErrorCode::ManifestUnknown);
        }
        for blob in [&pushed.config, &pushed.layer] {
            let target = format!("/v2/team/app/blobs/{blob}");
            server.get(&target).await.expect_error(404, ErrorCode::BlobUnknown);
        }
        assert_eq!(server.get(&referrers).await.expect(200).json()["manifests"], json!([]));
        server.get(&upload).await.expect_error(404, ErrorCode::BlobUploadUnknown);
        let late = server.patch(&upload, None, "more").await;
        late.expect_error(404, ErrorCode::BlobUploadUnknown);
        let late = server.put(&closing(&upload, &digest("some")), "").await;
        late.expect_error(404, ErrorCode::BlobUploadUnknown);
        assert_eq!(top(&server), [""; 0], "nothing has come back");
        let answer = server.delete(target).await.expect_error(404, ErrorCode::NameUnknown);
        assert_eq!(answer.json()["errors"][0]["detail"], json!({ "name": "team/app" }));
    }
    // A collection removes the bytes.
    assert_eq!(files(&server.tree().join("blobs")).len(), 6);
}

#[tokio::test]
async fn repositories_beside_and_within_a_deleted_one_stay() {
    let server = TestServer::start().await;
    let others = ["team/app/inner", "team/app-two", "team", "team/app/a/b"];
    for name in others {
        trifle(&server, name, "latest").await;
    }
    let pushed = image(&server, "team/app", "latest").await;
    let mount = format!("/v2/other/blobs/uploads/?mount={}&from=team/app", pushed.layer);
    server.post(&mount).await.expect(201);
    server.delete("/v2/team/app/").await.expect(202);
    for name in others {
        server.get(&format!("/v2/{name}/manifests/latest")).await.expect(200);
    }
    server.get(&format!("/v2/other/blobs/{}", pushed.layer)).await.expect(200);
    server.get("/v2/team/app/tags/list").await.expect(404);
    let mut left: Vec<_> = fs::read_dir(repositories(&server).join("team/app"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["a", "inner"]);
    // The deletion of the last one removes the folders above it.
    for name in others {
        server.delete(&format!("/v2/{name}/")).await.expect(202);
    }
    assert_eq!(top(&server), ["other"]);
}

#[tokio::test]
async fn repository_stays_with_deletion_disabled_or_read_only() {
    for readonly in [false, true] {
        let server = TestServer::with(|config| config.storage.delete.enabled = readonly).await;
        trifle(&server, "app", "latest").await;
        let mut config = server.config().clone();
        config.storage.maintenance.readonly.enabled = readonly;
        server.app().apply(&config).await;
        server.delete("/v2/app/").await.expect_error(405, ErrorCode::Unsupported);
        server.get("/v2/app/manifests/latest").await.expect(200);
        server.anonymous("DELETE", "/v2/app/").answer().await.expect(401);
    }
}

#[tokio::test]
async fn repository_without_content_is_unknown_and_one_with_an_upload_is_not() {
    let server = TestServer::start().await;
    server.delete("/v2/app/").await.expect_error(404, ErrorCode::NameUnknown);
    server.delete("/v2/App/").await.expect_error(400, ErrorCode::NameInvalid);
    server.open_upload("app").await;
    server.delete("/v2/app/").await.expect(202);
    server.delete("/v2/app/").await.expect_error(404, ErrorCode::NameUnknown);
    assert_eq!(top(&server), [""; 0]);
}

#[tokio::test]
async fn deleted_repository_can_be_pushed_again() {
    let server = TestServer::start().await;
    image(&server, "team/app", "latest").await;
    server.delete("/v2/team/app/").await.expect(202);
    let pushed = image(&server, "team/app", "latest").await;
    let pulled = server.get("/v2/team/app/manifests/latest").await.expect(200);
    assert_eq!(pulled.text(), pushed.manifest);
    let subject = json!({ "subject": descriptor(OCI_MANIFEST, &pushed.manifest) });
    let referrer = image_with(&server, "team/app", "signature", subject).await;
    let target = format!("/v2/team/app/referrers/{}", pushed.digest);
    let listed = server.get(&target).await.expect(200).json();
    assert_eq!(listed["manifests"][0]["digest"], referrer.digest);
    assert_eq!(catalog(&server).await, json!(["team/app"]));
}

/// The client learns it at once, not after it has sent everything.
#[tokio::test]
async fn chunk_in_flight_ends_with_its_repository() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    let path = location.strip_prefix(&server.base).unwrap();
    let head = format!("PATCH {path}\r\ncontent-length: 999999999\r\nconnection: close\r\n");
    let mut stream = server.begin(&head).await;
    stream.write_all(&noise(1, 3_000_000)).await.unwrap();
    let upload = repositories(&server).join("app/_uploads").join(path.rsplit('/').next().unwrap());
    while fs::metadata(upload.join("data")).map_or(0, |data| data.len()) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    server.delete("/v2/app/").await.expect(202);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.contains("BLOB_UPLOAD_UNKNOWN"), "{answer}");
    assert_eq!(top(&server), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_beside_deletions_end_well_and_bring_nothing_back() {
    let server = TestServer::start().await;
    let push = async |seed: u64| {
        for round in 0..12 {
            let bytes = noise(seed * 100 + round, 5 << 20);
            let location = server.open_upload("team/app").await;
            let answer = server.patch(&location, None, bytes.clone()).await;
            if answer.status == 202 {
                let answer = server.put(&closing(&location, &digest(&bytes)), "").await;
                assert!(matches!(answer.status.as_u16(), 201 | 404), "{answer:?}");
            } else {
                answer.expect_error(404, ErrorCode::BlobUploadUnknown);
            }
        }
    };
    let delete = async {
        for _ in 0..40 {
            let answer = server.delete("/v2/team/app/").await;
            assert!(matches!(answer.status.as_u16(), 202 | 404), "{answer:?}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::join!(push(1), push(2), push(3), delete);
    server.delete("/v2/team/app/").await;
    assert_eq!(top(&server), [""; 0]);
}
