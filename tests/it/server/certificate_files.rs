//! Certificate and key files in the forms that tools and operators produce: served, or refused with
//! a remedy. OpenSSL makes them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use portcullis::{
    config::Config,
    server::{CertificateSource, TlsOptions},
};
use reqwest::StatusCode;

use crate::support::TestServer;

/// A folder in which OpenSSL works.
struct Folder(tempfile::TempDir);

impl Folder {
    /// With a root, an authority below it, and that authority's certificate for localhost:
    /// `root.crt`, `middle.crt`, `leaf.crt` and `leaf.key`. `None` without OpenSSL.
    fn with_chain() -> Option<Self> {
        if !crate::support::process::is_there("openssl", "openssl") {
            return None;
        }
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("ca.ext", b"basicConstraints=critical,CA:TRUE\n");
        folder.write("leaf.ext", b"subjectAltName=DNS:localhost,IP:127.0.0.1\n");
        folder.runs("openssl req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.crt -subj /CN=root -days 9");
        folder.issues("middle", "root", "rsa:2048", "-days 9 -extfile ca.ext");
        folder.issues("leaf", "middle", "rsa:2048", "-days 9 -extfile leaf.ext");
        Some(folder)
    }

    /// Makes a key and a certificate for it by an authority.
    fn issues(&self, name: &str, by: &str, key: &str, options: &str) {
        self.runs(&format!(
            "openssl req -newkey {key} -nodes -keyout {name}.key -out {name}.csr -subj /CN=localhost.{name}"
        ));
        self.runs(&format!(
            "openssl x509 -req -in {name}.csr -CA {by}.crt -CAkey {by}.key -out {name}.crt {options}"
        ));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs a shell command.
    fn runs(&self, command: &str) {
        let output = Command::new("sh").current_dir(self.0.path()).args(["-c", command]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// `portcullis config --check` of a file that names these two.
    fn check(&self, certificate: &str, key: &str) -> (i32, String) {
        let file = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: data}}}}\nhttp:\n  addr: 127.0.0.1:0\n  \
             tls:\n    certificate: {certificate}\n    key: {key}\n"
        );
        self.write("config.yml", file.as_bytes());
        check(self.0.path(), "config.yml")
    }
}

/// The exit code, and standard error, where `$PWD` stands for the folder: so an absolute path is told
/// from a relative one, and a command that it contains can be run.
fn check(folder: &Path, file: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.current_dir(folder).env_clear().args(["config", "--check", file]);
    let output = command.output().unwrap();
    assert!(output.stdout.is_empty());
    let printed = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), printed.replace(folder.to_str().unwrap(), "$PWD"))
}

fn use_files(config: &mut Config, certificate: PathBuf, key: PathBuf) {
    config.http.server.tls = TlsOptions::with(CertificateSource::Files { certificate, key });
}

