//! Read-only operation (`storage.maintenance.readonly`).

use portcullis::{app::Change, oci::ErrorCode};

use crate::support::{TestServer, content::OCI_MANIFEST, image};

#[tokio::test]
async fn registry_that_is_read_only_serves_and_takes_nothing() {
    let server = TestServer::start().await;
    let image = image(&server, "app", "latest").await;
    let location = server.open_upload("app").await;
    let target = location.strip_prefix(&server.base).unwrap().to_owned();
    let mut config = server.config().clone();
    config.storage.maintenance.readonly.enabled = true;
    server.app().apply(&config).await;
    server.get("/v2/app/manifests/latest").await.expect(200);
    server.get(&format!("/v2/app/blobs/{}", image.layer)).await.expect(200);
    server.get("/v2/app/tags/list").await.expect(200);
    server.get(&target).await.expect(204);
    let digest = &image.digest;
    for answer in [
        server.post("/v2/app/blobs/uploads/").await,
        server.post(&format!("/v2/app/blobs/uploads/?mount={}&from=app", image.layer)).await,
        server.patch(&target, None, "abcd").await,
        server.put(&format!("{target}?digest={digest}"), "").await,
        server.delete(&target).await,
        server.delete(&format!("/v2/app/blobs/{}", image.layer)).await,
        server.delete("/v2/app/manifests/latest").await,
        server.delete(&format!("/v2/app/manifests/{digest}")).await,
        server.push_manifest("app", "new", OCI_MANIFEST, image.manifest.clone()).await,
    ] {
        let answer = answer.expect_error(405, ErrorCode::Unsupported);
        assert!(answer.text().contains("read-only"), "{}", answer.text());
    }
    config.storage.maintenance.readonly.enabled = false;
    server.app().apply(&config).await;
    server.patch(&target, None, "abcd").await.expect(202);
}

#[tokio::test]
async fn registry_stays_read_only_while_its_storage_cannot_be_written() {
    let server = TestServer::with(|config| {
        config.storage.maintenance.readonly.enabled = true;
    })
    .await;
    let root = server.folder().join("data");
    // A file in place of the folder: not even root can write into it.
    let away = server.folder().join("away");
    std::fs::rename(&root, &away).unwrap();
    std::fs::write(&root, "").unwrap();
    let mut config = server.config().clone();
    config.storage.maintenance.readonly.enabled = false;
    let key = "storage.maintenance.readonly.enabled";
    assert_eq!(server.app().apply(&config).await.change(key), Change::Unusable);
    server.post("/v2/app/blobs/uploads/").await.expect_error(405, ErrorCode::Unsupported);

    std::fs::remove_file(&root).unwrap();
    std::fs::rename(&away, &root).unwrap();
    assert_eq!(server.app().apply(&config).await.change(key), Change::Applied);
    server.post("/v2/app/blobs/uploads/").await.expect(202);
}
