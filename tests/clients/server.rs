//! A Portcullis of the test's own, configured like a registry:2.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

use tempfile::TempDir;
use testkit::process::{Daemon, Outcome};

/// The user of every server.
pub(crate) const USER: &str = "ann";
/// A user who may do everything, of servers with access rules.
pub(crate) const ADMIN: &str = "root";
/// The password of both.
pub(crate) const PASSWORD: &str = "correct horse battery";
/// No user's password.
pub(crate) const WRONG_PASSWORD: &str = "incorrect donkey";

const LAST_LINES: usize = 40;
const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// Settings that tests change.
struct Settings<'a> {
    /// `http.tls.minimumtls`
    minimum: &'a str,
    /// `http.limits`, as a mapping in YAML.
    limits: &'a str,
    /// The section `access`, or nothing, behind further keys of `auth.htpasswd`.
    access: &'a str,
    /// The section `auth`, of which `access` is the end.
    auth: &'a str,
}

const PASSWORD_FILE: &str = "\
auth:
  htpasswd:
    realm: Portcullis
    path: htpasswd
";

impl Default for Settings<'_> {
    fn default() -> Self {
        Self { minimum: "tls1.2", limits: "{}", access: "", auth: PASSWORD_FILE }
    }
}

/// A running server with TLS from its own CA, one user, and deletion enabled.
pub(crate) struct Server {
    process: Daemon,
    address: SocketAddr,
    directory: TempDir,
}

impl Server {
    /// A server on an address of its own: 127.0.0.0/8 has one for every process id, so the test
    /// does not have to guess a port.
    pub(crate) fn on_loopback() -> Self {
        Self::start(Self::free_address())
    }

    /// The same with `http.tls.minimumtls`. `certificates` may replace the files in the authority's
    /// folder: `ca.crt`, `server.crt` and `server.key`.
    pub(crate) fn with_tls(minimum: &str, certificates: impl FnOnce(&Path, SocketAddr)) -> Self {
        Self::start_with(Self::free_address(), minimum, certificates)
    }

    /// A server with access rules, as they stand in YAML, and with the user [`ADMIN`] beside [`USER`].
    pub(crate) fn with_access(address: SocketAddr, rules: &str) -> Self {
        let access = format!("access:\n  rules:\n    - {{who: {ADMIN}, may: all}}\n{rules}");
        let settings = Settings { access: &access, ..Settings::default() };
        Self::start_configured(address, &settings, |_, _| ())
    }

    /// The same, with this challenge at `/v2/`.
    pub(crate) fn with_challenge(address: SocketAddr, challenge: &str, rules: &str) -> Self {
        let access = format!(
            "    sessions: {{challenge: {challenge}}}\n\
             access:\n  rules:\n    - {{who: {ADMIN}, may: all}}\n{rules}"
        );
        let settings = Settings { access: &access, ..Settings::default() };
        Self::start_configured(address, &settings, |_, _| ())
    }

    /// The same, with further keys of `http.tls`, a line each. `prepare` gets the server's directory, from
    /// which relative paths go.
    pub(crate) fn with_tls_and_access(
        address: SocketAddr,
        tls: &str,
        rules: &str,
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let access = format!("access:\n  rules:\n    - {{who: {ADMIN}, may: all}}\n{rules}");
        let minimum = format!("tls1.2\n    {tls}");
        let settings = Settings { minimum: &minimum, access: &access, ..Settings::default() };
        Self::start_configured(address, &settings, |certs, _| {
            prepare(certs.parent().unwrap_or(certs));
        })
    }

    /// A server whose callers have these limits: `http.limits`, as a mapping in YAML.
    pub(crate) fn with_limits(address: SocketAddr, limits: &str) -> Self {
        Self::start_configured(address, &Settings { limits, ..Settings::default() }, |_, _| ())
    }

