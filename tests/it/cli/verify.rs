//! `portcullis verify` as a process: its findings, its output, and `--repair`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    Image, TestServer,
    content::{OCI_MANIFEST, closing, trifle},
    digest, image, noise,
    server::{contents, files, in_memory},
    watched::{Call, Verdict, Watch, Watched},
};

const BASE: &str = "docker/registry/v2";

/// The result of the program.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// The findings, and the summary after them.
    fn json(&self) -> (Vec<Value>, Value) {
        let mut lines: Vec<Value> =
            self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let summary = lines.pop().unwrap();
        assert_eq!(summary["kind"], "summary", "{self:?}");
        (lines, summary)
    }
}

fn verify(root: &Path, arguments: &[&str]) -> Ended {
    let elsewhere = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(elsewhere.path())
        .env_clear()
        .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", root)
        .arg("verify")
        .args(arguments)
        .output()
        .unwrap();
    assert_eq!(files(elsewhere.path()), [""; 0], "it makes nothing where it runs");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The number of files with each content in a folder, whatever their names.
fn bytes(folder: &Path) -> BTreeMap<Vec<u8>, usize> {
    let mut bytes = BTreeMap::new();
    for content in contents(folder).into_values() {
        *bytes.entry(content).or_default() += 1;
    }
    bytes
}

/// A tree with images in two repositories, written by the server, which has stopped.
struct Tree {
    folder: tempfile::TempDir,
    image: Image,
}

impl Tree {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let written = image(&server, "team/app", "latest").await;
        image(&server, "other", "v1").await;
        trifle(&server, "other", "v2").await;
        server.open_upload("other").await;
        Self { folder: server.stop().await, image: written }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        write(&self.root().join(path), content);
    }

    fn layer(&self) -> String {
        data(&self.image.layer)
    }
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap()
}

fn data(digest: &str) -> String {
    format!("{BASE}/blobs/sha256/{}/{}/data", &hex(digest)[..2], hex(digest))
}

fn in_app(path: &str) -> String {
    format!("{BASE}/repositories/team/app/{path}")
}

#[tokio::test]
async fn exit_code_of_a_whole_tree_is_0_and_no_file_is_touched() {
    let tree = Tree::new().await;
    let before = contents(&tree.root());
    for arguments in [&[][..], &["--repair"], &["--limit", "100M"]] {
        let ended = verify(&tree.root(), arguments);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stdout, "");
        assert!(ended.stderr.starts_with("portcullis: no problems and no notes in 7 blobs"));
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
    let (findings, summary) = verify(&tree.root(), &["--json"]).json();
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(summary["problems"], 0);
    assert_eq!(summary["blobs"], 7);
    assert_eq!(summary["manifests"], 3);
    assert_eq!(contents(&tree.root()), before);
}

#[tokio::test]
async fn each_kind_of_damage_is_found_and_repaired_where_possible() {
    let tree = Tree::new().await;
    let Image { digest: manifest, layer, config, .. } = &tree.image;
    let (layer, config, revision) = (hex(layer), hex(config), hex(manifest));
    let blob = tree.layer();
    let layer_link = in_app(&format!("_layers/sha256/{layer}/link"));
    let config_link = in_app(&format!("_layers/sha256/{config}/link"));
    let revision_link = in_app(&format!("_manifests/revisions/sha256/{revision}/link"));
    let current = in_app("_manifests/tags/latest/current/link");
    let index = in_app(&format!("_manifests/tags/latest/index/sha256/{revision}/link"));
    let absent = digest(b"absent");
    let absent_link = in_app(&format!("_layers/sha256/{}/link", hex(&absent)));
    let tmp = in_app("_manifests/tags/latest/current/link.0.tmp");
    let cases = [
        (&blob, Some("bad"), "blob_corrupt", "problem", &blob, false),
        (&blob, Some(""), "blob_corrupt", "problem", &blob, false),
        (&blob, None, "blob_missing", "note", &layer_link, false),
        (&absent_link, Some(&absent), "blob_missing", "note", &absent_link, true),
        (&config_link, Some(""), "link_invalid", "problem", &config_link, false),
        (&config_link, Some(manifest), "link_elsewhere", "problem", &config_link, false),
        (&revision_link, Some("?"), "link_invalid", "problem", &revision_link, true),
        (&revision_link, None, "revision_missing", "problem", &current, true),
        (&current, Some("\n"), "link_invalid", "problem", &current, true),
        (&current, Some(&absent), "revision_missing", "problem", &current, true),
        (&config_link, None, "manifest_incomplete", "problem", &revision_link, false),
        (&index, None, "tag_index_missing", "note", &current, true),
        (&tmp, Some("sha256:"), "stray", "note", &tmp, true),
    ];
    let cases = cases.map(|(path, content, kind, severity, at, mended)| Case {
        path,
        content,
        kind,
        severity,
        at,
        mended,
    });
    let whole = contents(&tree.root());
    // The second look takes most of the time.
    std::thread::scope(|scope| {
        for case in &cases {
            scope.spawn(|| case.try_on(&whole, manifest));
        }
    });
}

