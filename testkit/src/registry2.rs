//! Debian's docker-registry, which is registry:2, as a process that serves a directory.

use std::{
    env,
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A hang guard: longer than any working step.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// A running registry:2, which is killed when this is dropped.
#[derive(Debug)]
pub struct Registry2 {
    child: Child,
    /// The address on which it accepts connections.
    pub address: SocketAddr,
}

/// The path of the program: `REGISTRY2` if it is set, which may name another release, otherwise
/// docker-registry on the `PATH`; `None` when it is not installed.
pub fn program() -> Option<PathBuf> {
    if let Some(named) = env::var_os("REGISTRY2") {
        return Some(named.into());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("docker-registry")).find(|file| file.is_file())
}

impl Registry2 {
    /// Runs it in `folder` with this configuration alone, and waits until it accepts
    /// connections at the first `addr` in it, an IP address with a port. Its output goes to
    /// `registry2.log` in the folder.
    pub fn start(folder: &Path, config: &str) -> Self {
        let address = address(config);
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
        let mut registry = Self { child, address };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            let said = || fs::read_to_string(&log).unwrap();
            if let Some(status) = registry.child.try_wait().unwrap() {
                panic!("docker-registry ended with {status}: {}", said());
            }
            assert!(started.elapsed() < START_LIMIT, "docker-registry does not start: {}", said());
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

/// The listening address in a configuration.
fn address(config: &str) -> SocketAddr {
    let (_, behind) = config.split_once("addr:").unwrap();
    let end = behind.find([',', '}', '\n']).unwrap_or(behind.len());
    behind[..end].trim().trim_matches(['\'', '"']).parse().unwrap()
}
