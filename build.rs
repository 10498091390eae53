//! The commit that this build is of, for `portcullis version`: `PORTCULLIS_COMMIT` of the environment;
//! in a package of cargo the commit that cargo has noted; in an archive of git the one that git has
//! written into `.commit`; in a clone the commit that is checked out. None of them is an error.
//!
//! A development build names no commit of a clone: each commit would build the library again.

use std::{env, fs, path::Path, process::Command};

/// As git shortens.
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PORTCULLIS_COMMIT");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = match commit() {
        Some(commit) => format!("{version} ({})", commit.get(..DIGITS).unwrap_or(&commit)),
        None => version,
    };
    println!("cargo::rustc-env=PORTCULLIS_VERSION={version}");
}

fn commit() -> Option<String> {
    let given = env::var("PORTCULLIS_COMMIT").ok().and_then(|given| digits(&given));
    given.or_else(of_package).or_else(of_archive).or_else(of_clone)
}

/// A commit, if the text is one.
fn digits(text: &str) -> Option<String> {
    let text = text.trim();
    let is_commit = text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then(|| text.to_owned())
}

/// `{"git": {"sha1": "…"}, …}`, by `cargo package`.
fn of_package() -> Option<String> {
    let noted = fs::read_to_string(".cargo_vcs_info.json").ok()?;
    digits(noted.split("\"sha1\"").nth(1)?.split('"').nth(1)?)
}

/// `git archive` replaces the content of this file, as `.gitattributes` says.
fn of_archive() -> Option<String> {
    digits(&fs::read_to_string(".commit").ok()?)
}

fn of_clone() -> Option<String> {
    if env::var("PROFILE").is_ok_and(|profile| profile == "debug") {
        return None;
    }
    // This folder may be an unpacked archive within the clone of another project.
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = env::var("CARGO_MANIFEST_DIR").ok()?;
    if fs::canonicalize(top).ok()? != fs::canonicalize(here).ok()? {
        return None;
    }
    // Every commit and checkout adds a line to this log.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    digits(&git(&["rev-parse", "HEAD"])?)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
