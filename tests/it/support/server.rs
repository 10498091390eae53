//! A server in this process, on a port of its own, with a folder of its own, over real TLS.

use std::{
    fs::DirEntry,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use portcullis::{
    app::App,
    config::Config,
    gate, http,
    oci::ErrorCode,
    server::{CertificateSource, TlsOptions, authority},
    storage::{
        self,
        filesystem::{Filesystem, disk::Disk},
    },
};
use reqwest::{Method, StatusCode, header::HeaderMap};
use tempfile::TempDir;

pub const USER: &str = "alice";
pub const PASSWORD: &str = "correct horse";

/// A server, and a client that knows its certificate and its user.
pub struct TestServer {
    app: Option<App>,
    pub client: reqwest::Client,
    pub base: String,
    folder: TempDir,
    config: Config,
}

/// The certificates of all servers of this process: making them takes time, and other tests cover
/// their content.
pub fn certificates() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            authority::ensure(folder.path(), &authority::Hosts::default()).unwrap();
            folder
        })
        .path()
}

impl TestServer {
    /// A server with the options of most tests.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A server with other options.
    #[expect(clippy::unused_async, reason = "a server needs the runtime that an async caller has")]
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        change(&mut config);
        Self::on(folder, config)
    }

    fn on(folder: TempDir, config: Config) -> Self {
        let (app, _) = App::start(&config).unwrap();
        let scheme = match config.http.server.tls {
            TlsOptions::Off => "http",
            TlsOptions::On { .. } => "https",
        };
        // Tests of Unix sockets use another client.
        let port = app.addr().tcp().map_or(0, |addr| addr.port());
        let base = format!("{scheme}://localhost:{port}");
        Self { app: Some(app), client: client(), base, folder, config }
    }

    /// A server whose storage reaches its files through a disk of the test, made from their root.
    pub fn over(disk: impl FnOnce(&Path) -> Arc<dyn Disk>) -> Self {
        let folder = in_memory();
        let config = config(folder.path());
        let root = folder.path().join("data");
        std::fs::create_dir(&root).unwrap();
        let storage = Filesystem::over(disk(&root), root);
        let (app, _) = App::start_over(Arc::new(storage), &config).unwrap();
        let base = format!("https://localhost:{}", app.addr().tcp().unwrap().port());
        Self { app: Some(app), client: client(), base, folder, config }
    }

    /// Stops the server, as SIGTERM does, and starts another on the same folder.
    pub async fn restart(mut self) -> Self {
        self.app.take().unwrap().stop().await;
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        Self::on(folder, self.config.clone())
    }

    pub async fn stop(mut self) -> TempDir {
        self.app.take().unwrap().stop().await;
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    pub fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.app().addr().tcp().unwrap()
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Waits until all writes of interrupted requests have ended.
    pub async fn settles(&self) {
        let settling = async {
            loop {
                let mut temporary = Vec::new();
                leftovers(&self.folder.path().join("data"), &mut temporary);
                if temporary.is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // `drop` reports files that stay longer.
        let _ = tokio::time::timeout(super::raw::GUARD, settling).await;
    }

    /// The folder of storage and users.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The root of the storage tree.
    pub fn tree(&self) -> PathBuf {
        self.folder().join("data/docker/registry/v2")
    }

    /// A request of the user; `target` is a path, or the whole address that a `Location` gave.
    pub fn request(&self, method: &str, target: &str) -> reqwest::RequestBuilder {
        self.anonymous(method, target).basic_auth(USER, Some(PASSWORD))
    }

    /// A request without credentials.
    pub fn anonymous(&self, method: &str, target: &str) -> reqwest::RequestBuilder {
        let url = match target.strip_prefix('/') {
            Some(path) => format!("{}/{path}", self.base),
            None => target.to_owned(),
        };
        self.client.request(method.parse::<Method>().unwrap(), url)
    }

    /// Sends the head of an HTTP/1.1 request and a part of the body it announces, ends the stream
    /// there, and waits until the server has given the connection up.
    ///
    /// `head` is the request line and headers beyond those for host and user, each line ended.
    pub async fn break_off(&self, head: &str, part: &[u8]) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = self.begin(head).await;
        stream.write_all(part).await.unwrap();
        stream.shutdown().await.unwrap();
        // The server may respond or just close the connection.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }

    /// Sends the head of an HTTP/1.1 request, as for [`break_off`](Self::break_off), and leaves the
    /// connection to the test.
    pub async fn begin(&self, head: &str) -> super::raw::Stream {
        let (line, headers) = head.split_once("\r\n").unwrap();
        let host = self.base.split_once("://").unwrap().1;
        let user = super::raw::authorization();
        let head =
            format!("{line} HTTP/1.1\r\nhost: {host}\r\nauthorization: {user}\r\n{headers}\r\n");
        let mut stream = self.connect(&[]).await;
        // A head that is too long may be refused before all of it is sent.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await;
        stream
    }

    /// A connection without a request, for the given protocols.
    pub async fn connect(&self, alpn: &[&[u8]]) -> super::raw::Stream {
        super::raw::connect(self.addr(), &self.authority(), alpn).await
    }

    /// The file with the certificate that clients trust.
    pub fn authority(&self) -> PathBuf {
        certificates().join("ca.crt")
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.request("GET", target).answer().await
    }

    pub async fn head(&self, target: &str) -> Answer {
        self.request("HEAD", target).answer().await
    }

    pub async fn delete(&self, target: &str) -> Answer {
        self.request("DELETE", target).answer().await
    }

    pub async fn post(&self, target: &str) -> Answer {
        self.request("POST", target).answer().await
    }

    pub async fn put(&self, target: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.request("PUT", target).body(body).answer().await
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // Files that a test leaves in storage are finished or can be resumed; no half-written file
        // stays.
        let mut left = Vec::new();
        leftovers(&self.folder.path().join("data"), &mut left);
        assert!(left.is_empty(), "temporary files are left over: {left:?}");
    }
}

fn leftovers(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if is_folder(&entry) {
            leftovers(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "tmp") {
            found.push(path);
        }
    }
}

/// A folder in memory, where syncs cost nothing, if there is one.
pub fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Every file below a folder, relative to it, in order.
pub fn files(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if is_folder(&entry) {
                walk(&path, root, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

/// Whether an entry is a folder, or a link to one, by the listing that has it: a folder that the server
/// has removed since then is no file.
fn is_folder(entry: &DirEntry) -> bool {
    let kind = entry.file_type();
    kind.is_ok_and(|kind| kind.is_dir() || kind.is_symlink() && entry.path().is_dir())
}

/// Everything in a folder, with its content.
pub fn contents(folder: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let content =
        |file: String| (file.clone(), std::fs::read(folder.join(&file)).unwrap_or_default());
    files(folder).into_iter().map(content).collect()
}

/// The options of most tests.
pub fn config(folder: &Path) -> Config {
    let users = folder.join("htpasswd");
    write_user(&users, USER, PASSWORD);
    let mut config = Config::load(None, []).unwrap();
    config.log.accesslog.disabled = true;
    let rootdirectory = folder.join("data");
    config.storage.backend =
        storage::Options::Filesystem(storage::filesystem::Options { rootdirectory });
    config.storage.delete.enabled = true;
    // Off, as with a file: records of pulls are writes beside the request.
    config.storage.maintenance.garbagecollection.deleteuntaggedafter = Duration::ZERO;
    config.auth = gate::Options::Htpasswd(gate::HtpasswdOptions {
        path: users,
        sessions: gate::tokens::SessionOptions {
            keyfile: folder.join("session.key"),
            ..gate::tokens::SessionOptions::default()
        },
        ..gate::HtpasswdOptions::default()
    });
    // So that one test can be several clients, by X-Forwarded-For. By default no proxy is trusted.
    config.http.api.trustedproxies = trusting_this_machine();
    config.http.server.addr = "127.0.0.1:0".to_owned();
    config.http.server.draintimeout = Duration::from_secs(5);
    config.http.server.tls = TlsOptions::with(CertificateSource::Files {
        certificate: certificates().join("server.crt"),
        key: certificates().join("server.key"),
    });
    config
}

/// Proxies on this machine.
pub fn trusting_this_machine() -> Vec<http::Proxy> {
    ["127.0.0.0/8", "::1/128", "unix"].map(|proxy| proxy.parse().unwrap()).to_vec()
}

/// Makes a password file with one user, at bcrypt's least cost.
pub fn write_user(path: &Path, user: &str, password: &str) {
    let hash = gate::htpasswd::BcryptHash::new(password, 4).unwrap();
    std::fs::write(path, format!("{user}:{}\n", hash.as_str())).unwrap();
}

/// A client that trusts the servers of this process.
pub fn client() -> reqwest::Client {
    client_builder().build().unwrap()
}

pub fn client_builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_certs_only([root_certificate()])
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
}

fn root_certificate() -> reqwest::Certificate {
    let pem = std::fs::read(certificates().join("ca.crt")).unwrap();
    reqwest::Certificate::from_pem(&pem).unwrap()
}

/// A response with its body.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: bytes::Bytes,
}

/// Sends a request and takes the whole response.
pub trait Answered {
    async fn answer(self) -> Answer;
}

impl Answered for reqwest::RequestBuilder {
    async fn answer(self) -> Answer {
        let response = self.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.unwrap() }
    }
}

impl Answer {
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }

    /// Asserts an error of the specification: its status, its code, its shape.
    #[track_caller]
    pub fn expect_error(self, status: u16, code: ErrorCode) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), "application/json");
        let json = answer.json();
        let error = &json["errors"][0];
        assert_eq!(error["code"], code.as_str(), "{json}");
        assert!(error["message"].is_string(), "{json}");
        answer
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no header {name}: {:?}", self.headers))
            .to_str()
            .unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}
