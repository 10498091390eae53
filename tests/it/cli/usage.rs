//! `portcullis usage`: the blobs and bytes that each repository holds.

use std::{path::Path, process::Command};

use super::ls::{lines, push};
use crate::support::{TestServer, content::noise};

/// The exit code, standard output and standard error.
pub(super) fn usage(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.current_dir(folder).env_clear().arg("usage").args(arguments);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn bytes_of_repositories_are_those_of_distinct_blobs() {
    let server = TestServer::start().await;
    let (base, own, loose) = (noise(1, 50_000), noise(2, 3_000), noise(3, 700_000));
    let one = push(&server, "team/app", "one", &[&base, &own]).await;
    let two = push(&server, "team/app", "two", &[&base]).await;
    let other = push(&server, "other", "latest", &[&base]).await;
    // The manifest of two is in both.
    assert_eq!(two, other);
    // Without a manifest, until a collection.
    server.push_blob("pushing", loose).await;

    let (code, out, err) = usage(server.folder(), &["--json"]);
    assert_eq!(code, 0, "{err}");
    let [pushing, app, in_other, all] = &*lines(&out) else { panic!("{out}") };
    assert_eq!(pushing["repository"], "pushing");
    assert_eq!((&pushing["blobs"], &pushing["bytes"]), (&1.into(), &700_000.into()));
    assert_eq!(pushing["onlyBytes"], 700_000);
    assert_eq!(app["repository"], "team/app");
    assert_eq!((&app["blobs"], &app["bytes"]), (&5.into(), &(53_002 + one + two).into()));
    assert_eq!(app["onlyBytes"], 3_000 + one);
    assert_eq!(in_other["blobs"], 3);
    assert_eq!(in_other["bytes"], 50_002 + two);
    assert_eq!(in_other["onlyBytes"], 0);
    assert_eq!(all["repositories"], 3);
    assert_eq!(all["blobs"], 6);
    assert_eq!(all["bytes"], 753_002 + one + two);
    assert_eq!(all["sharedBytes"], 50_002 + two);

    let (code, out, err) = usage(server.folder(), &[]);
    assert_eq!(code, 0, "{err}");
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    assert!(out.starts_with("REPOSITORY "), "{out}");
    assert!(out.lines().nth(2).unwrap().starts_with("team/app "), "{out}");
    assert!(
        err.contains("3 repositories, 6 blobs: 753 kB; several repositories share 50 kB"),
        "{err}"
    );
}

#[tokio::test]
async fn bytes_only_here_are_what_a_deletion_frees() {
    let server = TestServer::start().await;
    let (base, own) = (noise(4, 50_000), noise(5, 3_000));
    push(&server, "team/app", "one", &[&base, &own]).await;
    push(&server, "other", "latest", &[&base]).await;
    let (_, out, _) = usage(server.folder(), &["team/app", "--json"]);
    let [app] = &*lines(&out) else { panic!("{out}") };

    server.delete("/v2/team/app/").await.expect(202);
    let mut collect = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    collect.current_dir(server.folder()).env_clear();
    let collected = collect.args(["garbage-collect", "--grace", "0s"]).output().unwrap();
    let text = [collected.stdout, collected.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(collected.status.success(), "{text}");
    let (_, out, _) = usage(server.folder(), &["--json"]);
    let [other, all] = &*lines(&out) else { panic!("{out}") };
    assert_eq!(other["onlyBytes"], other["bytes"]);
    assert_eq!(all["bytes"], other["bytes"]);
    let freed = app["onlyBytes"].as_u64().unwrap();
    assert!(freed > 3_000 && freed < 4_000, "{app}");
    let data = server.tree().join("blobs/sha256");
    let left: u64 = crate::support::files(&data)
        .iter()
        .map(|file| std::fs::metadata(data.join(file)).unwrap().len())
        .sum();
    assert_eq!(other["bytes"], left);
}

#[tokio::test]
async fn usage_of_some_repositories_is_shown_alone() {
    let server = TestServer::start().await;
    for name in ["a", "b", "c"] {
        push(&server, name, "latest", &[&noise(6, 1000)]).await;
    }
    let (code, out, err) = usage(server.folder(), &["c", "a"]);
    assert_eq!((code, &*err), (0, ""));
    let shown: Vec<_> = out.lines().skip(1).map(|line| &line[..2]).collect();
    assert_eq!(shown, ["a ", "c "]);
    let (code, _, err) = usage(server.folder(), &["a", "d"]);
    assert_eq!(code, 1);
    let expected = "there is no repository d: `portcullis usage` shows all of them";
    assert!(err.contains(expected), "{err}");
    let (code, _, err) = usage(server.folder(), &["Not/A/Name"]);
    assert_eq!(code, 2, "{err}");
    let (code, _, err) = usage(server.folder(), &["a.yml", "b.yml"]);
    assert_eq!(code, 2, "{err}");
}

#[tokio::test]
async fn quota_stands_beside_what_is_used() {
    let server = TestServer::start().await;
    push(&server, "team/app", "latest", &[&noise(7, 3000)]).await;
    push(&server, "other", "latest", &[&noise(8, 1000)]).await;
    let config = server.folder().join("config.yml");
    let root = server.folder().join("data");
    let root = root.display();
    let yaml = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\naccess:\n  quotas:\n    \
         - {{repositories: team/**, bytes: 50GB}}\n"
    );
    std::fs::write(&config, yaml).unwrap();
    let config = config.to_str().unwrap();
    let (code, out, err) = usage(server.folder(), &[config]);
    assert_eq!(code, 0, "{err}");
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    let last = |line: &str| line.split_whitespace().last().unwrap().to_owned();
    let shown: Vec<_> = out.lines().map(last).collect();
    assert_eq!(shown, ["QUOTA", "GB", "-"], "{out}");
    assert!(out.contains(" 50 GB\n"), "{out}");
    let (_, out, _) = usage(server.folder(), &["--json", config]);
    let [app, other, _] = &*lines(&out) else { panic!("{out}") };
    assert_eq!(app["quotaBytes"], 50_000_000_000_u64);
    assert!(other.get("quotaBytes").is_none(), "{other}");
}

#[test]
fn folder_without_repositories_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let (code, out, err) = usage(folder.path(), &[]);
    assert_eq!((code, &*out), (0, ""));
    assert_eq!(err, format!("portcullis: no repositories in {}\n", data.display()));
}
