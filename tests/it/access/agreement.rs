//! A server, `portcullis access check` and a model of a few lines, on rules that chance makes: the three
//! agree, and a further rule takes nothing away.

use std::{fs, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::random::Random;

use crate::support::{
    Answered as _, TestServer,
    access::{GROUPS, NOBODY, by, guarded},
    content::{OCI_INDEX, empty_index, trifle},
    digest,
};

/// How many sets of rules chance makes.
const SETS: usize = 6;
const CALLERS: [&str; 3] = [NOBODY, "ann", "bob"];
const REPOSITORIES: [&str; 4] = ["app", "home/ann/app", "home/bob/app", "team/app"];
/// What a rule says, and what it lets a caller do.
const MAY: [(&str, &[&str]); 5] = [
    ("pull", &["pull"]),
    ("create", &["pull", "create"]),
    ("push", &["pull", "create", "push"]),
    ("delete", &["pull", "delete"]),
    ("all", &["pull", "create", "push", "delete"]),
];

fn rule(random: &mut Random) -> Value {
    let who = *random.pick(&["anyone", "users", "ann", "bob", "group:team"]);
    let patterns = ["**", "app", "home/**", "home/{user}/**", "team/app"];
    let mut rule = json!({ "who": [who], "may": [random.pick(&MAY).0] });
    if random.percent(80) {
        rule["repositories"] = json!([random.pick(&patterns)]);
    }
    if random.percent(30) {
        rule["except"] = json!([random.pick(&patterns[1..])]);
    }
    if random.percent(30) {
        rule["from"] = json!([random.pick(&["127.0.0.0/8", "10.0.0.0/8"])]);
    }
    rule
}

/// The model: whether a rule lets a caller on 127.0.0.1 do something.
fn allows(rule: &Value, caller: &str, action: &str, repository: &str) -> bool {
    let who = match rule["who"][0].as_str().unwrap() {
        "anyone" => true,
        "users" => caller != NOBODY,
        "group:team" => caller == "bob",
        user => caller == user,
    };
    let matches = |pattern: &Value| {
        let pattern = pattern[0].as_str().unwrap().replace("{user}", caller);
        pattern
            .strip_suffix("**")
            .map_or(pattern == repository, |start| repository.starts_with(start))
    };
    let named = rule["may"][0].as_str().unwrap();
    let (_, actions) = MAY.iter().find(|(may, _)| *may == named).unwrap();
    who && actions.contains(&action)
        && rule.get("from").is_none_or(|from| from[0] == "127.0.0.0/8")
        && rule.get("repositories").is_none_or(matches)
        && !rule.get("except").is_some_and(matches)
}

/// Whether the server lets a caller do something.
async fn lets(server: &TestServer, caller: &str, action: &str, repository: &str) -> bool {
    let missing = digest("missing");
    let (method, target, allowed) = match action {
        "pull" => ("GET", "tags/list".to_owned(), 200),
        "create" => ("POST", "blobs/uploads/".to_owned(), 202),
        "push" => ("PUT", "manifests/v1".to_owned(), 201),
        _ => ("DELETE", format!("manifests/{missing}"), 404),
    };
    let mut request = by(server, caller, method, &format!("/v2/{repository}/{target}"));
    if action == "push" {
        request = request.header("content-type", OCI_INDEX).body(empty_index("other"));
    }
    let status = request.answer().await.status.as_u16();
    let denied = if caller == NOBODY { 401 } else { 403 };
    assert!([allowed, denied].contains(&status), "{caller} {action} {repository}: {status}");
    status == allowed
}

/// Whether the command says yes.
fn says_yes(folder: &TempDir, caller: &str, action: &str, repository: &str) -> bool {
    let caller = if caller == NOBODY { "-" } else { caller };
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["access", "check", caller, action, repository, "--from", "127.0.0.1", "config.yml"])
        .current_dir(folder)
        .output()
        .unwrap();
    match output.status.code() {
        Some(0) => true,
        Some(1) => false,
        _ => panic!("{output:?}"),
    }
}

#[tokio::test]
async fn server_command_and_model_agree_on_random_rules() {
    let mut random = Random::new(19);
    for set in 0..SETS {
        let rules: Vec<Value> = (0..=set).map(|_| rule(&mut random)).collect();
        let server = guarded(&json!(rules)).await;
        for repository in REPOSITORIES {
            trifle(&server, repository, "v1").await;
        }
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "version": "0.1",
            "storage": { "filesystem": { "rootdirectory": "images" } },
            "auth": { "htpasswd": { "path": "htpasswd" } },
            "access": { "groupfile": "groups", "rules": rules },
        });
        fs::write(folder.path().join("config.yml"), config.to_string()).unwrap();
        fs::write(folder.path().join("groups"), GROUPS).unwrap();
        let line = |user| format!("{user}:$2y$05${}\n", ".".repeat(53));
        fs::write(folder.path().join("htpasswd"), ["ann", "bob"].map(line).concat()).unwrap();
        for caller in CALLERS {
            for repository in REPOSITORIES {
                for action in ["pull", "create", "push", "delete"] {
                    let by_model =
                        rules.iter().any(|rule| allows(rule, caller, action, repository));
                    let question = format!("{caller} {action} {repository}: {}", json!(rules));
                    assert_eq!(
                        lets(&server, caller, action, repository).await,
                        by_model,
                        "{question}"
                    );
                    assert_eq!(
                        says_yes(&folder, caller, action, repository),
                        by_model,
                        "{question}"
                    );
                }
            }
        }
    }
}