/// Sends a request to a server with these files, trusting the root alone: the server must send the
/// whole chain, in the right order.
async fn serves(folder: &Folder, certificate: &str, key: &str) -> StatusCode {
    let (certificate, key) = (folder.path(certificate), folder.path(key));
    let server = TestServer::with(|config| use_files(config, certificate, key)).await;
    let root = reqwest::Certificate::from_pem(folder.read("root.crt").as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([root]).no_proxy().build().unwrap();
    let answer = client.get(format!("https://localhost:{}/v2/", server.addr().port()));
    answer.send().await.unwrap().status()
}

#[tokio::test]
async fn chain_is_served_whole_however_its_file_is_written() {
    let Some(folder) = Folder::with_chain() else { return };
    let [root, middle, leaf] = ["root.crt", "middle.crt", "leaf.crt"].map(|name| folder.read(name));
    let key = folder.read("leaf.key");
    let whole = format!("{leaf}{middle}{root}");
    for (case, certificate) in [
        ("as it should be", format!("{leaf}{middle}")),
        ("with the root", whole.clone()),
        ("byte order mark", format!("\u{feff}{whole}")),
        ("joined without a newline", format!("{}{}{root}", leaf.trim_end(), middle.trim_end())),
        ("joined by spaces", whole.replace('\n', " ")),
        ("Windows' line ends", whole.replace('\n', "\r\n")),
        ("indented", whole.lines().map(|line| format!("    {line}\n")).collect()),
        ("root first", format!("{root}{middle}{leaf}")),
        ("leaf in the middle", format!("{middle}{leaf}{root}")),
        ("root before the authority", format!("{leaf}{root}{middle}")),
        ("text around", format!("subject=x\n{leaf}issuer=y\n{middle}")),
        ("OpenSSL's older name", whole.replace(" CERTIFICATE", " X509 CERTIFICATE")),
        ("the key in between", format!("{leaf}{key}{middle}")),
    ] {
        folder.write("chain.pem", certificate.as_bytes());
        let status = serves(&folder, "chain.pem", "leaf.key").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{case}");
    }
    folder.write("chain.pem", whole.as_bytes());
    for (case, key) in [
        ("byte order mark", format!("\u{feff}{key}")),
        ("in a line", key.replace('\n', " ")),
        ("behind a certificate", format!("{}{key}", leaf.trim_end())),
    ] {
        folder.write("odd.key", key.as_bytes());
        let status = serves(&folder, "chain.pem", "odd.key").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{case}");
    }
    // With the trust settings that OpenSSL appends to a certificate.
    folder.runs("openssl x509 -in leaf.crt -trustout -addtrust serverAuth -out trusted.crt");
    folder.write("chain.pem", format!("{}{middle}", folder.read("trusted.crt")).as_bytes());
    assert_eq!(serves(&folder, "chain.pem", "leaf.key").await, StatusCode::UNAUTHORIZED);
}

#[test]
fn chain_in_another_order_is_reported_and_one_in_order_is_not() {
    let Some(folder) = Folder::with_chain() else { return };
    let [root, middle, leaf] = ["root.crt", "middle.crt", "leaf.crt"].map(|name| folder.read(name));
    folder.write("chain.pem", format!("{root}{middle}{leaf}").as_bytes());
    let (code, printed) = folder.check("chain.pem", "leaf.key");
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("note: $PWD/config.yml:6:18: http.tls.certificate: "), "{printed}");
    assert!(printed.contains("not in the order in which clients expect them"), "{printed}");
    folder.write("chain.pem", format!("{leaf}{middle}{root}").as_bytes());
    assert!(!folder.check("chain.pem", "leaf.key").1.contains("order"));
}

/// The command that a message has in it.
fn command(printed: &str) -> &str {
    printed.split('`').nth(1).unwrap_or_else(|| panic!("there is no command: {printed}"))
}

#[test]
fn certificate_that_clients_refuse_is_refused_with_the_command_that_makes_another() {
    let Some(folder) = Folder::with_chain() else { return };
    // Without extensions, OpenSSL makes version 1.
    folder.issues("one", "middle", "rsa:2048", "-days 9");
    folder.issues("short", "middle", "rsa:1024", "-days 9 -extfile leaf.ext");
    for (name, what) in [
        ("one", "is of X.509 version 1, in which no host names can stand"),
        ("short", "is for an RSA key of 1024 bits, and TLS takes 2048 to 8192"),
    ] {
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        let (code, printed) = folder.check(&certificate, &key);
        assert_eq!(code, 1, "{printed}");
        let problems: Vec<_> =
            printed.lines().filter(|line| !line.contains(": warning: ")).collect();
        assert_eq!(problems.len(), 1, "{printed}");
        let start = "portcullis: $PWD/config.yml:6:18: http.tls.certificate: the certificate in ";
        assert!(problems[0].starts_with(start) && problems[0].contains(what), "{printed}");
        // The command in the message works.
        folder.runs(command(problems[0]));
        let (code, printed) = folder.check(&certificate, &key);
        assert_eq!(code, 0, "{printed}");
        let chain =
            portcullis::server::certificates::load_chain(&folder.path(&certificate)).unwrap();
        let names = portcullis::server::certificates::describe(&chain[0]).unwrap().names;
        assert_eq!(names, [format!("localhost.{name}")]);
    }
}

