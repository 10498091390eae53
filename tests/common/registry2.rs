//! registry:2 as a process of the test's own: Debian's package `docker-registry`, or the binary of
//! the image.

use std::{
    env,
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A hang guard: nothing that works takes so long.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// The binary, where there is one: `docker-registry`, or a `registry` that says it is distribution's.
pub(crate) fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let find = |name: &str| {
        env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
    };
    find("docker-registry").or_else(|| find("registry").filter(|file| is_distribution(file)))
}

fn is_distribution(file: &Path) -> bool {
    let version = Command::new(file).arg("--version").stdin(Stdio::null()).output();
    version.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("distribution"))
}

/// A registry:2 that is running; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Registry2 {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Registry2 {
    /// Starts one in `folder` with `config` as its `config.yml`, whose `addr` is an address and a
    /// port, and waits until it accepts connections. Nothing of our environment reaches it; what it
    /// says is in `registry2.log`.
    pub(crate) fn start(folder: &Path, config: &str) -> Self {
        fs::write(folder.join("config.yml"), config).unwrap();
        let log = folder.join("registry2.log");
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(program().unwrap())
            .args(["serve", "config.yml"])
            .current_dir(folder)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut registry = Self { child, address: address(config) };
        let started = Instant::now();
        while TcpStream::connect(registry.address).is_err() {
            let log = || fs::read_to_string(&log).unwrap();
            if let Some(status) = registry.child.try_wait().unwrap() {
                panic!("registry:2 ended with {status}: {}", log());
            }
            assert!(started.elapsed() < START_LIMIT, "registry:2 does not start: {}", log());
            thread::sleep(POLL);
        }
        registry
    }
}

impl Drop for Registry2 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What follows the first `addr:`.
fn address(config: &str) -> SocketAddr {
    let (_, rest) = config.split_once("addr:").unwrap();
    let text = rest.lines().next().unwrap_or_default();
    text.trim_matches([' ', '"', '\'', '}']).parse().unwrap()
}