    /// A server with another section `auth`. `prepare` gets the server's directory.
    pub(crate) fn with_auth(address: SocketAddr, auth: &str, prepare: impl FnOnce(&Path)) -> Self {
        let settings = Settings { auth, ..Settings::default() };
        Self::start_configured(address, &settings, |certs, _| {
            prepare(certs.parent().unwrap_or(certs));
        })
    }

    /// An address that no other server of the tests has.
    pub(crate) fn free_address() -> SocketAddr {
        static NEXT_PORT: AtomicU16 = AtomicU16::new(5000);
        let [_, high, middle, low] = process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, 64 + high % 64, middle, low);
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        SocketAddr::new(IpAddr::V4(ip), port)
    }

    /// A server on `address`, accepting connections.
    pub(crate) fn start(address: SocketAddr) -> Self {
        Self::start_with(address, "tls1.2", |_, _| ())
    }

    fn start_with(
        address: SocketAddr,
        minimum: &str,
        certificates: impl FnOnce(&Path, SocketAddr),
    ) -> Self {
        let settings = Settings { minimum, ..Settings::default() };
        Self::start_configured(address, &settings, certificates)
    }

    fn start_configured(
        address: SocketAddr,
        settings: &Settings<'_>,
        certificates: impl FnOnce(&Path, SocketAddr),
    ) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path();
        portcullis(path)
            .args(["certs", "--new", "--host", &address.ip().to_string(), "--out", "certs"])
            .succeeds();
        certificates(&path.join("certs"), address);
        fs::create_dir(path.join("trust")).expect("a directory can be made");
        fs::copy(path.join("certs/ca.crt"), path.join("trust/ca.crt")).expect("certs made a CA");
        let lines = [USER, ADMIN].map(|user| {
            portcullis(path).args(["htpasswd", "-Bbn", user, PASSWORD]).succeeds() + "\n"
        });
        fs::write(path.join("htpasswd"), lines.concat()).expect("a file can be written");
        fs::write(path.join("config.yml"), configuration(address, settings))
            .expect("a file can be written");

        let process = Daemon::start(
            Command::new(BINARY).args(["serve", "config.yml"]).current_dir(path),
            &path.join("server.log"),
            || TcpStream::connect(address).is_ok(),
        );
        Self { process, address, directory }
    }

    /// The name of the registry, as in `docker login NAME`.
    pub(crate) fn name(&self) -> String {
        self.address.to_string()
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The reference of an image in this registry.
    pub(crate) fn image(&self, repository_and_tag: &str) -> String {
        format!("{}/{repository_and_tag}", self.address)
    }

    /// Runs a command of the program with its configuration. Returns standard output.
    pub(crate) fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        let arguments = arguments.into_iter().chain(["config.yml"]);
        portcullis(self.directory.path()).args(arguments).succeeds()
    }

    /// Its output so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// A file of its directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A directory with `ca.crt` and nothing else, the form that every client takes.
    pub(crate) fn trust(&self) -> PathBuf {
        self.directory.path().join("trust")
    }
}

impl Drop for Server {
    #[expect(clippy::print_stdout, reason = "shown by the test runner for failed tests only")]
    fn drop(&mut self) {
        if thread::panicking() {
            println!("the server's last words:\n{}", last_lines(&self.process.log()));
        }
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

struct Portcullis(Command);

fn portcullis(directory: &Path) -> Portcullis {
    let mut command = Command::new(BINARY);
    command.current_dir(directory);
    Portcullis(command)
}

impl Portcullis {
    fn args<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.0.args(arguments);
        self
    }

    fn succeeds(mut self) -> String {
        Outcome::of(&mut self.0).succeeds()
    }
}

fn configuration(address: SocketAddr, settings: &Settings<'_>) -> String {
    let Settings { minimum, limits, access, auth } = settings;
    format!(
        "\
version: 0.1
storage:
  filesystem:
    rootdirectory: data
  delete:
    enabled: true
http:
  addr: {address}
  limits: {limits}
  tls:
    certificate: certs/server.crt
    key: certs/server.key
    minimumtls: {minimum}
{auth}{access}"
    )
}
