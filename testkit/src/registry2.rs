//! Debian's docker-registry, which is registry:2, as a process that serves a directory.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::server::Server;

/// A running registry:2, which is killed when this is dropped.
#[derive(Debug)]
pub struct Registry2 {
    _server: Server,
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
        let mut command = Command::new(program().unwrap());
        command.args(["serve", "config.yml"]).current_dir(folder).env_clear();
        let server = Server::start(&mut command, address, &folder.join("registry2.log"));
        Self { _server: server, address }
    }
}

/// The listening address in a configuration.
fn address(config: &str) -> SocketAddr {
    let (_, behind) = config.split_once("addr:").unwrap();
    let end = behind.find([',', '}', '\n']).unwrap_or(behind.len());
    behind[..end].trim().trim_matches(['\'', '"']).parse().unwrap()
}