#[test]
fn file_of_another_format_is_named_with_the_command_that_converts_it() {
    let Some(folder) = Folder::with_chain() else { return };
    folder.runs("openssl x509 -in leaf.crt -outform der -out leaf.der");
    folder.runs("openssl pkey -in leaf.key -outform der -out key.der");
    folder.runs("openssl pkcs12 -export -in leaf.crt -inkey leaf.key -passout pass: -out leaf.pfx");
    folder.runs("openssl crl2pkcs7 -nocrl -certfile leaf.crt -out leaf.p7b");
    folder.runs("iconv -f UTF-8 -t UTF-16 leaf.crt > leaf.utf16");
    for (certificate, key, key_name, what, has_command) in [
        ("leaf.der", "leaf.key", "http.tls.certificate", "leaf.der is DER", true),
        ("leaf.p7b", "leaf.key", "http.tls.certificate", "leaf.p7b is PKCS#7", true),
        ("leaf.utf16", "leaf.key", "http.tls.certificate", "leaf.utf16 is encoded in UTF-16", true),
        ("leaf.crt", "key.der", "http.tls.key", "key.der is DER", true),
        // OpenSSL prompts for a password, even an empty one.
        ("leaf.pfx", "leaf.key", "http.tls.certificate", "leaf.pfx is PKCS#12", false),
        ("leaf.crt", "leaf.pfx", "http.tls.key", "leaf.pfx is PKCS#12", false),
        (
            "leaf.csr",
            "leaf.key",
            "http.tls.certificate",
            "leaf.csr is a certificate signing request",
            false,
        ),
    ] {
        let (code, printed) = folder.check(certificate, key);
        assert_eq!(code, 1, "{printed}");
        assert!(printed.contains(&format!(" {key_name}: $PWD/{what}")), "{printed}");
        if has_command {
            folder.runs(command(&printed));
            let made = |name: &str| match folder.path(&format!("{name}.pem")).exists() {
                true => format!("{name}.pem"),
                false => name.to_owned(),
            };
            let (code, printed) = folder.check(&made(certificate), &made(key));
            assert_eq!(code, 0, "{printed}");
            let _ = fs::remove_file(folder.path(&format!("{certificate}.pem")));
            let _ = fs::remove_file(folder.path(&format!("{key}.pem")));
        }
    }
}

#[test]
fn expired_certificate_is_served_with_a_warning() {
    let Some(folder) = Folder::with_chain() else { return };
    folder.issues("over", "middle", "rsa:2048", "-days -1 -extfile leaf.ext");
    let (code, printed) = folder.check("over.crt", "over.key");
    assert_eq!(code, 0, "{printed}");
    let line = printed.lines().find(|line| line.contains("has expired at ")).unwrap_or(&printed);
    assert!(line.contains("warning: $PWD/config.yml:6:18: http.tls.certificate: "), "{line}");
    assert!(line.contains("put a renewed one there"), "{line}");
    let (_, printed) = folder.check("leaf.crt", "leaf.key");
    assert!(!printed.contains("expire"), "{printed}");
}

#[test]
fn key_of_another_certificate_is_named_with_both_files() {
    let Some(folder) = Folder::with_chain() else { return };
    let (code, printed) = folder.check("leaf.crt", "middle.key");
    assert_eq!(code, 1, "{printed}");
    assert!(
        printed.contains("$PWD/middle.key does not belong to the certificate in $PWD/leaf.crt"),
        "{printed}"
    );
}

