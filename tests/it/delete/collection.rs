//! Garbage collection: by the server itself, and by `portcullis garbage-collect` beside it.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use portcullis::{config::Config, oci::ErrorCode};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{
    TestServer,
    content::{OCI_INDEX, OCI_MANIFEST},
    digest, image, image_with,
    raw::GUARD,
};

const POLL: Duration = Duration::from_millis(50);

/// Lets the server collect garbage each second.
fn eager(config: &mut Config) {
    let options = &mut config.storage.maintenance.garbagecollection;
    options.interval = Duration::from_secs(1);
    options.grace = Duration::ZERO;
}

fn never(config: &mut Config) {
    config.storage.maintenance.garbagecollection.enabled = false;
}

async fn status(server: &TestServer, target: &str) -> StatusCode {
    server.request("HEAD", target).send().await.unwrap().status()
}

async fn vanishes(server: &TestServer, target: &str) {
    let vanishing = async {
        while status(server, target).await != StatusCode::NOT_FOUND {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(GUARD, vanishing).await.unwrap();
}

/// Runs `portcullis garbage-collect` on a tree, without grace.
fn collect(root: &Path, arguments: &[&str]) -> Output {
    collect_with(root, arguments, "0s")
}

fn collect_with(root: &Path, arguments: &[&str], grace: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(root)
        .env_clear()
        .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", root)
        .env("REGISTRY_STORAGE_MAINTENANCE_GARBAGECOLLECTION_GRACE", grace)
        .arg("garbage-collect")
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Every file and every folder below a folder.
fn all(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        found.push(path.display().to_string());
        found.extend(all(&path));
    }
    found
}

/// File times have a coarse resolution: a file as old as the collection stays.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

#[tokio::test]
async fn server_collects_by_schedule_and_keeps_referenced_content() {
    let server = TestServer::with(eager).await;
    let kept = image(&server, "team/app", "latest").await;
    let loose = server.push_blob("team/app", "nobody needs it").await;
    let target = format!("/v2/team/app/blobs/{loose}");
    vanishes(&server, &target).await;
    assert_eq!(status(&server, "/v2/team/app/manifests/latest").await, StatusCode::OK);
    for blob in [&kept.config, &kept.layer] {
        let target = format!("/v2/team/app/blobs/{blob}");
        assert_eq!(status(&server, &target).await, StatusCode::OK);
    }
    assert_eq!(server.push_blob("team/app", "nobody needs it").await, loose, "again, and at once");
}

#[tokio::test]
async fn nothing_is_collected_while_the_registry_is_read_only() {
    let server = TestServer::with(|config| {
        eager(config);
        config.storage.maintenance.garbagecollection.grace = Duration::from_secs(3600);
    })
    .await;
    let loose = server.push_blob("app", "nobody needs it").await;
    let target = format!("/v2/app/blobs/{loose}");
    let mut config = server.config().clone();
    config.storage.maintenance.readonly.enabled = true;
    server.app().apply(&config).await;
    // All files are older than the grace period.
    for path in all(&server.tree()) {
        if Path::new(&path).is_file() {
            let old = std::time::SystemTime::now() - Duration::from_secs(100_000);
            fs::File::open(path).unwrap().set_modified(old).unwrap();
        }
    }
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let bytes = server.tree().join(format!(
        "blobs/sha256/{}/{}/data",
        &loose["sha256:".len()..][..2],
        &loose["sha256:".len()..]
    ));
    assert!(bytes.is_file(), "it may be copied right now");
    config.storage.maintenance.readonly.enabled = false;
    server.app().apply(&config).await;
    let gone = async {
        while bytes.exists() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(GUARD, gone).await.unwrap();
    assert_eq!(status(&server, &target).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn collection_leaves_nothing_after_everything_was_deleted() {
    let server = TestServer::with(never).await;
    let mut manifests = Vec::new();
    for name in ["team/app", "team/app/inner", "other"] {
        let first = image(&server, name, "latest").await;
        let subject = json!({
            "subject": {
                "mediaType": OCI_MANIFEST, "digest": first.digest, "size": first.manifest.len(),
            },
        });
        let about = image_with(&server, name, "about", subject).await;
        let index = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [{
                "mediaType": OCI_MANIFEST, "digest": first.digest, "size": first.manifest.len(),
            }],
        });
        let index = index.to_string();
        server.push_manifest(name, "all", OCI_INDEX, index.clone()).await;
        server.push_blob(name, "nobody needs it").await;
        manifests.extend([first.digest, about.digest, digest(index)].map(|d| (name, d)));
    }
    let cancelled = server.open_upload("other").await;
    server.request("DELETE", &cancelled).send().await.unwrap();
    for (name, digest) in manifests {
        let target = format!("/v2/{name}/manifests/{digest}");
        let answer = server.request("DELETE", &target).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    }
    a_moment().await;
    let output = collect(&server.folder().join("data"), &[]);
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("team/app/inner: empty repository deleted\n"));
    assert_eq!(all(&server.tree().join("repositories")), Vec::<String>::new());
    let left = all(&server.tree().join("blobs"));
    assert!(left.iter().all(|path| Path::new(path).is_dir()), "{left:?}");
    let again = image(&server, "team/app", "latest").await;
    let target = format!("/v2/team/app/blobs/{}", again.layer);
    assert_eq!(status(&server, &target).await, StatusCode::OK, "beside the same server");
}

#[tokio::test]
async fn repository_with_an_upload_stays() {
    let server = TestServer::with(never).await;
    let location = server.open_upload("team/app").await;
    a_moment().await;
    let output = collect(&server.folder().join("data"), &[]);
    assert!(output.status.success(), "{output:?}");
    let answer = server.patch(&location, None, b"it goes on".to_vec()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn dry_run_lists_the_objects_and_quiet_only_their_number() {
    let server = TestServer::with(never).await;
    let old = image(&server, "team/app", "latest").await;
    image_with(&server, "team/app", "latest", json!({ "annotations": { "new": "1" } })).await;
    let loose = server.push_blob("team/app", "nobody needs it").await;
    a_moment().await;
    let root = server.folder().join("data");
    let before = all(&server.tree());
    let output = collect(&root, &["--dry-run", "--delete-untagged"]);
    assert_eq!(all(&server.tree()), before);
    let printed = text(&output.stdout);
    for line in [
        "team/app\n".to_owned(),
        format!("manifest eligible for deletion: {}\n", old.digest),
        format!("team/app: marking blob {}\n", old.layer),
        format!("team/app: layer link eligible for deletion: {loose}\n"),
        "\n3 blobs marked, 2 blobs and 1 manifests eligible for deletion\n".to_owned(),
        format!("blob eligible for deletion: {loose}\n"),
    ] {
        assert!(printed.contains(&line), "{line:?} is not in {printed}");
    }
    assert!(text(&output.stderr).starts_with("portcullis: would remove blobs: 2 ("), "{output:?}");
    let output = collect(&root, &["-d", "-m", "-q"]);
    assert_eq!(text(&output.stdout), "");
    let output = collect_with(&root, &["-m"], "2h");
    assert!(text(&output.stderr).contains("removed blobs: 0 (0 B)"), "young: {output:?}");
    let output = collect(&root, &["-m"]);
    assert!(text(&output.stderr).contains("removed blobs: 2 ("), "{output:?}");
    let target = format!("/v2/team/app/manifests/{}", old.digest);
    assert_eq!(status(&server, &target).await, StatusCode::NOT_FOUND);
    assert_eq!(status(&server, "/v2/team/app/manifests/latest").await, StatusCode::OK);
}

#[tokio::test]
async fn damaged_repository_keeps_everything_and_the_rest_is_collected() {
    let server = TestServer::with(never).await;
    let broken = image(&server, "broken", "latest").await;
    let needed = server.push_blob("broken", "needed by what cannot be read, maybe").await;
    let loose = server.push_blob("whole", "nobody needs it").await;
    let hex = &broken.digest["sha256:".len()..];
    fs::write(server.tree().join(format!("blobs/sha256/{}/{hex}/data", &hex[..2])), "{").unwrap();
    a_moment().await;
    let output = collect(&server.folder().join("data"), &["-m"]);
    assert!(output.status.success(), "{output:?}");
    let line =
        format!("broken: nothing is deleted here: the manifest {} cannot be read\n", broken.digest);
    assert!(text(&output.stdout).contains(&line), "{output:?}");
    assert!(
        text(&output.stderr)
            .contains("unreadable manifests or links: 1 (`portcullis verify` shows them)")
    );
    let there = |name, blob: String| format!("/v2/{name}/blobs/{blob}");
    for blob in [broken.layer, broken.config, needed] {
        assert_eq!(status(&server, &there("broken", blob)).await, StatusCode::OK);
    }
    assert_eq!(status(&server, &there("whole", loose)).await, StatusCode::NOT_FOUND);
}

/// Stores a manifest as another registry has accepted it, at the tag `odd`.
fn store(server: &TestServer, name: &str, text: &str) -> String {
    let digest = digest(text);
    let hex = &digest["sha256:".len()..];
    let manifests = format!("repositories/{name}/_manifests");
    for (path, content) in [
        (format!("blobs/sha256/{}/{hex}/data", &hex[..2]), text),
        (format!("{manifests}/revisions/sha256/{hex}/link"), &digest),
        (format!("{manifests}/tags/odd/index/sha256/{hex}/link"), &digest),
        (format!("{manifests}/tags/odd/current/link"), &digest),
    ] {
        let path = server.tree().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    digest
}

#[tokio::test]
async fn manifest_with_keys_in_another_case_keeps_its_references() {
    let server = TestServer::with(never).await;
    let config = server.push_blob("cased", "{}").await;
    let layer = server.push_blob("cased", "layer").await;
    let loose = server.push_blob("cased", "nobody needs it").await;
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let text = format!(
        r#"{{"SchemaVersion":2,"MediaType":"{kind}","Config":{{"digest":"{config}"}},
            "Layers":[{{"digest":"{layer}"}}]}}"#
    );
    store(&server, "cased", &text);
    a_moment().await;
    let output = collect(&server.folder().join("data"), &["-m"]);
    assert!(output.status.success(), "{output:?}");
    let there = |blob: &str| format!("/v2/cased/blobs/{blob}");
    for needed in [&config, &layer] {
        assert_eq!(status(&server, &there(needed)).await, StatusCode::OK);
        server.delete(&there(needed)).await.expect_error(409, ErrorCode::Denied);
    }
    assert_eq!(status(&server, &there(&loose)).await, StatusCode::NOT_FOUND);
    let served = server.get("/v2/cased/manifests/odd").await.expect(200);
    assert_eq!((served.header("content-type"), served.text()), (kind, text));
}

#[tokio::test]
async fn manifest_that_names_an_unknown_digest_keeps_its_repository() {
    let server = TestServer::with(never).await;
    let config = server.push_blob("app", "{}").await;
    let unknown = format!("sha384:{}", "0".repeat(96));
    let odd = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{config}"}},"layers":[{{"digest":"{unknown}"}}]}}"#
    );
    let odd = store(&server, "app", &odd);
    let blob = server.push_blob("app", "the layer, maybe").await;
    a_moment().await;
    let output = collect(&server.folder().join("data"), &["-m"]);
    let line = format!("app: nothing is deleted here: the manifest {odd} cannot be read\n");
    assert!(text(&output.stdout).contains(&line), "{output:?}");
    let target = format!("/v2/app/blobs/{blob}");
    let refused = server.delete(&target).await.expect_error(409, ErrorCode::Denied);
    let error = &refused.json()["errors"][0];
    assert_eq!(error["detail"]["manifests"], serde_json::json!([odd]));
    assert!(error["message"].as_str().unwrap().contains("cannot be read"), "{error}");
    server.get(&target).await.expect(200);
    server.delete(&format!("/v2/app/manifests/{odd}")).await.expect(202);
    server.delete(&target).await.expect(202);
}

#[tokio::test]
async fn server_collects_untagged_manifests_that_are_not_pulled_for_the_period() {
    let server = TestServer::with(|config| {
        eager(config);
        let options = &mut config.storage.maintenance.garbagecollection;
        options.deleteuntaggedafter = Duration::from_secs(1);
    })
    .await;
    let old = image(&server, "app", "latest").await;
    let newer = json!({ "annotations": { "is": "newer" } });
    image_with(&server, "app", "latest", newer).await;
    // A request for it would be a pull, and keep it.
    let hex = &old.digest["sha256:".len()..];
    let revisions = server.tree().join("repositories/app/_manifests/revisions/sha256");
    let going = async {
        while revisions.join(hex).exists() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(GUARD, going).await.unwrap();
    assert_eq!(status(&server, "/v2/app/manifests/latest").await, StatusCode::OK);
    let folder = server.stop().await;
    let record = fs::read_to_string(folder.path().join("data/portcullis-pulls")).unwrap();
    assert!(record.ends_with(" stopped\n"), "{record}");
}

#[tokio::test]
async fn summary_says_what_grace_and_untagged_manifests_keep_and_what_takes_them() {
    let server = TestServer::with(never).await;
    image(&server, "app", "latest").await;
    let newer = json!({ "annotations": { "is": "newer" } });
    image_with(&server, "app", "latest", newer).await;
    server.push_blob("app", "loose").await;
    a_moment().await;
    let root = server.folder().join("data");
    let young = text(&collect_with(&root, &["-q"], "2h").stderr);
    let grace = "portcullis: the grace period of 2 hours keeps links to blobs: 1, manifests: 0, blobs of \
                 5 B; the last of them until ";
    assert!(young.contains(grace) && young.contains(" UTC, or `--grace 0s` takes them"), "{young}");
    assert!(young.contains("\nportcullis: untagged manifests: 1, which hold "), "{young}");
    assert!(young.contains("pulls have not been recorded for that long"), "{young}");

    let file = server.folder().join("config.yml");
    let storage = format!("storage: {{filesystem: {{rootdirectory: {}}}}}", root.display());
    fs::write(&file, format!("version: 0.1\n{storage}\n")).unwrap();
    let file = file.to_str().unwrap();
    let output = text(&collect_with(&root, &["-q", "--grace", "0s", file], "2h").stderr);
    assert!(output.contains("removed blobs: 1 (5 B)"), "{output}");
    assert!(!output.contains("grace period"), "{output}");
    let option = "storage.maintenance.garbagecollection.deleteuntaggedafter: 720h takes those that are not \
                  pulled for 30 days, --delete-untagged all of them at once\n";
    assert!(output.ends_with(option), "{output}");

    let output = text(&collect_with(&root, &["-q", "-m", "--grace", "0s", file], "2h").stderr);
    assert!(output.contains("manifests: 1"), "{output}");
    assert_eq!(output.lines().count(), 1, "{output}");
}

#[test]
fn collection_without_a_tree_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(folder.path())
        .env_clear()
        .arg("garbage-collect")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("data"), "{output:?}");
    assert_eq!(all(folder.path()), Vec::<String>::new(), "nothing was made");
}
