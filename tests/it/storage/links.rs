//! Symbolic links in the storage tree: links out of the tree are not followed. The root itself may
//! be a link, since an operator chose it.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use portcullis::storage;

use crate::support::{
    Answer, Answered as _, TestServer,
    content::{OCI_INDEX, closing, empty_index},
    digest, files, image,
    server::contents,
};

/// A server whose tree has an image, and a folder outside of the tree with secret files.
struct Linked {
    server: TestServer,
    outside: tempfile::TempDir,
    image: crate::support::Image,
}

const SECRET: &str = "root:x:0:0:root:/root:/bin/bash\n";

impl Linked {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let image = image(&server, "app", "latest").await;
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("passwd"), SECRET).unwrap();
        Self { server, outside, image }
    }

    /// Replaces a path in the tree by a link out of the tree, and restarts the server, so that its
    /// caches are empty.
    async fn link(self, at: &str, to: &str) -> Self {
        let (place, target) = (self.server.tree().join(at), self.outside.path().join(to));
        if place.is_dir() {
            fs::remove_dir_all(&place).unwrap();
        } else if place.exists() {
            fs::remove_file(&place).unwrap();
        }
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        symlink(target, place).unwrap();
        Self { server: self.server.restart().await, ..self }
    }

    fn secret_is_as_it_was(&self) {
        let found = contents(self.outside.path());
        assert_eq!(found.len(), 1, "something was written outside: {:?}", found.keys());
        assert_eq!(found["passwd"], SECRET.as_bytes());
    }
}

fn data(digest: &str) -> String {
    let hex = digest.strip_prefix("sha256:").unwrap();
    format!("blobs/sha256/{}/{hex}/data", &hex[..2])
}

/// Checks that a response has neither content from outside nor a success status.
#[track_caller]
fn assert_hidden(answer: &Answer) {
    assert!(!answer.text().contains("root:x"), "{}", answer.text());
    assert!(!answer.status.is_success(), "{answer:?}");
}

#[tokio::test]
async fn root_that_is_a_link_is_the_root() {
    let (folder, real) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let rootdirectory = folder.path().join("link");
    symlink(real.path(), &rootdirectory).unwrap();
    let server = TestServer::with(|config| {
        config.storage.backend =
            storage::Options::Filesystem(storage::filesystem::Options { rootdirectory });
    })
    .await;
    let image = image(&server, "app", "latest").await;
    let location = server.open_upload("app").await;
    server.patch(&location, None, "abcd").await.expect(202);
    let server = server.restart().await;
    let pulled = server.get("/v2/app/manifests/latest").await.expect(200);
    assert_eq!(pulled.text(), image.manifest);
    assert!(files(real.path()).iter().any(|file| file.ends_with(&data(&image.layer))));
    server.delete(&format!("/v2/app/manifests/{}", image.digest)).await.expect(202);
}

#[tokio::test]
async fn deleting_goes_up_to_a_link_and_not_beyond_it() {
    let linked = Linked::new().await;
    let location = linked.server.open_upload("app").await;
    let id = location.rsplit('/').next().unwrap().to_owned();
    let target = location.strip_prefix(&linked.server.base).unwrap().to_owned();
    let linked = linked.link(&format!("repositories/app/_uploads/{id}/inner"), "").await;
    linked.server.delete(&target).await.expect(204);
    linked.secret_is_as_it_was();
}

/// A link that leads to itself or nowhere causes no failure elsewhere.
#[tokio::test]
async fn link_that_leads_nowhere_disturbs_no_request() {
    let linked = Linked::new().await;
    let layer = linked.image.layer.clone();
    let linked = linked.link(&data(&layer), "missing").await;
    assert_hidden(&linked.server.get(&format!("/v2/app/blobs/{layer}")).await);
    let repositories: PathBuf = linked.server.tree().join("repositories");
    symlink(&repositories, repositories.join("loop")).unwrap();
    symlink("self", repositories.join("self")).unwrap();
    linked.server.get("/v2/_catalog").await.expect(200);
    linked.server.get("/v2/app/manifests/latest").await.expect(200);
    linked.secret_is_as_it_was();
}

/// The data of a blob leads out: its bytes must not be served.
#[tokio::test]
async fn blob_that_is_a_link_to_a_file_outside_is_not_served() {
    let linked = Linked::new().await;
    let layer = linked.image.layer.clone();
    let linked = linked.link(&data(&layer), "passwd").await;
    for _ in 0..2 {
        assert_hidden(&linked.server.get(&format!("/v2/app/blobs/{layer}")).await);
    }
    linked.secret_is_as_it_was();
}

/// The bytes of a manifest lead out: they must not be served.
#[tokio::test]
async fn manifest_that_is_a_link_to_a_file_outside_is_not_served() {
    let linked = Linked::new().await;
    let manifest = linked.image.digest.clone();
    let linked = linked.link(&data(&manifest), "passwd").await;
    for reference in ["latest", &manifest] {
        assert_hidden(&linked.server.get(&format!("/v2/app/manifests/{reference}")).await);
    }
    linked.secret_is_as_it_was();
}

/// The link file of a layer lies outside: it must not give access to a blob of another repository.
#[tokio::test]
async fn layer_whose_link_file_is_a_link_out_is_not_there() {
    let linked = Linked::new().await;
    let other = linked.server.push_blob("other", "of another").await;
    fs::write(linked.outside.path().join("link"), &other).unwrap();
    let hex = other.strip_prefix("sha256:").unwrap();
    let linked = linked.link(&format!("repositories/app/_layers/sha256/{hex}/link"), "link").await;
    assert_hidden(&linked.server.get(&format!("/v2/app/blobs/{other}")).await);
}

