//! `portcullis serve` as a process: its files, its output, its log, and its end.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use portcullis::oci::ErrorCode;

use crate::support::{
    digest,
    process::{Launched, Log},
    server::{Answered as _, write_user},
};

fn portcullis(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.current_dir(folder).env_clear();
    command
}

/// A server that runs as a process.
struct Process {
    child: Child,
    port: u16,
    log: Log,
}

impl Process {
    fn start(folder: &Path, config: Option<&str>, variables: &[(&str, &str)]) -> Self {
        let mut command = portcullis(folder);
        command.arg("serve").args(config).env("REGISTRY_HTTP_ADDR", "127.0.0.1:0");
        command.envs(variables.iter().copied());
        command.stdout(Stdio::piped());
        let Launched { child, port, log } = Launched::new(command);
        Self { child, port, log }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Ends it as an operator would; gives its output and its log.
    async fn end(mut self, signal: &str) -> (String, String) {
        self.signal(signal);
        // Off the runtime: connected clients have to react to the shutdown.
        let ended = tokio::task::spawn_blocking(move || {
            let status = self.child.wait().unwrap();
            let mut printed = String::new();
            self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
            (status, printed, self.log.whole())
        });
        let (status, printed, log) = ended.await.unwrap();
        assert_eq!(status.code(), Some(0), "{log}");
        (printed, log)
    }

    async fn get(&self, ca: &Path, user: &str, password: &str) -> u16 {
        let request = self.client(ca).get(self.url("/v2/"));
        request.basic_auth(user, Some(password)).answer().await.status.as_u16()
    }

    /// A client without connections.
    fn client(&self, ca: &Path) -> reqwest::Client {
        let ca = reqwest::Certificate::from_pem(&fs::read(ca).unwrap()).unwrap();
        reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    portcullis(folder).args(arguments).output().unwrap()
}

#[tokio::test]
async fn first_start_creates_missing_files_and_reports_them_once() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("certs/ca.crt");
    let first = Process::start(folder.path(), None, &[]);
    for (file, mode) in [
        ("certs/ca.key", 0o600),
        ("certs/server.key", 0o600),
        ("auth/htpasswd", 0o600),
        ("auth/admin.password", 0o600),
        ("auth", 0o700),
        ("data", 0o700),
    ] {
        let found = fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{file}");
    }
    let port = first.port;
    // The output can be read to its end after the process has ended. It is not a terminal, so the
    // password is written to a file.
    let (printed, log) = first.end("TERM").await;
    let kept = folder.path().join("auth/admin.password");
    let password = fs::read_to_string(&kept).unwrap();
    let password = password.trim_end();
    assert!(password.len() >= 20 && !printed.contains(password), "{printed}");
    assert!(printed.contains(&format!("password  in {}\n", kept.display())), "{printed}");
    for part in [
        format!("https://localhost:{port}").replace("localhost", "127.0.0.1"),
        format!("docker login 127.0.0.1:{port} -u admin"),
        "/etc/docker/certs.d/".to_owned(),
        "/etc/containers/certs.d/".to_owned(),
        "hosts.toml".to_owned(),
        "curl --cacert".to_owned(),
        ca.display().to_string(),
    ] {
        assert!(printed.contains(&part), "{part}: {printed}");
    }
    assert!(!log.contains(password), "a password is in the log");

    let authority = fs::read(&ca).unwrap();
    let second = Process::start(folder.path(), None, &[]);
    assert_eq!(second.get(&ca, "admin", password).await, 200);
    assert_eq!(second.get(&ca, "admin", "another").await, 401);
    let (printed, _) = second.end("INT").await;
    let news = printed.lines().filter(|line| !line.contains(" HTTP/")).count();
    assert_eq!(news, 0, "the second start has nothing new to say: {printed}");
    assert_eq!(fs::read(&ca).unwrap(), authority);
}

#[tokio::test]
async fn configuration_file_and_variables_are_honoured() {
    let folder = tempfile::tempdir().unwrap();
    write_user(&folder.path().join("users"), "carol", "password");
    let config = "version: 0.1\n\
                  storage: {filesystem: {rootdirectory: store}}\n\
                  auth: {htpasswd: {realm: Here, path: users}}\n";
    fs::write(folder.path().join("config.yml"), config).unwrap();
    let server =
        Process::start(folder.path(), Some("config.yml"), &[("REGISTRY_LOG_FORMATTER", "json")]);
    let ca = folder.path().join("certs/ca.crt");
    assert_eq!(server.get(&ca, "carol", "password").await, 200);
    assert!(folder.path().join("store").is_dir());
    let (_, log) = server.end("TERM").await;
    for line in log.lines() {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(json["time"].is_string() && json["level"].is_string() && json["msg"].is_string());
    }
}

#[tokio::test]
async fn nothing_secret_reaches_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("auth/htpasswd");
    fs::create_dir(folder.path().join("auth")).unwrap();
    write_user(&users, "carol", "sesame-right");
    let server = Process::start(folder.path(), None, &[("REGISTRY_LOG_LEVEL", "debug")]);
    let ca = folder.path().join("certs/ca.crt");
    assert_eq!(server.get(&ca, "carol", "sesame-right").await, 200);
    assert_eq!(server.get(&ca, "carol", "sesame-wrong").await, 401);
    // A login that is refused is logged with the user (docs/LOGGING.md), never with the password.
    assert_eq!(server.get(&ca, "nobody", "sesame-typo").await, 401);
    let hash = fs::read_to_string(&users).unwrap().trim().split_once(':').unwrap().1.to_owned();
    // The message about a line must not quote it.
    fs::write(&users, "dave:{PLAIN}sesame-plain\nsesame-without-colon\n").unwrap();
    server.signal("HUP");
    let ended = async { while server.get(&ca, "carol", "sesame-right").await == 200 {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), ended).await.unwrap();
    let (printed, log) = server.end("TERM").await;
    assert!(printed.contains(" - carol ["), "requests are logged: {printed}");
    assert!(log.contains("user=nobody"), "refused logins are logged: {log}");
    for secret in [
        "sesame",
        &hash,
        "authorization",
        "Basic ",
        &STANDARD.encode("carol:sesame-right"),
        &STANDARD.encode("carol:sesame-wrong"),
        &STANDARD.encode("nobody:sesame-typo"),
    ] {
        assert!(!log.contains(secret) && !printed.contains(secret), "{secret}: {log}");
    }
}

