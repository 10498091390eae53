//! Containerd's `ctr`, with a containerd of the test's own.
//!
//! The server is on a veth address, since ctr too treats loopback differently.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use testkit::process::{Daemon, Outcome, client};
use testkit::require::{self, Need};

use crate::image::Layout;
use crate::netns::Network;
use crate::server::{PASSWORD, Server, USER, WRONG_PASSWORD};

#[test]
fn ctr_does_not_trust_the_registry_without_the_ca() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.server.image("ctr/untrusted:1");
    bench.import(&Layout::image(&bench.path().join("image"), &image));

    let user = format!("{USER}:{PASSWORD}");
    let mut push = bench.images("push");

    Outcome::of(push.args(["--user", &user, &image]))
        .fails_saying("x509: certificate signed by unknown authority");
}

#[test]
fn ctr_push_with_a_wrong_password_is_unauthorized() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.server.image("ctr/refused:1");
    bench.import(&Layout::image(&bench.path().join("image"), &image));

    bench.transfer("push", WRONG_PASSWORD, &image).fails_saying("401 unauthorized");
}

#[test]
fn ctr_pulls_into_an_empty_containerd_the_digest_that_it_pushed() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let image = bench.server.image("ctr/image:1");
    let layout = Layout::image(&bench.path().join("image"), &image);

    bench.import(&layout);
    bench.transfer("push", PASSWORD, &image).succeeds();
    bench.wipe_the_daemon();
    assert_eq!(bench.digest(&image), None);
    bench.transfer("pull", PASSWORD, &image).succeeds();

    assert_eq!(bench.digest(&image), Some(layout.digest));
}

/// A server, a containerd, and the network that gives the server its address. Fields are dropped
/// in this order.
struct Bench {
    daemon: Daemon,
    server: Server,
    _network: Network,
    directory: TempDir,
    daemons: usize,
}

impl Bench {
    fn new() -> Option<Self> {
        let needs = [
            Need::Program("containerd"),
            Need::Program("ctr"),
            Need::Program("ip"),
            Need::Root,
            Need::Namespaces,
        ];
        if !require::met("containerd", &needs) {
            return None;
        }
        let network = Network::new();
        let server = Server::start(network.server_address());
        let directory = TempDir::new().expect("a temporary directory");
        let daemon = containerd(&directory.path().join("daemon-0"));
        Some(Self { daemon, server, _network: network, directory, daemons: 1 })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces the daemon by one that has never seen an image.
    fn wipe_the_daemon(&mut self) {
        self.daemon = containerd(&self.path().join(format!("daemon-{}", self.daemons)));
        self.daemons += 1;
    }

    fn images(&self, subcommand: &str) -> Command {
        let daemon = self.path().join(format!("daemon-{}", self.daemons - 1));
        let mut ctr = client("ctr");
        ctr.arg("--address").arg(daemon.join("sock")).args(["images", subcommand]);
        ctr
    }

    fn import(&self, layout: &Layout) {
        let mut import = self.images("import");
        Outcome::of(import.arg("--no-unpack").arg(layout.archive())).succeeds();
    }

    /// `ctr images push` or `ctr images pull`, with the CA.
    fn transfer(&self, direction: &str, password: &str, image: &str) -> Outcome {
        let mut transfer = self.images(direction);
        transfer.args(["--user", &format!("{USER}:{password}"), "--tlscacert"]);
        transfer.arg(self.server.trust().join("ca.crt"));
        if direction == "pull" {
            // The snapshotter that works on every file system.
            transfer.args(["--snapshotter", "native"]);
        }
        Outcome::of(transfer.arg(image))
    }

    /// The image that containerd has under this name.
    fn digest(&self, image: &str) -> Option<String> {
        let list = Outcome::of(self.images("list").arg(format!("name=={image}"))).succeeds();
        let digest = list.split_whitespace().find(|word| word.starts_with("sha256:"));
        digest.map(str::to_owned)
    }
}

/// Starts a containerd that keeps everything below `home`.
fn containerd(home: &Path) -> Daemon {
    fs::create_dir_all(home).expect("a directory can be made");
    let path = home.display();
    let configuration = format!(
        "\
version = 2
root = \"{path}/root\"
state = \"{path}/state\"
disabled_plugins = [\"io.containerd.grpc.v1.cri\"]
[grpc]
address = \"{path}/sock\"
[ttrpc]
address = \"{path}/ttrpc\"
"
    );
    let file = home.join("config.toml");
    fs::write(&file, configuration).expect("a file can be written");
    let mut command = Command::new("containerd");
    Daemon::start(command.arg("--config").arg(file), &home.join("log"), || {
        let mut version = client("ctr");
        version.arg("--address").arg(home.join("sock")).arg("version");
        version.stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    })
}
