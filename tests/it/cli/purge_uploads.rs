//! `portcullis purge-uploads` as a process.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use crate::support::{
    TestServer,
    server::{contents, in_memory},
};

const HOUR: Duration = Duration::from_secs(3600);
const OLD: &str = "6b3c9a93-af5d-473f-a4cf-9710022185cd";
const YOUNG: &str = "0c7fbd3e-7d62-4e6d-a1d5-1f4f0c1d4b11";

/// The result of the program: its exit code, standard output, standard error.
type Ended = (Option<i32>, String, String);

fn purge_uploads(root: &Path, arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .env_clear()
        .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", root)
        .env("REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_AGE", "48h")
        .arg("purge-uploads")
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The folder of an upload of this age, last written to at its beginning.
fn upload(root: &Path, id: &str, begun: Duration) -> PathBuf {
    let folder = root.join(format!("docker/registry/v2/repositories/team/app/_uploads/{id}"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("data"), "part").unwrap();
    age(&folder, begun);
    folder
}

/// Gives an upload this age, as if it had not been written to since its beginning.
fn age(folder: &Path, begun: Duration) {
    let time = SystemTime::now() - begun;
    let text = jiff::Timestamp::try_from(time).unwrap().strftime("%Y-%m-%dT%H:%M:%SZ");
    fs::write(folder.join("startedat"), text.to_string()).unwrap();
    written(folder, time);
}

fn written(folder: &Path, time: SystemTime) {
    let data = File::options().append(true).open(folder.join("data")).unwrap();
    data.set_modified(time).unwrap();
}

#[test]
fn uploads_older_than_the_configured_age_are_purged() {
    let root = in_memory();
    let old = upload(root.path(), OLD, 72 * HOUR);
    let young = upload(root.path(), YOUNG, 24 * HOUR);
    let before = contents(root.path());
    let (code, stdout, stderr) = purge_uploads(root.path(), &["--dry-run"]);
    assert_eq!(stdout, format!("would purge team/app {OLD}: begun 3 days ago\n"));
    assert_eq!(stderr, "portcullis: 1 upload would be purged, 2 looked at\n");
    assert_eq!(code, Some(0));
    let after = contents(root.path());
    assert!(before.iter().all(|(file, content)| after.get(file) == Some(content)), "{after:?}");
    let (code, stdout, stderr) = purge_uploads(root.path(), &[]);
    assert_eq!(stdout, format!("purged team/app {OLD}: begun 3 days ago\n"));
    assert_eq!(stderr, "portcullis: 1 upload purged, 2 looked at\n");
    assert_eq!(code, Some(0));
    assert!(!old.join("data").exists() && !old.join("startedat").exists());
    assert!(young.join("data").exists());
    let (code, stdout, stderr) = purge_uploads(root.path(), &["--age", "12h"]);
    assert_eq!(stdout, format!("purged team/app {YOUNG}: begun 24 hours ago\n"));
    assert_eq!(stderr, "portcullis: 1 upload purged, 1 looked at\n");
    assert_eq!(code, Some(0));
}

#[test]
fn failures_are_reported_with_their_exit_code() {
    let root = in_memory();
    let (code, _, stderr) = purge_uploads(&root.path().join("absent"), &[]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("there is no directory"), "{stderr}");
    let (code, _, stderr) = purge_uploads(root.path(), &["--age", "soon"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--age"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_that_a_server_is_receiving_stays() {
    let server = TestServer::start().await;
    let root = server.folder().join("data");
    let location = server.open_upload("team/app").await;
    server.patch(&location, None, "part").await.expect(202);
    let uploads = server.tree().join("repositories/team/app/_uploads");
    let folder = fs::read_dir(uploads).unwrap().next().unwrap().unwrap().path();
    age(&folder, 72 * HOUR);
    written(&folder, SystemTime::now() - Duration::from_secs(600));
    let (code, stdout, stderr) = purge_uploads(&root, &["--age", "0"]);
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert_eq!(stderr, "portcullis: no uploads purged, 1 looked at\n");
    server.patch(&location, None, "more").await.expect(202);
    age(&folder, 72 * HOUR);
    let (code, stdout, _) = purge_uploads(&root, &[]);
    assert_eq!(code, Some(0));
    assert!(stdout.ends_with("begun 3 days ago\n"), "{stdout}");
    server.get(&location).await.expect(404);
}
