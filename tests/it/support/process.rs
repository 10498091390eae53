//! The program as a process of its own, so that a test can measure its memory and its files.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use tempfile::TempDir;

use super::{
    raw::GUARD,
    server::{Answered as _, PASSWORD, USER, write_user},
};

/// The file of the server's output.
const ACCESS_LOG: &str = "access.log";

/// Trusted proxies, so that one test can be several clients, by X-Forwarded-For. Empty is the
/// default.
pub const TRUSTED: (&str, &str) = ("REGISTRY_HTTP_TRUSTEDPROXIES", "[127.0.0.0/8]");

/// The most that a flood may add to the memory of a server, in MiB. Some allocators return nothing,
/// so the limit is generous; the tests send more than this.
pub const ROOM: usize = 96;

/// A server that listens on this machine.
pub struct Launched {
    pub child: Child,
    pub port: u16,
    pub log: Log,
}

/// The log of a server. A thread reads it to its end, or the server would wait for room in the
/// pipe.
pub struct Log {
    lines: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Log {
    fn read(stderr: impl BufRead + Send + 'static, begun: String) -> Self {
        let lines = Arc::new(Mutex::new(begun));
        let shared = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in stderr.split(b'\n') {
                let Ok(line) = line else { break };
                let mut lines = shared.lock().unwrap();
                lines.push_str(&String::from_utf8(line).unwrap());
                lines.push('\n');
            }
        });
        Self { lines, reader }
    }

    /// The log so far.
    pub fn so_far(&self) -> String {
        self.lines.lock().unwrap().clone()
    }

    /// All of it, once the server has ended.
    pub fn whole(self) -> String {
        self.reader.join().unwrap();
        Arc::try_unwrap(self.lines).unwrap().into_inner().unwrap()
    }
}

impl Launched {
    /// Runs a server, and waits until it says where it listens.
    pub fn new(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut log = String::new();
        let port = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended: {log}");
            log.push_str(&line);
            if line.contains("listening") {
                let digits = line.split("127.0.0.1:").nth(1).unwrap();
                break digits.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
            }
        };
        Self { child, port, log: Log::read(stderr, log) }
    }
}

/// A server with the program's defaults, but for [`TRUSTED`], and one user.
pub struct Process {
    child: Child,
    folder: TempDir,
    log: Option<Log>,
    pub addr: SocketAddr,
    pub base: String,
    pub client: reqwest::Client,
}

impl Process {
    pub fn start(variables: &[(&str, &str)]) -> Self {
        Self::prepared(variables, |users| write_user(users, USER, PASSWORD))
    }

    /// `users` writes the password file.
    pub fn prepared(variables: &[(&str, &str)], users: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("auth")).unwrap();
        users(&folder.path().join("auth/htpasswd"));
        Self::on(folder, variables)
    }

    /// A server in a folder of an earlier one.
    pub fn on(folder: TempDir, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.current_dir(folder.path()).env_clear().arg("serve");
        command.env("REGISTRY_HTTP_ADDR", "127.0.0.1:0").env("REGISTRY_LOG_FORMATTER", "text");
        command.env("REGISTRY_HTTP_DRAINTIMEOUT", "5s").env(TRUSTED.0, TRUSTED.1);
        command.envs(variables.iter().copied());
        command.stdout(File::create(folder.path().join(ACCESS_LOG)).unwrap());
        let Launched { child, port, log } = Launched::new(command);
        let ca = fs::read(folder.path().join("certs/ca.crt")).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            .no_proxy()
            .build()
            .unwrap();
        let (addr, base) = (([127, 0, 0, 1], port).into(), format!("https://localhost:{port}"));
        Self { child, folder, log: Some(log), addr, base, client }
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("certs/ca.crt")
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.base));
        request.basic_auth(USER, Some(PASSWORD))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its storage tree.
    pub fn tree(&self) -> PathBuf {
        self.folder.path().join("data/docker/registry/v2")
    }

    /// How many files and sockets it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Waits until it has no more files and sockets open than this.
    pub async fn comes_down_to(&self, descriptors: usize) {
        let coming = async {
            while self.descriptors() > descriptors {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(GUARD, coming).await.is_err() {
            panic!("{} descriptors are open, not {descriptors}", self.descriptors());
        }
    }

    /// How much memory it has, in MiB.
    pub fn resident(&self) -> usize {
        self.memory("VmRSS:")
    }

    /// Its peak memory, in MiB.
    pub fn peak(&self) -> usize {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().split(' ').next().unwrap().parse::<usize>().unwrap() / 1024
    }

    /// Ends it as an operator would, and gives its log and its access log.
    pub async fn end_with_access(self) -> (String, String) {
        let access = File::open(self.folder.path().join(ACCESS_LOG)).unwrap();
        let log = self.end().await;
        let printed = std::io::read_to_string(access).unwrap();
        // The message of the first start comes before, and ends with an empty line.
        let (_, access) = printed.rsplit_once("\n\n").unwrap();
        (log, access.to_owned())
    }

    /// Kills it, and gives its folder.
    pub fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// What it has logged by now.
    pub fn log_so_far(&self) -> String {
        self.log.as_ref().unwrap().so_far()
    }

    /// Ends it as an operator would, and gives its log.
    pub async fn end(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
        let log = self.log.take().unwrap();
        tokio::task::spawn_blocking(move || log.whole()).await.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server, and its memory and files before the flood.
pub struct Before {
    pub server: Process,
    pub descriptors: usize,
    pub memory: usize,
}

impl Before {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    pub async fn with(variables: &[(&str, &str)]) -> Self {
        let quiet = [("REGISTRY_LOG_ACCESSLOG_DISABLED", "true")];
        Self::of(Process::start(&[&quiet, variables].concat())).await
    }

    /// As [`with`](Self::with), for a running server.
    pub async fn of(server: Process) -> Self {
        for _ in 0..20 {
            server.request("GET", "/v2/").answer().await.expect(200);
        }
        let (descriptors, memory) = (server.descriptors(), server.peak());
        Self { server, descriptors, memory }
    }

    /// Checks that the flood has left nothing behind.
    pub async fn is_back(&self) {
        self.server.comes_down_to(self.descriptors).await;
        let grown = self.server.peak().saturating_sub(self.memory);
        assert!(grown < ROOM, "{grown} MiB more");
        self.server.request("GET", "/v2/").answer().await.expect(200);
    }
}

/// Whether a program of a Debian package is on the `PATH`. When it is not, a test returns: the skip
/// has been printed. With `CI=true` a missing program fails the test.
#[expect(clippy::print_stderr, reason = "the person who runs the tests has to see the skip")]
pub fn is_there(program: &str, package: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        return true;
    }
    let must_be = env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(!must_be, "{program} ({package}) is not installed");
    eprintln!("skipped: {program} ({package}) is not installed");
    false
}
