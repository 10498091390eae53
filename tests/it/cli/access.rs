//! `portcullis access`: yes or no, with the line that decided.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

const CONFIG: &str = "\
version: 0.1
storage: {filesystem: {rootdirectory: images}}
auth: {htpasswd: {path: htpasswd}}
access:
  groupfile: groups
  rules:
    - {who: anyone, repositories: public/**, may: pull}
    - {who: \"group:team-a\", repositories: team-a/**, except: team-a/release/**, may: push}
    - who: users
      repositories: \"home/{user}/**\"
      may: [push, delete]
    - {who: users, repositories: \"{group}/**\", from: [10.0.0.0/8, unix], may: pull}
";

fn folder(config: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.yml"), config).unwrap();
    fs::write(folder.path().join("groups"), "# teams\nteam-a: ann cyd\nteam-b: bob\n").unwrap();
    let users = ["ann", "bob", "cyd"].map(|user| format!("{user}:$2y$05$"));
    let users = users.map(|user| user + &".".repeat(53)).join("\n");
    fs::write(folder.path().join("htpasswd"), users).unwrap();
    folder
}

/// Standard output with standard error behind it, and the exit code.
fn run(folder: &Path, arguments: &[&str]) -> (String, i32) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("access")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (text, status.code().unwrap())
}

#[test]
fn access_check_names_the_line_that_decided() {
    let folder = folder(CONFIG);
    for (arguments, expected, code) in [
        (
            "ann push team-a/app",
            "yes: rule 2 (config.yml:8) lets group:team-a push to team-a/**, and ann is in team-a \
             (groups:2)",
            0,
        ),
        (
            "cert:ann push team-a/app",
            "yes: rule 2 (config.yml:8) lets group:team-a push to team-a/**, and cert:ann is in \
             team-a (groups:2)\nportcullis: note: http.tls.clientidentity is not set, so no certificate lets a \
             client in",
            0,
        ),
        ("- pull public/app", "yes: rule 1 (config.yml:7) lets anyone pull public/**", 0),
        (
            "bob delete home/bob/app",
            "yes: rule 3 (config.yml:9) lets users delete from home/{user}/**",
            0,
        ),
        (
            "ann delete team-a/app",
            "no: rule 2 (config.yml:8) lets ann push to team-a/**; no rule lets ann delete from \
             team-a/app",
            1,
        ),
        (
            "ann push team-a/release/app",
            "no: no rule lets ann push to team-a/release/app; rule 2 (config.yml:8) excepts \
             team-a/release/**",
            1,
        ),
        (
            "bob pull team-b/app",
            "no: no rule lets bob pull team-b/app; rule 4 (config.yml:12) is for 10.0.0.0/8, unix \
             only (--from)",
            1,
        ),
        (
            "bob pull team-b/app --from 10.1.2.3",
            "yes: rule 4 (config.yml:12) lets users pull {group}/**",
            0,
        ),
        (
            "bob pull team-b/app --from unix",
            "yes: rule 4 (config.yml:12) lets users pull {group}/**",
            0,
        ),
        (
            "- push public/app",
            "no: rule 1 (config.yml:7) lets a caller without a password pull public/**; no rule \
             lets a caller without a password push to public/app",
            1,
        ),
    ] {
        let words: Vec<_> = arguments.split(' ').collect();
        let words = [&["check"], &words[..3], &["config.yml"], &words[3..]].concat();
        let (text, exit) = run(folder.path(), &words);
        assert_eq!((text.trim_end(), exit), (expected, code), "{arguments}");
    }
    let (text, code) = run(folder.path(), &["check", "eve", "pull", "public/a", "config.yml"]);
    assert!(text.contains("has no user eve") && code == 0, "{text}");
    for wrong in [
        &["check", "ann", "read", "a"][..],
        &["check", "ann", "pull", "A"],
        &["check", "ann", "all", "a"],
        &["check", "users", "pull", "a"],
        &["check", "grp:x", "pull", "a"],
        &["check", "ann", "pull", "a", "--from", "here"],
    ] {
        assert_eq!(run(folder.path(), wrong).1, 2, "{wrong:?}");
    }
}

#[test]
fn access_list_has_every_right_with_its_rule() {
    let folder = folder(CONFIG);
    let (text, code) = run(folder.path(), &["list", "ann", "config.yml"]);
    let expected = "\
ann is in team-a (groups:2)
rule 1 (config.yml:7) for anyone: pull in public/**
rule 2 (config.yml:8) for group:team-a: push in team-a/**, except team-a/release/**
rule 3 (config.yml:9) for users: push, delete in home/ann/**
rule 4 (config.yml:12) for users: pull in team-a/**, from 10.0.0.0/8, unix
";
    assert_eq!((&*text, code), (expected, 0));
    let (text, _) = run(folder.path(), &["list", "-", "config.yml"]);
    assert_eq!(text, "rule 1 (config.yml:7) for anyone: pull in public/**\n");
}

#[test]
fn access_without_the_section_says_so() {
    let folder = folder("version: 0.1\nstorage: inmemory\nauth: {htpasswd: {path: htpasswd}}\n");
    let (text, code) = run(folder.path(), &["check", "ann", "push", "a", "config.yml"]);
    assert!(text.starts_with("yes: there is no section `access`") && code == 0, "{text}");
    let (text, code) = run(folder.path(), &["check", "-", "pull", "a", "config.yml"]);
    assert!(text.contains("every request needs a password") && code == 1, "{text}");
}

#[test]
fn group_that_no_line_defines_is_a_problem_with_its_place() {
    let folder = folder(&CONFIG.replace("group:team-a", "group:team-c"));
    let (text, code) = run(folder.path(), &["list", "ann", "config.yml"]);
    assert_eq!(code, 1, "{text}");
    let place = folder.path().join("config.yml").display().to_string();
    assert!(text.contains(&format!("{place}:8:")), "{text}");
    assert!(text.contains("defines the group team-c: add the line `team-c: USER"), "{text}");

    fs::write(folder.path().join("groups"), "team-a ann\n").unwrap();
    let (text, _) = run(folder.path(), &["list", "ann", "config.yml"]);
    assert!(text.contains("line 1: there is no colon"), "{text}");
    fs::remove_file(folder.path().join("groups")).unwrap();
    let (text, _) = run(folder.path(), &["list", "ann", "config.yml"]);
    assert!(text.contains("cannot use the group file"), "{text}");
}
