//! The local authority as its clients see it: the names that it may certify, and those that it may
//! not.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::process::{Launched, Process, is_there};

/// Names and addresses that a certificate of the local authority may have.
const NAMES: [&str; 6] =
    ["registry.corp.example", "*.corp.example", "localhost", "127.0.0.1", "::1", "10.1.2.3"];

fn certs(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let output = command.current_dir(folder).arg("certs").args(arguments).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(printed).unwrap())
}

fn made(folder: &Path) {
    let hosts: Vec<_> = NAMES.iter().flat_map(|name| ["--host", name]).collect();
    let (done, printed) = certs(folder, &[&["--new"], hosts.as_slice()].concat());
    assert!(done, "{printed}");
}

fn shell(folder: &Path, command: &str) -> (bool, String) {
    let output = Command::new("sh").current_dir(folder).args(["-c", command]).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

#[test]
fn openssl_trusts_names_within_the_constraints_and_no_others() {
    if !is_there("openssl", "openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    made(folder.path());
    let verify = |leaf: &str, how: &str, name: &str| {
        let purpose = "-x509_strict -purpose sslserver";
        shell(
            folder.path(),
            &format!("openssl verify {purpose} -CAfile certs/ca.crt {how} {name} {leaf}"),
        )
    };
    for name in ["registry.corp.example", "other.corp.example", "localhost"] {
        let (done, printed) = verify("certs/server.crt", "-verify_hostname", name);
        assert!(done, "{name}: {printed}");
    }
    for address in ["127.0.0.1", "::1", "10.1.2.3"] {
        let (done, printed) = verify("certs/server.crt", "-verify_ip", address);
        assert!(done, "{address}: {printed}");
    }
    let (_, text) = shell(folder.path(), "openssl x509 -in certs/ca.crt -noout -text");
    assert!(text.contains("X509v3 Name Constraints: critical"), "{text}");
    assert!(text.contains("TLS Web Server Authentication"), "{text}");

    // An attacker with the key.
    for (name, extension) in [
        ("bank.example", "subjectAltName=DNS:bank.example"),
        ("8.8.8.8", "subjectAltName=IP:8.8.8.8"),
        ("mail", "subjectAltName=DNS:localhost\\nextendedKeyUsage=emailProtection"),
    ] {
        let (done, printed) = shell(
            folder.path(),
            &format!(
                "printf '{extension}\\n' > ext && \
                 openssl req -newkey rsa:2048 -nodes -keyout k -out csr -subj /CN=x && \
                 openssl x509 -req -in csr -CA certs/ca.crt -CAkey certs/ca.key -days 2 -extfile ext -out {name}.crt"
            ),
        );
        assert!(done, "{printed}");
        let (done, printed) = verify(&format!("{name}.crt"), "", "");
        assert!(!done, "{name}: {printed}");
    }
}

/// rustls, OpenSSL and Go: by name and by address.
#[tokio::test]
async fn clients_of_every_kind_believe_the_certificate_of_a_server() {
    let server = Process::start(&[("REGISTRY_HTTP_HOST", "registry.corp.example")]);
    let (port, ca) = (server.addr.port(), server.ca());
    for host in ["localhost", "127.0.0.1"] {
        let answer = server.client.get(format!("https://{host}:{port}/v2/")).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{host}");
    }
    if is_there("curl", "curl") {
        for (host, resolve) in [
            ("localhost", false),
            ("127.0.0.1", false),
            ("registry.corp.example", true),
            ("[::1]", true),
        ] {
            let mut curl = Command::new("curl");
            curl.args([
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--noproxy",
                "*",
                "--cacert",
            ]);
            curl.arg(&ca).arg(format!("https://{host}:{port}/v2/"));
            if resolve {
                curl.args(["--connect-to", &format!("{host}:{port}:127.0.0.1:{port}")]);
            }
            let output = curl.output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "401", "{host}: {output:?}");
        }
    }
    if is_there("skopeo", "skopeo") {
        let trusted = tempfile::tempdir().unwrap();
        fs::copy(&ca, trusted.path().join("ca.crt")).unwrap();
        for host in ["localhost", "127.0.0.1"] {
            let mut skopeo = Command::new("skopeo");
            skopeo.args(["list-tags", "--no-creds", "--cert-dir"]).arg(trusted.path());
            let output = skopeo.arg(format!("docker://{host}:{port}/x")).output().unwrap();
            let printed = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                !printed.contains("x509") && !printed.contains("certificate"),
                "{host}: {printed}"
            );
            assert!(
                printed.contains("nauthorized") || printed.contains("authentication"),
                "{printed}"
            );
        }
    }
    server.end().await;
}

#[test]
fn excluded_name_is_refused_with_the_command_that_makes_another_authority() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path());
    let before = crate::support::server::contents(folder.path());
    let (done, printed) = certs(folder.path(), &["--host", "bank.example"]);
    assert!(!done, "{printed}");
    assert!(printed.contains("/certs/ca.crt do not permit `bank.example`"), "{printed}");
    assert_eq!(crate::support::server::contents(folder.path()), before);
    let command = printed.split('`').find(|part| part.starts_with("portcullis certs")).unwrap();
    let arguments: Vec<_> = command.split(' ').skip(2).collect();
    let (done, printed) = certs(folder.path(), &arguments);
    assert!(done, "{printed}");
    assert!(printed.contains("/certs/ca.crt: created\n"), "{printed}");
    for name in ["bank.example", "registry.corp.example"] {
        assert!(printed.contains(name), "{printed}");
    }
}

#[test]
fn server_starts_without_the_authoritys_key_and_says_when_its_certificate_ends() {
    let folder = tempfile::tempdir().unwrap();
    for (days, is_told) in [("90", false), ("20", true)] {
        let (done, printed) = certs(folder.path(), &["--new", "--days", days]);
        assert!(done, "{printed}");
        let key = folder.path().join("certs/ca.key");
        let kept = fs::read(&key).unwrap();
        fs::remove_file(&key).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.current_dir(folder.path()).env_clear().arg("serve").stdout(Stdio::null());
        command.env("REGISTRY_HTTP_ADDR", "127.0.0.1:0");
        let Launched { mut child, log, .. } = Launched::new(command);
        let _ = Command::new("kill").arg(child.id().to_string()).status();
        assert!(child.wait().unwrap().success());
        let log = log.whole();
        let line = log.lines().find(|line| line.contains(" expires at "));
        assert_eq!(line.is_some(), is_told, "{log}");
        if let Some(line) = line {
            assert!(line.contains("level=warning"), "{line}");
            assert!(line.contains("run `portcullis certs` where ca.key is kept"), "{line}");
        }
        assert!(!key.exists());
        fs::write(&key, kept).unwrap();
    }
}