#[test]
fn exit_code_of_failures_is_1_and_of_usage_errors_2() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.yml"), "version: 0.1\nstorage:\n  filesytem: {}\n").unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for (arguments, code, expected) in [
        (&["serve", "missing.yml"][..], 1, "missing.yml: check the path\n"),
        (&["serve", "bad.yml"], 1, "filesystem"),
        (&["frobnicate"], 2, "frobnicate"),
        (&["serve", "--frobnicate"], 2, "frobnicate"),
        (&[], 2, "Usage"),
    ] {
        let output = run(folder.path(), arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
    let output = portcullis(folder.path())
        .arg("serve")
        .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "file/below")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("rootdirectory"), "it says what to change: {text}");
}

#[test]
fn version_is_printed_for_the_arguments_that_registry_2_takes() {
    let folder = tempfile::tempdir().unwrap();
    for argument in ["-v", "-V", "--version"] {
        let output = run(folder.path(), &[argument]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, format!("portcullis {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn key_of_another_certificate_is_an_error_that_names_both() {
    let folder = tempfile::tempdir().unwrap();
    for out in ["one", "two"] {
        assert!(run(folder.path(), &["certs", "--new", "--out", out]).status.success());
    }
    let output = portcullis(folder.path())
        .arg("serve")
        .env("REGISTRY_HTTP_TLS_CERTIFICATE", "one/server.crt")
        .env("REGISTRY_HTTP_TLS_KEY", "two/server.key")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("does not belong to the certificate"), "{text}");
}

#[test]
fn every_command_has_help_with_an_example() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["htpasswd", "--help"],
        &["certs", "--help"],
        &["certs", "show", "--help"],
        &["verify", "--help"],
        &["config", "--help"],
    ] {
        let output = run(folder.path(), arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("Example"), "{arguments:?}: {text}");
    }
    let version = run(folder.path(), &["--version"]);
    let expected = format!("portcullis {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), expected);
}

/// The log, for operators and for programs.
#[tokio::test]
async fn each_request_has_a_line_on_standard_output_in_the_configured_format() {
    for form in ["combined", "json"] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("auth")).unwrap();
        write_user(&folder.path().join("auth/htpasswd"), "carol", "password");
        let formatter =
            [("REGISTRY_LOG_ACCESSLOG_FORMATTER", form), ("REGISTRY_LOG_LEVEL", "info")];
        let server = Process::start(folder.path(), None, &formatter);
        let client = server.client(&folder.path().join("certs/ca.crt"));
        let blob = digest("hello");
        let push = server.url(&format!("/v2/team/app/blobs/uploads/?digest={blob}"));
        let push = client.post(push).basic_auth("carol", Some("password")).body("hello");
        let answer = push.header("user-agent", "pusher \"1\"").answer().await.expect(201);
        let id = answer.header("x-request-id").to_owned();
        let pull = client.get(server.url(&format!("/v2/team/app/blobs/{blob}")));
        pull.basic_auth("carol", Some("password")).answer().await.expect(200);
        client.get(server.url("/v2/team/app/tags/list?n=1")).answer().await.expect(401);
        let (printed, log) = server.end("TERM").await;
        assert!(!log.contains("/v2/"), "{log}");
        let find = |what: &str| {
            let line = printed.lines().find(|line| line.contains(what));
            line.unwrap_or_else(|| panic!("{what}: {printed}")).to_owned()
        };
        if form == "combined" {
            let line = find("POST");
            assert!(line.starts_with("127.0.0.1 - carol ["), "{line}");
            assert!(line.contains(" received=5 seconds="), "{line}");
            assert!(line.ends_with(&format!(" request={id}")), "{line}");
            for part in [
                " HTTP/2.0\" 201 0 \"\" \"pusher \\\"1\\\"\" ",
                &format!(" repository=team/app digest={blob} "),
            ] {
                assert!(line.contains(part), "{part}: {line}");
            }
            assert!(find("GET /v2/team/app/blobs/").contains("\" 200 5 \"\" "));
            assert!(find("tags/list?n=1").starts_with("127.0.0.1 - - ["));
        } else {
            let line: serde_json::Value = serde_json::from_str(&find("POST")).unwrap();
            for (name, value) in [
                ("user", serde_json::json!("carol")),
                ("status", serde_json::json!(201)),
                ("received", serde_json::json!(5)),
                ("repository", serde_json::json!("team/app")),
                ("digest", serde_json::json!(blob)),
                ("agent", serde_json::json!("pusher \"1\"")),
                ("request", serde_json::json!(id)),
            ] {
                assert_eq!(line[name], value, "{line}");
            }
        }
    }
}

