//! The real binary, started again and again on one tree.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub(crate) const USER: &str = "ann";
pub(crate) const PASSWORD: &str = "correct horse battery";

/// A hang guard: nothing that works takes so long.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// Where the server lives: its configuration, its certificate, its user and its trees.
#[derive(Debug)]
pub(crate) struct Site {
    folder: TempDir,
    address: SocketAddr,
}

impl Site {
    /// A site on an address that no other process takes: in 127.0.0.0/8 there is one for every
    /// process id.
    pub(crate) fn new() -> Self {
        let [_, high, middle, low] = process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, 128 + high % 64, middle, low);
        let address = SocketAddr::V4(SocketAddrV4::new(ip, 5000));
        // On a disk: where a sync costs nothing, there is little time to be killed in.
        let folder = tempfile::Builder::new()
            .prefix("chaos-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let site = Self { folder, address };
        site.run(&["certs", "--host", &ip.to_string(), "--out", "certs"]);
        // What bcrypt costs is not what is tested here, and it would be paid after every kill.
        let user = site.run(&["htpasswd", "-Bbn", "-C", "4", USER, PASSWORD]);
        fs::write(site.path("htpasswd"), user).unwrap();
        site
    }

    /// Something below the site's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the addresses of requests begin with.
    pub(crate) fn base(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Starts a server on a tree and waits until it accepts connections.
    pub(crate) fn start(&self, tree: &Path) -> Server {
        fs::write(self.path("config.yml"), configuration(self.address, tree)).unwrap();
        let log = self.path("server.log");
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(BINARY)
            .args(["serve", "config.yml"])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut server = Server { child };
        let started = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", fs::read_to_string(log).unwrap());
            }
            assert!(started.elapsed() < START_LIMIT, "the server does not start");
            thread::sleep(POLL);
        }
        server
    }

    /// Leaves the folder behind, for whoever must find out why, and tells where it is.
    pub(crate) fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let folder = self.folder.path();
        let output = Command::new(BINARY).args(arguments).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output.stdout
    }
}

/// A server that runs until it is killed: nobody ever asks it to stop.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// SIGKILL. Returns when the process is gone, and its sockets with it.
    pub(crate) fn kill(mut self) -> Result<(), String> {
        if let Some(status) = self.child.try_wait().unwrap() {
            return Err(format!("the server ended by itself with {status}"));
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(address: SocketAddr, tree: &Path) -> String {
    format!(
        "\
version: 0.1
log:
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: {}
  delete:
    enabled: true
http:
  addr: {address}
  tls:
    certificate: certs/server.crt
    key: certs/server.key
auth:
  htpasswd:
    realm: Portcullis
    path: htpasswd
",
        tree.display()
    )
}