/// A repository leads out: nothing must be read there.
#[tokio::test]
async fn repository_that_is_a_link_out_is_not_read() {
    let linked = Linked::new().await;
    let from = linked.server.tree().join("repositories/app");
    let to = linked.outside.path().join("elsewhere");
    fs::rename(&from, &to).unwrap();
    let linked = linked.link("repositories/app", "elsewhere").await;
    let server = &linked.server;
    assert_hidden(&server.get("/v2/app/manifests/latest").await);
    assert_hidden(&server.get(&format!("/v2/app/blobs/{}", linked.image.layer)).await);
    assert!(!server.get("/v2/_catalog").await.expect(200).text().contains("app"));
}

/// A repository leads out: nothing must be written or deleted there.
#[tokio::test]
async fn repository_that_is_a_link_out_is_not_written_to() {
    let linked = Linked::new().await.link("repositories/app", "").await;
    let server = &linked.server;
    let target = format!("/v2/app/blobs/uploads/?digest={}", digest("abcd"));
    let pushed = server.request("POST", &target).body("abcd").answer().await;
    let opened = server.post("/v2/app/blobs/uploads/").await;
    let put = server.push_manifest("app", "x", OCI_INDEX, empty_index("x")).await;
    linked.secret_is_as_it_was();
    for answer in [pushed, opened, put] {
        assert!(!answer.status.is_success(), "{answer:?}");
    }
}

/// The same one folder above: `repositories/team` for `team/app`.
#[tokio::test]
async fn folder_of_repositories_that_is_a_link_out_is_not_written_to() {
    let linked = Linked::new().await.link("repositories/team", "").await;
    let put = linked.server.push_manifest("team/app", "x", OCI_INDEX, empty_index("x")).await;
    linked.secret_is_as_it_was();
    assert!(!put.status.is_success(), "{put:?}");
}

/// A session leads out: nothing must be written there, and it must not become a blob.
#[tokio::test]
async fn upload_that_is_a_link_out_is_not_written_to() {
    for file in ["", "/data"] {
        let linked = Linked::new().await;
        let location = linked.server.open_upload("app").await;
        let id = location.rsplit('/').next().unwrap().to_owned();
        let place = linked.server.tree().join(format!("repositories/app/_uploads/{id}"));
        let to = if file.is_empty() {
            // The session itself is whole; it lies outside.
            fs::rename(&place, linked.outside.path().join("session")).unwrap();
            fs::rename(
                linked.outside.path().join("passwd"),
                linked.outside.path().join("session/data"),
            )
            .unwrap();
            "session"
        } else {
            "passwd"
        };
        let target = location.strip_prefix(&linked.server.base).unwrap().to_owned();
        let linked = linked.link(&format!("repositories/app/_uploads/{id}{file}"), to).await;
        let patched = linked.server.patch(&target, None, "abcd").await;
        let joined = digest(format!("{SECRET}abcd"));
        let closed = linked.server.put(&closing(&target, &joined), "").await;
        let deleted = linked.server.delete(&target).await;
        assert!(file.is_empty() || deleted.status == 204, "{deleted:?}");
        let outside =
            linked.outside.path().join(if file.is_empty() { "session/data" } else { "passwd" });
        assert_eq!(fs::read_to_string(outside).unwrap(), SECRET, "written to, or gone");
        assert_hidden(&patched);
        assert_hidden(&closed);
        linked.server.get(&format!("/v2/app/blobs/{joined}")).await.expect(404);
    }
}

/// A session's data is a link to a missing file: the server must not create the file.
#[tokio::test]
async fn upload_whose_link_leads_nowhere_makes_nothing_outside() {
    let linked = Linked::new().await;
    let location = linked.server.open_upload("app").await;
    let id = location.rsplit('/').next().unwrap();
    let target = location.strip_prefix(&linked.server.base).unwrap().to_owned();
    let linked = linked.link(&format!("repositories/app/_uploads/{id}/data"), "new").await;
    let patched = linked.server.patch(&target, None, "abcd").await;
    linked.secret_is_as_it_was();
    assert_hidden(&patched);
}

/// The folder of all blobs of a prefix leads out: a push must not write there.
#[tokio::test]
async fn folder_of_blobs_that_is_a_link_out_is_not_written_to() {
    let linked = Linked::new().await;
    let digest = digest("abcd");
    let prefix = format!("blobs/sha256/{}", &digest["sha256:".len()..][..2]);
    let linked = linked.link(&prefix, "").await;
    let target = format!("/v2/app/blobs/uploads/?digest={digest}");
    let pushed = linked.server.request("POST", &target).body("abcd").answer().await;
    linked.secret_is_as_it_was();
    assert!(!pushed.status.is_success(), "{pushed:?}");
}

/// A tag leads out: it must neither be read, nor moved, nor deleted there.
#[tokio::test]
async fn tag_that_is_a_link_out_is_not_followed() {
    let linked = Linked::new().await;
    let manifest = linked.image.digest.clone();
    let tags = linked.server.tree().join("repositories/app/_manifests/tags/latest");
    let outside = linked.outside.path().join("tag");
    fs::rename(tags, &outside).unwrap();
    let before = contents(&outside);
    let linked = linked.link("repositories/app/_manifests/tags/latest", "tag").await;
    let server = &linked.server;
    let read = server.get("/v2/app/manifests/latest").await;
    let put = server.push_manifest("app", "latest", OCI_INDEX, empty_index("x")).await;
    server.delete("/v2/app/manifests/latest").await;
    server.delete(&format!("/v2/app/manifests/{manifest}")).await;
    assert_eq!(contents(&outside), before);
    assert_hidden(&read);
    assert!(!put.status.is_success(), "{put:?}");
}
