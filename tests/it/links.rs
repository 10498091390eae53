//! Symbolic links in the storage tree: those that lead out of it are not followed. The root may be
//! one, since an operator chose it.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use portcullis::storage;

use crate::support::{Answer, TestServer, files, image, server::contents};

/// A server whose tree has an image, and a folder outside of the tree with what is secret.
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

    /// Puts a link to something outside in the place of what is at a path in the tree, and starts
    /// the server anew, so that it remembers nothing.
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

/// Neither content of something outside, nor a success.
#[track_caller]
fn assert_hidden(answer: &Answer) {
    assert!(!answer.text().contains("root:x"), "{}", answer.text());
    assert!(!answer.status.is_success(), "{answer:?}");
}

#[tokio::test]
async fn a_root_that_is_a_link_is_the_root() {
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

/// A link that leads to itself, or to what is not there, is no reason to fail elsewhere.
#[tokio::test]
async fn a_link_that_leads_nowhere_disturbs_nobody() {
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
