//! The real binary in a folder of its own: certificates, users, configuration, trees.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use reqwest::{Certificate, Version};
use tempfile::TempDir;

use crate::server::Server;

/// The one user.
pub const USER: &str = "ann";
/// The password of [`USER`].
pub const PASSWORD: &str = "correct horse battery";

/// A hang guard: longer than any response takes.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The facts about the build that cargo gives to a suite only.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// The binary: `env!("CARGO_BIN_EXE_portcullis")`.
    pub binary: &'static str,
    /// A folder on a disk for the files of tests: `env!("CARGO_TARGET_TMPDIR")`.
    pub folder: &'static str,
}

/// The folder of a server: its configuration, its certificate, its user and its trees.
#[derive(Debug)]
pub struct Site {
    binary: &'static str,
    folder: TempDir,
    /// The address on which the server listens.
    pub address: SocketAddr,
}

impl Site {
    /// A site on an address of its own: 127.0.0.0/8 has one for every
    /// process id. The folder's name begins with `prefix`.
    pub fn new(prefix: &str, build: Build) -> Self {
        static NEXT_PORT: AtomicU16 = AtomicU16::new(5000);
        let [_, high, middle, low] = process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, 128 + high % 64, middle, low);
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::V4(SocketAddrV4::new(ip, port));
        // On a disk: in memory syncs cost nothing, and no request takes long.
        let folder = tempfile::Builder::new()
            .prefix(&format!("{prefix}-"))
            .tempdir_in(build.folder)
            .unwrap();
        let site = Self { binary: build.binary, folder, address };
        site.run(&["certs", "--new", "--host", &ip.to_string(), "--out", "certs"]);
        // The cost of bcrypt is not tested here, and every start would pay it.
        let user = site.run(&["htpasswd", "-Bbn", "-C", "4", USER, PASSWORD]);
        fs::write(site.path("htpasswd"), user).unwrap();
        site
    }

    /// A path below the site's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The beginning of the URLs of requests.
    pub fn base(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The builder of a client that trusts this site's authority alone and sends each request once.
    pub fn client(&self, version: Version) -> reqwest::ClientBuilder {
        let ca = fs::read(self.path("certs/ca.crt")).unwrap();
        let builder = reqwest::Client::builder()
            .tls_certs_only([Certificate::from_pem(&ca).unwrap()])
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(ANSWER_LIMIT)
            .no_proxy();
        if version == Version::HTTP_11 { builder.http1_only() } else { builder }
    }

    /// Starts a server on a tree, with variables in its environment, and waits until it accepts
    /// connections.
    pub fn start(&self, tree: &Path, variables: &[(&str, &str)]) -> Server {
        self.start_with(tree, variables, "")
    }

    /// The same, with more sections in the configuration.
    pub fn start_with(&self, tree: &Path, variables: &[(&str, &str)], sections: &str) -> Server {
        self.configure(tree, sections);
        let mut command = Command::new(self.binary);
        command
            .args(["serve", "config.yml"])
            .current_dir(self.folder.path())
            .envs(variables.iter().copied());
        Server::start(&mut command, self.address, &self.path("server.log"))
    }

    /// Replaces the configuration by one with these sections beside the usual ones.
    pub fn configure(&self, tree: &Path, sections: &str) {
        let new = self.path("config.new");
        fs::write(&new, configuration(self.address, tree) + sections).unwrap();
        fs::rename(new, self.path("config.yml")).unwrap();
    }

    /// The log of this site's servers so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("server.log")).unwrap()
    }

    /// Keeps the folder for the diagnosis of a failed run, and returns its path.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    /// Runs the binary to its end and returns its stdout.
    ///
    /// # Panics
    ///
    /// When the binary fails.
    pub fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let folder = self.folder.path();
        let output =
            Command::new(self.binary).args(arguments).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output.stdout
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
  # One machine is the clients of many addresses.
  trustedproxies: [127.0.0.0/8]
  draintimeout: 2m
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
