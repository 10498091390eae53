//! `portcullis certs` as a process.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers are called by tests only, and a test stops at the first surprise"
)]

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Output},
};

use portcullis::server::certificates::{self, Description};

fn certs(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("certs")
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn described(path: &Path) -> Description {
    let chain = certificates::load_chain(path).unwrap();
    certificates::describe(&chain[0]).unwrap()
}

#[test]
fn first_run_creates_everything_and_prints_the_trust_steps_of_clients() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) =
        certs(dir.path(), &["--new", "--host", "https://registry.example.com:5000/"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let ca = dir.path().join("certs/ca.crt");
    let ca = ca.display();
    for expected in [
        &*format!("Authority {ca}: created"),
        "/etc/docker/certs.d/registry.example.com:5000/ca.crt",
        "/etc/containers/certs.d/registry.example.com:5000/ca.crt",
        "ca = \"/etc/containerd/certs.d/registry.example.com:5000/ca.crt\"",
        &*format!("curl --cacert {ca} https://registry.example.com:5000/v2/"),
    ] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    let certs = dir.path().join("certs");
    for key in ["ca.key", "server.key"] {
        assert_eq!(fs::metadata(certs.join(key)).unwrap().mode() & 0o777, 0o600);
    }
    certificates::load(&certs.join("server.crt"), &certs.join("server.key")).unwrap();
    let names = described(&certs.join("server.crt")).names;
    assert_eq!(names[..2], ["registry.example.com", "localhost"]);
}

#[test]
fn directory_without_an_authority_gets_one_only_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, err) = certs(dir.path(), &["--host", "registry.example.com"]);
    assert_eq!(code, Some(1));
    let folder = dir.path().join("certs");
    let expected = format!("there is no certificate authority in {}", folder.display());
    assert!(err.contains(&expected) && err.contains("`portcullis certs --new`"), "{err}");
    assert!(!folder.exists());

    assert_eq!(certs(dir.path(), &["--new", "--host", "registry.example.com"]).0, Some(0));
    let authority = fs::read(folder.join("ca.crt")).unwrap();
    assert_eq!(certs(dir.path(), &["--host", "other.example.com"]).0, Some(0));
    assert_eq!(certs(dir.path(), &["--new"]).0, Some(0));
    assert_eq!(fs::read(folder.join("ca.crt")).unwrap(), authority);
}

#[test]
fn later_run_makes_a_new_certificate_by_the_same_authority() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| fs::read(dir.path().join("tls").join(name)).unwrap();
    certs(dir.path(), &["--new", "--out", "tls", "--host", "one.corp.example"]);
    let (ca, key, leaf) = (file("ca.crt"), file("ca.key"), file("server.crt"));

    let (code, out, _) = certs(dir.path(), &["--out", "tls", "--days", "10", "--host", "fd00::2"]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("/tls/ca.crt: kept\n"), "{out}");
    assert!(out.contains("certs.d/[fd00::2]:5000/ca.crt"), "{out}");
    assert_eq!((file("ca.crt"), file("ca.key")), (ca, key));
    assert_ne!(file("server.crt"), leaf);

    let certificate = described(&dir.path().join("tls/server.crt"));
    assert_eq!(certificate.not_after.as_second() - certificate.not_before.as_second(), 864_000);
    for name in ["fd00::2", "one.corp.example"] {
        assert!(certificate.names.contains(&name.to_owned()), "{certificate:?}");
    }
}

#[test]
fn show_prints_both_certificates() {
    let dir = tempfile::tempdir().unwrap();
    certs(dir.path(), &["--new", "--host", "one.example"]);
    let (code, out, err) = certs(dir.path(), &["show"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    for file in ["ca.crt", "server.crt"] {
        let certificate = described(&dir.path().join("certs").join(file));
        for text in [&certificate.subject, &certificate.fingerprint, &certificate.names.join(", ")]
        {
            assert!(out.contains(text), "{text}: {out}");
        }
    }
    assert!(out.contains("824 days left"), "{out}");

    fs::remove_file(dir.path().join("certs/ca.crt")).unwrap();
    let (code, out, _) = certs(dir.path(), &["show"]);
    assert_eq!(code, Some(0));
    assert!(out.contains(&format!("there is no {}/certs/ca.crt\n", dir.path().display())), "{out}");
}

#[test]
fn failures_are_reported_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = certs(dir.path(), &["show"]);
    assert_eq!((code, &*out), (Some(1), ""));
    let folder = dir.path().join("certs");
    let missing =
        format!("there are no certificates in {}: `portcullis certs --new`", folder.display());
    assert!(err.contains(&missing), "{err}");

    let (code, _, err) = certs(dir.path(), &["--host", "a b"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("`a b` is neither"), "{err}");
    assert!(!dir.path().join("certs").exists());

    for arguments in [["--days", "0"], ["--days", "9999"], ["--bogus", "x"]] {
        assert_eq!(certs(dir.path(), &arguments).0, Some(2), "{arguments:?}");
    }

    certs(dir.path(), &["--new"]);
    fs::remove_file(dir.path().join("certs/ca.key")).unwrap();
    let before = fs::read(dir.path().join("certs/server.crt")).unwrap();
    let (code, _, err) = certs(dir.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(err.contains("/certs/ca.crt but no /"), "{err}");
    assert_eq!(fs::read(dir.path().join("certs/server.crt")).unwrap(), before);
}