#[test]
fn check_reports_every_fault_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    fs::write(folder.path().join("file"), "no directory").unwrap();
    fs::write(folder.path().join("bad.pem"), "junk").unwrap();
    fs::write(folder.path().join("users"), "alice\n").unwrap();
    let yaml = format!(
        "version: 0.1
storage:
  filesystem:
    rootdirectory: file
auth:
  htpasswd:
    path: users
http:
  addr: {addr}
  redirectaddr: 192.0.2.1:80
  host: 'not a host'
  debug:
    addr: 127.0.0.1:nothing
  tls:
    certificate: missing.crt
    key: bad.pem
    clientcas: [bad.pem, missing.pem]
notifications:
  endpoints: [{{name: hook, url: nowhere}}, {{url: 'http://a'}}]
health:
  http: [{{uri: 'not an address'}}]
"
    );
    fs::write(folder.path().join("config.yml"), yaml).unwrap();
    let before = crate::support::server::files(folder.path());
    let (code, printed) = check(folder.path(), "config.yml");
    assert_eq!(code, 1, "{printed}");
    for start in [
        "portcullis: $PWD/config.yml:4:20: storage.filesystem.rootdirectory: cannot use $PWD/file",
        "portcullis: warning: $PWD/config.yml:7:11: auth.htpasswd.path: $PWD/users: line 1: there is no colon",
        "portcullis: warning: $PWD/config.yml:7:11: auth.htpasswd.path: $PWD/users: no user can log in",
        "portcullis: warning: $PWD/config.yml:9:9: http.addr: 127.0.0.1:",
        "portcullis: $PWD/config.yml:10:17: http.redirectaddr: cannot listen on 192.0.2.1:80: it is not an address",
        "portcullis: $PWD/config.yml:13:11: http.debug.addr: cannot listen on 127.0.0.1:nothing",
        "portcullis: $PWD/config.yml:15:18: http.tls.certificate: there is no file $PWD/missing.crt",
        "portcullis: $PWD/config.yml:16:10: http.tls.key: there is no private key in $PWD/bad.pem",
        "portcullis: $PWD/config.yml:17:16: http.tls.clientcas: http.tls.clientcas cannot be used: there is no certificate in $PWD/bad.pem",
        "portcullis: $PWD/config.yml:17:16: http.tls.clientcas: http.tls.clientcas cannot be used: there is no file $PWD/missing.pem",
        "portcullis: http.host: `not a host`",
        "portcullis: notifications.endpoints: the `url` of `hook`",
        "portcullis: notifications.endpoints: an endpoint has no `name`",
    ] {
        assert_eq!(
            printed.lines().filter(|line| line.starts_with(start)).count(),
            1,
            "{start}: {printed}"
        );
    }
    assert!(printed.contains("not an address"), "the health check: {printed}");
    assert_eq!(crate::support::server::files(folder.path()), before, "nothing is made");
}

#[test]
fn check_succeeds_beside_a_running_server() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!(
        "version: 0.1\nstorage: inmemory\nauth: none\nhttp: {{addr: '{}', tls: off}}\n",
        taken.local_addr().unwrap()
    );
    fs::write(folder.path().join("config.yml"), &yaml).unwrap();
    let (code, printed) = check(folder.path(), "config.yml");
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("is in use"), "{printed}");
    // Two listeners of one configuration on one address are an error.
    drop(taken);
    fs::write(
        folder.path().join("config.yml"),
        "version: 0.1\nstorage: inmemory\nauth: none\nhttp: {addr: '127.0.0.1:18937', tls: off, debug: {addr: \
         '127.0.0.1:18937'}}\n",
    )
    .unwrap();
    let (code, printed) = check(folder.path(), "config.yml");
    assert_eq!(code, 1, "{printed}");
    assert!(
        printed.contains("http.debug.addr: 127.0.0.1:18937 is taken by http.addr"),
        "{printed}"
    );
}