/// One way to damage a tree.
struct Case<'a> {
    path: &'a str,
    /// The new content; `None` deletes the file.
    content: Option<&'a str>,
    /// The expected finding, its severity, and its path.
    kind: &'a str,
    severity: &'a str,
    at: &'a str,
    /// Whether the tree is whole after a repair.
    mended: bool,
}

impl Case<'_> {
    fn try_on(&self, whole: &BTreeMap<String, Vec<u8>>, manifest: &str) {
        let &Case { path, content, kind, severity, at, mended } = self;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (path, content) in whole {
            write(&root.join(path), content);
        }
        match content {
            Some(content) => write(&root.join(path), content),
            None => fs::remove_file(root.join(path)).unwrap(),
        }
        let damaged = contents(root);
        let code = i32::from(severity == "problem" || !mended);
        let text = verify(root, &[]);
        assert_eq!(text.code, Some(code), "{kind}: {text:?}");
        let start = format!("{severity} {kind} \"{at}\": ");
        assert!(text.stdout.lines().any(|line| line.starts_with(&start)), "{start}: {text:?}");
        let (findings, summary) = verify(root, &["--json"]).json();
        let found = findings.iter().find(|finding| finding["kind"] == kind).unwrap();
        assert_eq!(found["severity"], severity);
        assert_eq!(found["key"], at);
        assert!(found["message"].is_string() && found.get("moved_to").is_none(), "{found}");
        let sum = summary["problems"].as_u64().unwrap() + summary["notes"].as_u64().unwrap();
        assert_eq!(findings.len() as u64, sum);
        assert_eq!(contents(root), damaged, "only --repair writes");

        let before = bytes(root);
        let (repaired, _) = verify(root, &["--repair", "--json"]).json();
        assert_eq!(bytes(root), before, "{kind}: nothing is lost");
        for moved in repaired.iter().filter_map(|finding| finding["moved_to"].as_str()) {
            assert!(moved.starts_with("portcullis-quarantine/"), "{moved}");
            assert!(root.join(moved).is_file(), "{moved}");
        }
        let (left, _) = verify(root, &["--json"]).json();
        let is_whole = left.iter().all(|finding| finding["severity"] == "note");
        assert_eq!(is_whole, mended, "{kind}: {left:?}");
        for finding in left.iter().filter(|finding| finding["severity"] == "problem") {
            assert_eq!(finding["kind"], "manifest_incomplete");
            assert_eq!(finding["repository"], "team/app");
            assert_eq!(finding["digest"], manifest);
            assert_eq!(finding["tags"], json!(["latest"]));
        }
    }
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[tokio::test]
async fn unreadable_manifest_is_a_problem_and_an_unusual_one_a_note() {
    let tree = Tree::new().await;
    let named = format!(r#"{{"digest":"{}"}}"#, tree.image.layer);
    let absent = format!(r#"{{"digest":"{}"}}"#, digest(b"absent"));
    let unknown = format!(r#"{{"digest":"sha384:{}"}}"#, "0".repeat(96));
    for (text, severity, kind) in [
        (
            format!(r#"{{"SchemaVersion":2,"Config":{named},"Layers":[]}}"#),
            "note",
            "manifest_invalid",
        ),
        (
            format!(r#"{{"schemaVersion":2,"config":{named},"layers":[],"Layers":[{absent}]}}"#),
            "problem",
            "manifest_incomplete",
        ),
        (
            format!(r#"{{"schemaVersion":2,"config":{named},"layers":[{unknown}]}}"#),
            "problem",
            "manifest_invalid",
        ),
        (r#"{"schemaVersion":2}"#.to_owned(), "problem", "manifest_invalid"),
    ] {
        let digest = digest(text.as_bytes());
        let link = in_app(&format!("_manifests/revisions/sha256/{}/link", hex(&digest)));
        tree.write(&data(&digest), &text);
        tree.write(&link, &digest);
        let ended = verify(&tree.root(), &[]);
        let start = format!("{severity} {kind} \"{link}\": ");
        assert!(ended.stdout.lines().any(|line| line.starts_with(&start)), "{start}: {ended:?}");
        assert_eq!(ended.code, Some(i32::from(severity == "problem")), "{ended:?}");
        fs::remove_file(tree.root().join(&link)).unwrap();
    }
}

#[tokio::test]
async fn quarantined_content_is_not_served_and_can_be_pushed_again() {
    let server = TestServer::start().await;
    let Image { manifest, digest: name, layer, .. } = image(&server, "team/app", "latest").await;
    let root = server.folder().join("data");
    fs::write(root.join(data(&layer)), "something else").unwrap();
    let ended = verify(&root, &["--repair"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    server.get(&format!("/v2/team/app/blobs/{layer}")).await.expect(404);
    server.get(&format!("/v2/team/app/manifests/{name}")).await.expect(200);
    assert_eq!(server.push_blob("team/app", "layer of team/app:latest").await, layer);
    server.get(&format!("/v2/team/app/blobs/{layer}")).await.expect(200);
    let ended = verify(&root, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");

    fs::write(root.join(data(&name)), "{}").unwrap();
    assert_eq!(verify(&root, &["--repair"]).code, Some(1));
    server.get("/v2/team/app/manifests/latest").await.expect(404);
    server.push_manifest("team/app", "latest", OCI_MANIFEST, manifest).await.expect(201);
    server.get("/v2/team/app/manifests/latest").await.expect(200);
    assert_eq!(verify(&root, &[]).code, Some(0));
}

#[tokio::test]
async fn foreign_names_do_not_command_the_terminal() {
    let tree = Tree::new().await;
    tree.write(&in_app("_manifests/tags/\u{1b}[2J\n\u{9b}x/current/link"), "?");
    for arguments in [&[][..], &["--json"]] {
        let ended = verify(&tree.root(), arguments);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains("name_invalid"), "{ended:?}");
        let plain = |c: char| c == '\n' || !c.is_control();
        assert!(ended.stdout.chars().chain(ended.stderr.chars()).all(plain), "{ended:?}");
    }
}

#[tokio::test]
async fn folder_behind_a_symbolic_link_is_checked_too() {
    let tree = Tree::new().await;
    let blobs = tree.root().join(BASE).join("blobs");
    fs::rename(blobs.join("sha256"), tree.root().join("disk")).unwrap();
    std::os::unix::fs::symlink("../../../../disk", blobs.join("sha256")).unwrap();
    let ended = verify(&tree.root(), &[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.stderr.contains("in 7 blobs"), "{ended:?}");
    tree.write(&tree.layer(), "bad");
    let (findings, _) = verify(&tree.root(), &["--json"]).json();
    assert!(findings.iter().any(|finding| finding["kind"] == "blob_corrupt"), "{findings:?}");
}

#[test]
fn exit_code_is_2_when_the_tree_cannot_be_verified() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (&[][..], "there is no directory"),
        (&["missing.yml"], "missing.yml"),
        (&["--limit", "fast"], "bytes per second"),
        (&["--limit", "0"], "bytes per second"),
    ] {
        let ended = verify(&folder.path().join("not/there"), arguments);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(expected), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it makes no root");
}

#[test]
fn rate_limit_bounds_the_bytes_read_in_a_second() {
    let folder = in_memory();
    for seed in 0..4 {
        let bytes = noise(seed, 1 << 20);
        let path = folder.path().join(data(&digest(&bytes)));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let start = Instant::now();
    assert_eq!(verify(folder.path(), &["--limit", "2M"]).code, Some(0));
    assert!(start.elapsed() > Duration::from_millis(1800), "{:?}", start.elapsed());
}

/// Delays every step of a write, so that another process sees the steps.
#[derive(Debug)]
struct Slow;

impl Watch for Slow {
    fn before(&self, call: Call<'_>) -> Verdict {
        if matches!(call, Call::Sync(_) | Call::Rename(..) | Call::RemoveFile(_)) {
            std::thread::sleep(Duration::from_millis(3));
        }
        Verdict::Go
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_beside_a_busy_server_finds_nothing_false() {
    let server = TestServer::over(|root| Arc::new(Watched::new(root, Slow)));
    image(&server, "still", "latest").await;
    let root = server.folder().join("data");
    let (server, busy) = (&server, &std::sync::atomic::AtomicBool::new(true));
    let worker = |name: &'static str| async move {
        let mut rounds = 0;
        while busy.load(std::sync::atomic::Ordering::Relaxed) {
            // The same image again and again, so that the same entries appear and disappear.
            let Image { digest, layer, config, .. } = image(server, name, "latest").await;
            let other = trifle(server, name, "latest").await;
            server.delete(&format!("/v2/{name}/manifests/{digest}")).await.expect(202);
            for blob in [layer, config] {
                server.delete(&format!("/v2/{name}/blobs/{blob}")).await.expect(202);
            }
            let upload = server.open_upload(name).await;
            server.patch(&upload, None, "part").await.expect(202);
            let whole = digest_of_part();
            server.put(&closing(&upload, &whole), "").await.expect(201);
            server.delete(&format!("/v2/{name}/manifests/latest")).await.expect(202);
            server.delete(&format!("/v2/{name}/manifests/{other}")).await.expect(202);
            rounds += 1;
        }
        rounds
    };
    let verifying = async {
        let mut runs = Vec::new();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(6) {
            let (root, repair) = (root.clone(), runs.len() % 2 == 1);
            let run = move || verify(&root, if repair { &["--repair"] } else { &[] });
            runs.push(tokio::task::spawn_blocking(run).await.unwrap());
        }
        busy.store(false, std::sync::atomic::Ordering::Relaxed);
        runs
    };
    let (runs, first, second, third) =
        tokio::join!(verifying, worker("a"), worker("b"), worker("still/more"));
    for ended in runs {
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    }
    assert!(first > 2 && second > 2 && third > 2, "{first} {second} {third}");
    assert!(!root.join("portcullis-quarantine").exists());
}

fn digest_of_part() -> String {
    digest(b"part")
}
