//! `portcullis retain` as a process.

use std::{
    fs::File,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use crate::support::{
    TestServer,
    content::{empty_index, trifle},
    digest,
    server::{contents, in_memory},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The result of the program: its exit code, standard output, standard error.
type Ended = (Option<i32>, String, String);

fn retain(root: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .env_clear()
        .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", root)
        .envs(variables.iter().copied())
        .arg("retain")
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const RULES: &[(&str, &str)] = &[
    ("REGISTRY_STORAGE_RETENTION_RULES_0_REPOSITORIES", "team/**"),
    ("REGISTRY_STORAGE_RETENTION_RULES_0_TAGS", "^pr-[0-9]+$"),
    ("REGISTRY_STORAGE_RETENTION_RULES_0_KEEPLATEST", "1"),
    ("REGISTRY_STORAGE_RETENTION_RULES_0_KEEPPULLEDWITHIN", "168h"),
    // Read-only operation concerns the server; the operator who runs the command decides.
    ("REGISTRY_STORAGE_RETENTION_DRYRUN", "true"),
];

#[tokio::test(flavor = "multi_thread")]
async fn retain_prints_deleted_tags_with_reasons_and_deletes_beside_a_server() {
    let server = TestServer::start().await;
    let root = server.folder().join("data");
    for (name, tag, days) in [
        ("team/app", "pr-17", 45),
        ("team/app", "pr-18", 8),
        ("team/app", "pr-19", 30),
        ("team/app", "latest", 99),
        ("app", "pr-1", 99),
        ("app", "pr-2", 98),
    ] {
        trifle(&server, name, tag).await;
        let path = format!("repositories/{name}/_manifests/tags/{tag}/current/link");
        let link = File::options().append(true).open(server.tree().join(path)).unwrap();
        link.set_modified(SystemTime::now() - days * DAY).unwrap();
    }
    let digest = |tag: &str| digest(empty_index(&format!("team/app:{tag}")));
    let hex = digest("pr-19");
    let hex = hex.strip_prefix("sha256:").unwrap();
    let pulled =
        format!("repositories/team/app/_manifests/revisions/sha256/{hex}/portcullis-pulled");
    let pulled = File::create(server.tree().join(pulled)).unwrap();
    pulled.set_modified(SystemTime::now() - 9 * DAY).unwrap();
    let expected = |what: &str| {
        format!(
            "{what} team/app:pr-19: not among the 1 latest, pushed 30 days ago, pulled 9 days ago \
             ({})\n{what} team/app:pr-17: not among the 1 latest, pushed 45 days ago, not pulled \
             since ({})\n",
            digest("pr-19"),
            digest("pr-17")
        )
    };
    let stored = || contents(&server.tree());
    let before = stored();
    let (code, stdout, stderr) = retain(&root, &["--dry-run"], RULES);
    assert_eq!((code, stdout), (Some(0), expected("would delete")));
    assert_eq!(stderr, "portcullis: 2 tags would be deleted, 3 under a rule\n");
    assert_eq!(stored(), before);
    let (code, stdout, stderr) = retain(&root, &[], RULES);
    assert_eq!((code, stdout), (Some(0), expected("deleted")));
    assert_eq!(stderr, "portcullis: 2 tags deleted and 2 manifests with them, 3 under a rule\n");
    let list = server.get("/v2/team/app/tags/list").await.expect(200).json();
    assert_eq!(list["tags"], serde_json::json!(["latest", "pr-18"]));
    server.get("/v2/team/app/manifests/pr-17").await.expect(404);
    server.get("/v2/app/manifests/pr-1").await.expect(200);
    let (code, stdout, stderr) = retain(&root, &[], RULES);
    assert_eq!((code, stdout.as_str()), (Some(0), ""));
    assert_eq!(stderr, "portcullis: no tags deleted and no manifests with them, 1 under a rule\n");
}

#[test]
fn exit_code_is_1_without_rules_or_with_a_rule_that_keeps_nothing() {
    let root = in_memory();
    for (variables, said) in [
        (&[][..], "storage.retention has no rules"),
        (&RULES[..2], "a rule that keeps nothing would delete every tag"),
        (&[("REGISTRY_STORAGE_RETENTION_RULES_0_KEEPLATEST", "0")], "would delete every tag"),
    ] {
        let (code, stdout, stderr) = retain(root.path(), &[], variables);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains(said), "{stderr}");
    }
}
