//! Responses that leave before the bodies of their requests have arrived: every client gets them
//! all.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use testkit::{
    process::Outcome,
    require::{Need, met},
    skip::skip,
};

use crate::server::{PASSWORD, Server, USER};

const SIZES: [usize; 4] = [10, 100_000, 1_000_000, 10_000_000];

/// More than a manifest's limit.
const TOO_LARGE: usize = 10_000_000;

/// How often curl sends each request: over HTTP/2 it loses some responses, not all.
const TIMES: usize = 3;

/// A server, its address for clients, and a folder of theirs.
struct Stage {
    server: Server,
    base: String,
    folder: TempDir,
}

/// A request that the server answers before it has read the body.
struct Early {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    authenticated: bool,
    size: usize,
    expected: u16,
}

impl Stage {
    fn new() -> Self {
        let server = Server::on_loopback();
        let base = format!("https://{}", server.name());
        Self { server, base, folder: TempDir::new().expect("a temporary directory") }
    }

    fn authority(&self) -> PathBuf {
        self.server.trust().join("ca.crt")
    }

    fn curl(&self) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60", "--cacert"]);
        curl.arg(self.authority());
        curl
    }

    /// Begins an upload, and gives its path.
    fn upload(&self) -> String {
        let user = format!("{USER}:{PASSWORD}");
        let mut curl = self.curl();
        curl.args(["--user", &user, "--request", "POST", "--include"]);
        let answer = Outcome::of(curl.arg(self.base.clone() + UPLOADS)).succeeds();
        let location = answer.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
        });
        let location = location.expect("a location");
        location.strip_prefix(&self.base).unwrap_or(&location).to_owned()
    }

    /// Every kind of early response, at every size.
    fn requests(&self) -> Vec<Early> {
        let unknown = format!("{UPLOADS}6ba7b810-9dad-41d1-80b4-00c04fd430c8");
        let begun = self.upload();
        let mut requests = Vec::new();
        for size in SIZES {
            let range = format!("5-{}", size + 4);
            let range = vec![("Content-Range", range)];
            for (method, path, headers, authenticated, expected) in [
                ("POST", UPLOADS, vec![], false, 401),
                ("PATCH", &unknown, vec![], true, 404),
                ("PATCH", &begun, range, true, 416),
                ("PUT", "/v2/_catalog", vec![], true, 405),
                ("POST", UPLOADS, vec![], true, 202),
            ] {
                let path = path.to_owned();
                requests.push(Early { method, path, headers, authenticated, size, expected });
            }
        }
        requests.push(Early {
            method: "PUT",
            path: "/v2/app/manifests/latest".to_owned(),
            headers: vec![(
                "Content-Type",
                "application/vnd.oci.image.manifest.v1+json".to_owned(),
            )],
            authenticated: true,
            size: TOO_LARGE,
            expected: 413,
        });
        requests
    }

    /// Lets a program send them, which reports the responses that it did not get.
    fn all_answered(&self, mut program: Command) {
        let requests = self.requests();
        let lines = requests.iter().fold(String::new(), |mut lines, request| {
            let _ = writeln!(lines, "{}", request.json());
            lines
        });
        let file = self.folder.path().join("requests");
        fs::write(&file, lines).expect("a file can be written");
        program.arg(&self.base).arg(self.authority()).arg(format!("{USER}:{PASSWORD}")).arg(file);
        let said = Outcome::of(&mut program).succeeds();
        assert!(!said.contains("lost:") && said.contains("answered: "), "{said}");
    }
}

const UPLOADS: &str = "/v2/app/blobs/uploads/";

impl Early {
    fn json(&self) -> serde_json::Value {
        let headers: serde_json::Map<_, _> = self
            .headers
            .iter()
            .map(|(name, value)| ((*name).into(), value.clone().into()))
            .collect();
        serde_json::json!({
            "method": self.method, "path": self.path, "headers": headers,
            "authenticated": self.authenticated, "size": self.size, "expected": self.expected,
        })
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/answers").join(name)
}

/// Python with the packages of `tests/install-clients.sh`.
fn python(suite: &str) -> Option<Command> {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python").join("bin/python");
    if !python.is_file() {
        skip(suite, "Python's requests and oras are not installed", true);
        return None;
    }
    Some(Command::new(python))
}

#[test]
fn curl_gets_every_answer_over_either_version() {
    if !met("answers: curl", &[Need::Program("curl")]) {
        return;
    }
    let stage = Stage::new();
    let body = stage.folder.path().join("body");
    for request in stage.requests() {
        fs::write(&body, vec![b'x'; request.size]).expect("a file can be written");
        for version in ["--http1.1", "--http2"] {
            for _ in 0..TIMES {
                let mut curl = stage.curl();
                curl.args([version, "--request", request.method, "--data-binary"]);
                curl.arg(format!("@{}", body.display()));
                curl.args(["--output", "/dev/null", "--write-out", "%{http_code}"]);
                if request.authenticated {
                    curl.args(["--user", &format!("{USER}:{PASSWORD}")]);
                }
                for (name, value) in &request.headers {
                    curl.args(["--header", &format!("{name}: {value}")]);
                }
                let status = Outcome::of(curl.arg(stage.base.clone() + &request.path)).succeeds();
                assert_eq!(status, request.expected.to_string(), "{version} {}", request.json());
            }
        }
    }
}

#[test]
fn python_gets_every_answer() {
    let Some(mut python) = python("answers: python") else { return };
    python.arg(script("answers.py"));
    Stage::new().all_answered(python);
}

#[test]
fn node_gets_every_answer_over_either_version() {
    if !met("answers: node", &[Need::Toolchain("node")]) {
        return;
    }
    let mut node = Command::new("node");
    node.arg(script("answers.mjs"));
    Stage::new().all_answered(node);
}

#[test]
fn go_gets_every_answer_over_either_version() {
    if !met("answers: go", &[Need::Toolchain("go")]) {
        return;
    }
    let mut go = Command::new("go");
    go.arg("run").arg(script("answers.go"));
    Stage::new().all_answered(go);
}

/// oras sends a file before the server asks for its password, and reads the response afterwards.
#[test]
fn oras_of_python_pushes_files_of_any_size() {
    let Some(mut python) = python("answers: oras") else { return };
    let stage = Stage::new();
    let files = SIZES.map(|size| {
        let file = stage.folder.path().join(format!("file-{size}"));
        fs::write(&file, vec![b'x'; size]).expect("a file can be written");
        file
    });
    python.arg(script("push.py")).args([&stage.server.name(), USER, PASSWORD]).args(files);
    python.env("REQUESTS_CA_BUNDLE", stage.authority());
    Outcome::of(&mut python).succeeds();
}
