//! `portcullis ls`: repositories and tags with the bytes that they hold.

use std::{path::Path, process::Command};

use serde_json::Value as Json;

use crate::support::{Answered as _, TestServer, content::noise, digest};

/// The exit code, standard output and standard error.
fn ls(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.current_dir(folder).env_clear().arg("ls").args(arguments);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Pushes an image of these layers; gives the length of its manifest.
pub(super) async fn push(server: &TestServer, name: &str, tag: &str, layers: &[&[u8]]) -> u64 {
    let config = server.push_blob(name, "{}").await;
    let mut listed = Vec::new();
    for layer in layers {
        server.push_blob(name, layer.to_vec()).await;
        listed.push(format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}"#,
            digest(layer),
            layer.len()
        ));
    }
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[{}]}}"#,
        listed.join(",")
    );
    let length = manifest.len() as u64;
    let put = server.request("PUT", &format!("/v2/{name}/manifests/{tag}"));
    let put = put.header("content-type", "application/vnd.oci.image.manifest.v1+json");
    put.body(manifest).answer().await.expect(201);
    length
}

pub(super) fn lines(text: &str) -> Vec<Json> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn sizes_are_those_of_distinct_content_with_shared_and_untagged_bytes() {
    let server = TestServer::start().await;
    let (base, first, second) = (noise(1, 50_000), noise(2, 3_000), noise(3, 700));
    let one = push(&server, "team/app", "one", &[&base, &first]).await;
    let two = push(&server, "team/app", "two", &[&base, &second]).await;
    // The tag moves, and its first manifest stays without a tag.
    let moved = push(&server, "team/app", "one", &[&base]).await;
    let other = push(&server, "other", "latest", &[&base]).await;

    let (code, out, err) = ls(server.folder(), &["--json"]);
    assert_eq!(code, 0, "{err}");
    let [in_other, app, all] = &*lines(&out) else { panic!("{out}") };
    assert_eq!(in_other["repository"], "other");
    assert_eq!(in_other["bytes"], 2 + 50_000 + other);
    assert_eq!(app["repository"], "team/app");
    assert_eq!(app["tags"], 2);
    assert_eq!(app["bytes"], 2 + 50_000 + 700 + two + moved);
    assert_eq!(app["sharedBytes"], 2 + 50_000);
    assert_eq!(app["untaggedManifests"], 1);
    assert_eq!(app["untaggedBytes"], 3_000 + one);
    assert_eq!(all["repositories"], 2);
    // `other` has the manifest of the tag that moved.
    assert_eq!(other, moved);
    assert_eq!(all["bytes"], 2 + 50_000 + 700 + 3_000 + one + two + moved);
    assert_eq!(all["sharedBytes"], 2 + 50_000 + moved);

    let (code, out, err) = ls(server.folder(), &["team/app", "--json"]);
    assert_eq!(code, 0, "{err}");
    let [one, tagged_two, repository] = &*lines(&out) else { panic!("{out}") };
    assert_eq!((&one["tag"], &one["bytes"]), (&"one".into(), &(2 + 50_000 + moved).into()));
    assert_eq!(tagged_two["bytes"], 2 + 50_000 + 700 + two);
    assert_eq!(repository, app);

    let (code, out, err) = ls(server.folder(), &[]);
    assert_eq!(code, 0, "{err}");
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    assert!(out.lines().nth(2).unwrap().starts_with("team/app "), "{out}");
    assert!(
        err.contains("2 repositories, 3 tags: 55 kB; several repositories share 50 kB"),
        "{err}"
    );
    assert!(err.contains("only untagged manifests hold 3.5 kB"), "{err}");
    let (_, out, err) = ls(server.folder(), &["team/app"]);
    assert!(out.lines().nth(1).unwrap().starts_with("one "), "{out}");
    assert!(err.contains("1 untagged manifest, which `portcullis garbage-collect"), "{err}");
}

#[tokio::test]
async fn repository_that_is_not_there_is_an_error() {
    let server = TestServer::start().await;
    push(&server, "a", "latest", &[]).await;
    let (code, out, err) = ls(server.folder(), &["b"]);
    assert_eq!((code, &*out), (1, ""));
    assert!(err.contains("there is no repository b: `portcullis ls` lists all of them"), "{err}");
    let (code, _, err) = ls(server.folder(), &["Not/A/Name"]);
    assert_eq!(code, 2, "{err}");
}

#[test]
fn folder_without_repositories_is_named_below_no_header() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let (code, out, err) = ls(folder.path(), &[]);
    assert_eq!((code, &*out), (0, ""));
    assert_eq!(err, format!("portcullis: no repositories in {}\n", data.display()));
    let (_, out, _) = ls(folder.path(), &["--json"]);
    let [summary] = &*lines(&out) else { panic!("{out}") };
    assert_eq!(summary["repositories"], 0);
}