/// The changes that SIGHUP applies, and those that need a restart.
#[tokio::test]
async fn reload_by_sighup_applies_the_keys_that_need_no_restart() {
    let folder = tempfile::tempdir().unwrap();
    let configure = |yaml: &str| {
        let head = "version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: data}";
        fs::write(folder.path().join("config.yml"), format!("{head}{yaml}")).unwrap();
    };
    for (file, user) in [("one", "carol"), ("two", "dave")] {
        write_user(&folder.path().join(file), user, "password");
    }
    assert!(run(folder.path(), &["certs", "--new", "--out", "other"]).status.success());
    // At level info the log has the message that the server listens.
    configure("}\nauth: {htpasswd: {path: one}}\n");
    let config = fs::read_to_string(folder.path().join("config.yml")).unwrap();
    let config = config.replace("level: warn", "level: info");
    fs::write(folder.path().join("config.yml"), config).unwrap();
    let server = Process::start(folder.path(), Some("config.yml"), &[]);
    let ca = folder.path().join("certs/ca.crt");
    assert_eq!(server.get(&ca, "carol", "password").await, 200);
    let is_let_in = async |ca: &Path, user: &str| {
        let request = async { while server.get(ca, user, "password").await != 200 {} };
        tokio::time::timeout(std::time::Duration::from_secs(60), request).await.unwrap();
    };

    // An invalid configuration changes nothing.
    configure(", filesytem: {}}\n");
    server.signal("HUP");
    let refused = async {
        while !server.log.so_far().contains("cannot use the new configuration") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), refused).await.unwrap();
    configure(
        ", maintenance: {readonly: {enabled: true}}}\n\
         auth: {htpasswd: {path: two, realm: Elsewhere}}\n\
         http: {headers: {X-New: [there]}}\n",
    );
    server.signal("HUP");
    is_let_in(&ca, "dave").await;
    assert_eq!(server.get(&ca, "carol", "password").await, 401);
    let answer = server.client(&ca).post(server.url("/v2/a/blobs/uploads/"));
    let answer = answer.basic_auth("dave", Some("password")).answer().await;
    assert_eq!(answer.header("x-new"), "there");
    answer.expect_error(405, ErrorCode::Unsupported);
    let answer = server.client(&ca).get(server.url("/v2/")).answer().await.expect(401);
    assert!(answer.header("www-authenticate").contains("Portcullis"), "the realm is as it was");

    // And back, with another certificate.
    configure(
        "}\nauth: {htpasswd: {path: two}}\n\
         http: {tls: {certificate: other/server.crt, key: other/server.key}}\n",
    );
    server.signal("HUP");
    let other = folder.path().join("other/ca.crt");
    let trusts =
        async { while server.client(&other).get(server.url("/v2/")).send().await.is_err() {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), trusts).await.unwrap();
    let answer = server.client(&other).post(server.url("/v2/a/blobs/uploads/"));
    answer.basic_auth("dave", Some("password")).answer().await.expect(202);
    let (_, log) = server.end("TERM").await;
    assert!(log.contains("cannot use the new configuration; the old one stays in force"), "{log}");
    assert!(log.contains("filesytem"), "{log}");
    let line = log.lines().find(|line| line.contains("auth.htpasswd.realm")).unwrap_or(&log);
    assert!(line.contains("takes effect after a restart"), "{line}");
    assert!(!log.contains("applied from"), "that is less than a warning: {log}");
}

