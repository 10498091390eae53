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
use crate::server::{ADMIN, PASSWORD, Server, USER, WRONG_PASSWORD};

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

const OPEN: &str = "    - {who: anyone, repositories: public/**, may: pull}
    - {who: users, repositories: team/**, may: push}
";

/// ctr mounts from the repositories that containerd's content store names for a layer. A refusal of the
/// mount would end the push.
#[test]
fn ctr_mounts_nothing_it_may_not_read_and_pushes_all_the_same() {
    let Some(mut bench) = Bench::with_access(OPEN) else { return };
    let secret = bench.server.image("secret/app:1");
    let image = bench.server.image("team/app:1");
    bench.import(&Layout::image(&bench.path().join("image"), &secret));
    bench.transfer_as("push", ADMIN, PASSWORD, &secret).succeeds();
    bench.wipe_the_daemon();
    // A pull records where the layers come from.
    bench.transfer_as("pull", ADMIN, PASSWORD, &secret).succeeds();
    Outcome::of(bench.images("tag").args([&secret, &image])).succeeds();

    bench.transfer("push", PASSWORD, &image).succeeds();

    let log = bench.server.log();
    let is_mount = |line: &&str| line.contains("mount=") && line.contains("from=secret");
    let mounts: Vec<&str> = log.lines().filter(is_mount).collect();
    assert!(!mounts.is_empty(), "ctr asks for mounts: {log}");
    let by_ann = mounts.iter().filter(|line| line.contains(" ann "));
    assert!(
        by_ann.clone().count() > 0 && by_ann.clone().all(|line| line.contains("\" 202 ")),
        "{mounts:?}"
    );
    bench.transfer("pull", PASSWORD, &secret).fails_saying("403");
}

#[test]
fn ctr_pulls_without_credentials_what_everybody_may() {
    let Some(mut bench) = Bench::with_access(OPEN) else { return };
    let public = bench.server.image("public/app:1");
    let secret = bench.server.image("secret/app:1");
    let layout = Layout::image(&bench.path().join("image"), &public);
    bench.import(&layout);
    bench.transfer_as("push", ADMIN, PASSWORD, &public).succeeds();
    bench.wipe_the_daemon();
    let pull = |image: &str| {
        let mut pull = bench.images("pull");
        pull.arg("--tlscacert").arg(bench.server.trust().join("ca.crt"));
        Outcome::of(pull.args(["--snapshotter", "native", image]))
    };

    pull(&public).succeeds();
    pull(&secret).fails_saying("401");

    assert_eq!(bench.digest(&public), Some(layout.digest));
}

/// containerd sends a wrong password up to five times for one pull.
#[test]
fn ctr_with_a_wrong_password_counts_once() {
    let Some(bench) = Bench::with_access(OPEN) else { return };
    let image = bench.server.image("team/app:1");
    for _ in 0..4 {
        bench.transfer("pull", WRONG_PASSWORD, &image).fails_saying("401");
    }

    bench.import(&Layout::image(&bench.path().join("image"), &image));
    bench.transfer("push", PASSWORD, &image).succeeds();
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
        Self::on(|network| Server::start(network.server_address()))
    }

    fn with_access(rules: &str) -> Option<Self> {
        Self::on(|network| Server::with_access(network.server_address(), rules))
    }

    fn on(server: impl FnOnce(&Network) -> Server) -> Option<Self> {
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
        let server = server(&network);
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
        self.transfer_as(direction, USER, password, image)
    }

    fn transfer_as(&self, direction: &str, user: &str, password: &str, image: &str) -> Outcome {
        let mut transfer = self.images(direction);
        transfer.args(["--user", &format!("{user}:{password}"), "--tlscacert"]);
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
