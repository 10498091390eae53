//! `portcullis rm` as a process: its deletions and its output, beside a server and without one.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use portcullis::oci::ErrorCode;

use crate::support::{
    TestServer,
    content::{OCI_INDEX, closing, empty_index, trifle},
    digest, image,
    server::{contents, files},
};

/// The result of the program.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Asserts a refusal with these words.
    #[track_caller]
    fn refused(self, code: i32, words: &[&str]) {
        let ended = self.expect(code);
        assert_eq!(ended.stdout, "");
        for words in words {
            assert!(ended.stderr.contains(words), "{words}: {ended:?}");
        }
    }
}

async fn run(variable: &str, value: impl AsRef<OsStr>, arguments: &[&str]) -> Ended {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.current_dir(elsewhere.path()).env_clear().env(variable, value);
    command.arg("rm").args(arguments);
    // The server beside it runs on this thread.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(files(elsewhere.path()), [""; 0], "it makes nothing where it runs");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

async fn rm(root: &Path, what: &str) -> Ended {
    run("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", root, &[what]).await
}

fn root(server: &TestServer) -> PathBuf {
    server.folder().join("data")
}

#[tokio::test]
async fn rm_deletes_beside_a_server_whose_deletion_is_disabled() {
    let server = TestServer::with(|config| config.storage.delete.enabled = false).await;
    let pushed = image(&server, "team/app", "1.0").await;
    let kept = trifle(&server, "team/app/inner", "latest").await;
    let index = empty_index("many");
    let many = digest(&index);
    let target = format!("/v2/team/app/manifests/{many}?tag=a&tag=b");
    let put = server.request("PUT", &target).header("content-type", OCI_INDEX).body(index);
    put.send().await.unwrap().error_for_status().unwrap();
    // The server may have cached the objects that it has read.
    server.get("/v2/team/app/manifests/1.0").await.expect(200);
    server.get("/v2/team/app/tags/list").await.expect(200);

    let ended = rm(&root(&server), "team/app:1.0").await.expect(0);
    assert_eq!(ended.stdout, "deleted tag team/app:1.0\n");
    // Without a configuration file garbage collection takes it in time.
    let stays = format!(
        "the manifest stays as team/app@{} until it has been neither tagged nor pulled for 30 days, or",
        pushed.digest
    );
    assert!(ended.stderr.contains(&stays), "{ended:?}");
    let config_and_layer = [r#"{"of":"team/app:1.0"}"#, "layer of team/app:1.0"];
    let bytes = pushed.manifest.len() + config_and_layer.concat().len();
    let held = format!("untagged manifests of team/app: 1, which hold at most {bytes} B\n");
    assert!(ended.stderr.contains(&held), "{ended:?}");
    server.get("/v2/team/app/manifests/1.0").await.expect(404);
    server.get(&format!("/v2/team/app/manifests/{}", pushed.digest)).await.expect(200);

    let what = format!("team/app@{many}");
    let ended = rm(&root(&server), &what).await.expect(0);
    let lines = "deleted tag team/app:a\ndeleted tag team/app:b\ndeleted manifest ";
    assert_eq!(ended.stdout, format!("{lines}{what}\n"));
    server.get("/v2/team/app/manifests/a").await.expect(404);
    server.get(&format!("/v2/team/app/manifests/{many}")).await.expect(404);

    let upload = server.open_upload("team/app").await;
    server.patch(&upload, None, "some").await.expect(202);
    let ended = rm(&root(&server), "team/app").await.expect(0);
    assert_eq!(ended.stdout, "deleted repository team/app\n");
    assert!(ended.stderr.contains("garbage collection"), "{ended:?}");
    let late = server.put(&closing(&upload, &digest("some")), "").await;
    late.expect_error(404, ErrorCode::BlobUploadUnknown);
    server.get("/v2/team/app/tags/list").await.expect_error(404, ErrorCode::NameUnknown);
    server.get(&format!("/v2/team/app/inner/manifests/{kept}")).await.expect(200);
    let folders = fs::read_dir(server.tree().join("repositories/team/app")).unwrap();
    assert_eq!(folders.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), ["inner"]);
    // The server goes on to serve the tree.
    image(&server, "team/app", "2.0").await;
    server.get("/v2/team/app/manifests/2.0").await.expect(200);
}

#[tokio::test]
async fn rm_without_a_server_finds_the_tree_by_the_configuration() {
    let server = TestServer::start().await;
    for name in ["a", "b"] {
        trifle(&server, name, "latest").await;
    }
    let folder = server.stop().await;
    let root = folder.path().join("data");
    let file = folder.path().join("config.yml");
    let yaml = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}, \
         maintenance: {{readonly: {{enabled: true}}}}}}\n",
        root.display()
    );
    fs::write(&file, yaml).unwrap();
    let ended = run("UNUSED", "", &["a", file.to_str().unwrap()]).await.expect(0);
    assert_eq!(ended.stdout, "deleted repository a\n");
    let ended = run("REGISTRY_CONFIGURATION_PATH", &file, &["b:latest"]).await.expect(0);
    assert_eq!(ended.stdout, "deleted tag b:latest\n");
    let repositories = root.join("docker/registry/v2/repositories");
    assert!(!repositories.join("a").exists());
}

#[tokio::test]
async fn exit_code_of_missing_content_is_1_and_existing_content_is_listed() {
    let server = TestServer::start().await;
    for tag in ["1", "2", "3", "4", "5", "6"] {
        trifle(&server, "app", tag).await;
    }
    let absent = digest("absent");
    let before = contents(&root(&server).join("docker"));
    for (what, words) in [
        ("app:7".to_owned(), &["no tag app:7", "app has the tags 1, 2, 3, 4, 5 and more"][..]),
        (format!("app@{absent}"), &["no manifest app@sha256:", "has the tags"]),
        ("other".to_owned(), &["no repository other", "`portcullis config`"]),
        ("other:1".to_owned(), &["no tag other:1"]),
        (
            "registry.example.com/app:1".to_owned(),
            &[
                "no tag registry.example.com/app:1",
                "if registry.example.com is the registry's host, leave it out: app:1",
            ],
        ),
    ] {
        rm(&root(&server), &what).await.refused(1, words);
    }
    let nowhere = server.folder().join("not/there");
    rm(&nowhere, "app").await.refused(1, &["there is no directory"]);
    assert!(!nowhere.exists());
    assert_eq!(contents(&root(&server).join("docker")), before);
}

#[tokio::test]
async fn exit_code_of_meaningless_arguments_is_2_and_nothing_is_deleted() {
    let server = TestServer::start().await;
    let digest = trifle(&server, "app", "1").await;
    let before = contents(&root(&server));
    for (what, words) in [
        ("localhost:5000/app:1".to_owned(), "leave out the registry's host: app:1"),
        ("https://localhost/app".to_owned(), "leave out the registry's host: app"),
        (format!("app:1@{digest}"), "either a tag or a digest"),
        ("App".to_owned(), "lower-case"),
        ("app:".to_owned(), "a tag has"),
        ("app@sha256:0".to_owned(), "hexadecimal"),
    ] {
        rm(&root(&server), &what).await.refused(2, &[words]);
    }
    run("UNUSED", "", &[]).await.refused(2, &["REPO[:TAG|@DIGEST]"]);
    assert_eq!(contents(&root(&server)), before);
}