#[tokio::test]
async fn reload_keeps_unusable_parts_and_applies_the_others() {
    let folder = tempfile::tempdir().unwrap();
    write_user(&folder.path().join("users"), "carol", "password");
    let configure = |readonly: bool, users: &str, header: &str| {
        let yaml = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: data}}, maintenance: \
             {{readonly: {{enabled: {readonly}}}}}}}\nauth: {{htpasswd: {{path: {users}}}}}\n\
             http: {{headers: {{X-New: [\"{header}\"]}}}}\n"
        );
        fs::write(folder.path().join("config.yml"), yaml).unwrap();
    };
    configure(false, "users", "a");
    let server = Process::start(folder.path(), Some("config.yml"), &[]);
    let client = server.client(&folder.path().join("certs/ca.crt"));
    let push = async || {
        let push = client.post(server.url("/v2/a/blobs/uploads/"));
        push.basic_auth("carol", Some("password")).answer().await
    };
    push().await.expect(202);
    configure(true, "missing", "a\\nb");
    server.signal("HUP");
    let refused = async { while push().await.status != 405 {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), refused).await.unwrap();
    assert_eq!(push().await.header("x-new"), "a");
    let (_, log) = server.end("TERM").await;
    for (key, what) in [
        ("storage.maintenance.readonly.enabled", "applied from"),
        ("http.headers", "changed but not applied"),
        ("auth.htpasswd.path", "changed but not applied"),
    ] {
        let line = log.lines().find(|line| line.ends_with(&format!("key={key}")));
        assert!(line.is_some_and(|line| line.contains(what)), "{key}: {log}");
    }
}

#[test]
fn missing_certificate_and_key_are_named_with_their_keys_and_lines() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = crate::support::server::certificates();
    let at = |name: &str| fs::copy(certificates.join(name), folder.path().join(name)).unwrap();
    let config = "version: 0.1\nstorage: inmemory\nauth: none\nhttp:\n  addr: 127.0.0.1:0\n  tls:\n    \
                  certificate: server.crt\n    key: server.key\n";
    fs::write(folder.path().join("config.yml"), config).unwrap();
    let refused = |place: &str, file: &str| {
        let expected = format!(
            "portcullis: {0}/config.yml:{place}: there is no file {0}/{file}\n",
            folder.path().display()
        );
        for arguments in [&["serve", "config.yml"][..], &["config", "--check", "config.yml"]] {
            let Output { status, stderr, .. } = run(folder.path(), arguments);
            let stderr = String::from_utf8(stderr).unwrap();
            assert_eq!(status.code(), Some(1), "{stderr}");
            assert!(stderr.contains(&expected), "{arguments:?}: {stderr}");
        }
    };
    at("server.key");
    refused("7:18: http.tls.certificate", "server.crt");
    at("server.crt");
    fs::remove_file(folder.path().join("server.key")).unwrap();
    refused("8:10: http.tls.key", "server.key");
}
