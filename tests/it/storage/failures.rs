//! Storage that fails: the client gets a clean error, the server lives on, no half-written content
//! is visible.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use portcullis::{oci::ErrorCode, storage};
use testkit::skip::skip;

use crate::support::{
    Answered as _, TestServer,
    content::noise,
    digest, image,
    process::{Before, ROOM},
    server::files,
};

#[tokio::test]
async fn root_that_is_gone_is_an_error_until_it_is_back() {
    let server = TestServer::start().await;
    image(&server, "a", "latest").await;
    let (root, away) = (server.folder().join("data"), server.folder().join("away"));
    fs::rename(&root, &away).unwrap();
    let target = format!("/v2/a/blobs/uploads/?digest={}", digest(b"x"));
    let answer = server.request("POST", &target).body("x").send().await.unwrap();
    assert_eq!(answer.status(), 500);
    assert!(!root.exists(), "a root that is not there is not made: it may be a mount");
    fs::rename(&away, &root).unwrap();
    server.push_blob("a", "x").await;
    server.get("/v2/a/manifests/latest").await.expect(200);
}

#[tokio::test]
async fn internal_error_tells_the_client_its_number_and_nothing_else() {
    let server = TestServer::start().await;
    // A file in place of a folder: the system refuses even root.
    fs::create_dir_all(server.tree()).unwrap();
    fs::write(server.tree().join("blobs"), b"").unwrap();
    let bytes = b"x";
    let target = format!("/v2/a/blobs/uploads/?digest={}", digest(bytes));
    let answer = server.request("POST", &target).body(&bytes[..]);
    let answer = answer.answer().await;
    let answer = answer.expect_error(500, ErrorCode::Unknown);
    let error = &answer.json()["errors"][0];
    assert_eq!(error["message"], "internal error");
    assert_eq!(error["detail"]["request"], answer.header("x-request-id"));
    assert!(!answer.text().contains("directory"), "{}", answer.text());
    server.get("/v2/").await.expect(200);
}

/// More requests fail than the disk could hold if each left its body behind.
#[tokio::test]
async fn storage_that_fails_leaves_neither_memory_nor_descriptors_behind() {
    const TIMES: usize = 600;
    let before = Before::start().await;
    let server = &before.server;
    let (layer, manifest) = (
        noise(1, 256 << 10),
        format!(
            r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"a":"{}"}}}}"#,
            "x".repeat(64 << 10)
        ),
    );
    assert!((TIMES * (layer.len() + manifest.len())) >> 20 > ROOM);
    let push = format!("/v2/a/blobs/uploads/?digest={}", digest(&layer));
    // The folder of blobs is a link to itself, so that an upload fails at its very end.
    fs::create_dir_all(server.tree()).unwrap();
    let blobs = server.tree().join("blobs");
    symlink("blobs", &blobs).unwrap();
    for _ in 0..TIMES {
        server.request("POST", &push).body(layer.clone()).answer().await.expect(500);
        let put = server
            .request("PUT", "/v2/a/manifests/latest")
            .header("content-type", "application/vnd.oci.image.index.v1+json");
        put.body(manifest.clone()).answer().await.expect(500);
    }
    fs::remove_file(&blobs).unwrap();
    before.is_back().await;
    server.request("POST", &push).body(layer).answer().await.expect(201);
}

/// A file system of its own, of the given size, unmounted at the end.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    /// `None` if the machine cannot mount one.
    fn new(folder: &'a Path, size: &str) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder);
        mount.status().is_ok_and(|status| status.success()).then_some(Self(folder))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test]
async fn full_disk_is_507_and_leaves_nothing_half_written() {
    let outer = tempfile::tempdir().unwrap();
    let disk = outer.path().join("disk");
    let Some(_mounted) = Mounted::new(&disk, "4m") else {
        skip("full disk", "nothing can be mounted here", false);
        return;
    };
    let server = TestServer::with(|config| {
        let rootdirectory = disk.join("data");
        config.storage.backend =
            storage::Options::Filesystem(storage::filesystem::Options { rootdirectory });
    })
    .await;
    server.push_blob("a", "small").await;
    let before = files(&disk);

    let big = noise(1, 8 << 20);
    let target = format!("/v2/a/blobs/uploads/?digest={}", digest(&big));
    let answer = server.request("POST", &target).body(big.clone());
    let answer = answer.answer().await;
    answer.expect_error(507, ErrorCode::Unknown);
    assert_eq!(files(&disk), before);
    server.get(&format!("/v2/a/blobs/{}", digest(&big))).await.expect(404);
    server.push_blob("a", "small too").await;

    // An upload gives its bytes back at once, whether or not its length was known.
    let before = files(&disk);
    let pieces: Vec<_> =
        big.chunks(100_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let streamed = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    for body in [reqwest::Body::from(big), streamed] {
        let location = server.open_upload("a").await;
        let answer = server.request("PATCH", &location).body(body);
        let answer = answer.answer().await;
        answer.expect_error(507, ErrorCode::Unknown);
        server.get(&location).await.expect_error(404, ErrorCode::BlobUploadUnknown);
        assert_eq!(files(&disk), before);
    }
    server.push_blob("a", "and another").await;
}
