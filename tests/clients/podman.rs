//! Podman with a storage of its own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::process::{Outcome, client};
use testkit::require::{self, Need};
use testkit::skip;

use crate::image;
use crate::server::{ADMIN, PASSWORD, Server, USER, WRONG_PASSWORD};

/// A hang guard: longer than any working step.
const LOG_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn podman_does_not_trust_the_registry_without_the_ca() {
    let Some(bench) = Bench::new() else { return };

    let mut login = bench.podman("login");
    login.args(["--username", USER, "--password-stdin", &bench.server.name()]);

    Outcome::with_input(&mut login, PASSWORD)
        .fails_saying("x509: certificate signed by unknown authority");
}

#[test]
fn podman_login_with_a_wrong_password_is_refused() {
    let Some(bench) = Bench::new() else { return };

    bench.login(WRONG_PASSWORD).fails_saying("invalid username/password");
}

#[test]
fn podman_pulls_into_an_empty_storage_what_it_pushed() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let image = bench.server.image("podman/image:1");
    let tar = image::tar(bench.path(), "rootfs");
    bench.login(PASSWORD).succeeds();

    Outcome::of(bench.podman("import").arg("--quiet").arg(tar).arg(&image)).succeeds();
    let id = bench.image_id(&image);
    bench.transfer("push", &image).succeeds();
    bench.storage = "empty";
    Outcome::of(bench.podman("image").args(["exists", &image])).fails();
    bench.transfer("pull", &image).succeeds();

    assert_eq!(bench.image_id(&image), id);
}

#[test]
fn podman_push_after_logout_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.server.image("podman/logout:1");
    let tar = image::tar(bench.path(), "rootfs");
    Outcome::of(bench.podman("import").arg("--quiet").arg(tar).arg(&image)).succeeds();
    bench.login(PASSWORD).succeeds();
    bench.transfer("push", &image).succeeds();

    Outcome::of(bench.podman("logout").arg(bench.server.name())).succeeds();

    bench.transfer("push", &image).fails_saying("unauthorized");
    bench.transfer("pull", &image).fails_saying("unauthorized");
}

/// podman asks the search of Docker's first registry without its credentials; a refusal sends it to the
/// catalog, with them.
#[test]
fn podman_search_goes_on_to_the_catalog() {
    let rules = "    - {who: anyone, repositories: public/**, may: pull}
    - {who: users, repositories: team/**, may: push}\n";
    let Some(bench) = Bench::with_access(rules) else { return };
    bench.login_as(ADMIN, PASSWORD).succeeds();
    let tar = image::tar(bench.path(), "rootfs");
    for name in ["public/lighthouse:1", "team/lighthouse:1", "secret/lighthouse:1"] {
        let image = bench.server.image(name);
        Outcome::of(bench.podman("import").arg("--quiet").arg(&tar).arg(&image)).succeeds();
        bench.transfer("push", &image).succeeds();
    }
    bench.login(PASSWORD).succeeds();

    // `podman search` has no `--cert-dir`.
    let trust = bench.path().join(".config/containers/certs.d").join(bench.server.name());
    fs::create_dir_all(&trust).expect("a directory can be made");
    fs::copy(bench.server.trust().join("ca.crt"), trust.join("ca.crt")).expect("a CA");
    let mut search = bench.podman("search");
    let found = Outcome::of(search.arg(bench.server.image("lighthouse"))).succeeds();

    assert!(found.contains("public/lighthouse") && found.contains("team/lighthouse"), "{found}");
    assert!(!found.contains("secret/lighthouse"), "{found}");
}

#[test]
fn podman_pulls_after_login_what_nobody_may() {
    let rules = "    - {who: anyone, repositories: public/**, may: pull}
    - {who: users, repositories: team/**, may: push}\n";
    let Some(mut bench) = Bench::with_access(rules) else { return };
    let public = bench.server.image("public/app:1");
    let team = bench.server.image("team/app:1");
    let tar = image::tar(bench.path(), "rootfs");
    bench.login_as(ADMIN, PASSWORD).succeeds();
    for image in [&public, &team] {
        Outcome::of(bench.podman("import").arg("--quiet").arg(&tar).arg(image)).succeeds();
        bench.transfer("push", image).succeeds();
    }
    Outcome::of(bench.podman("logout").arg(bench.server.name())).succeeds();
    bench.storage = "empty";

    bench.transfer("pull", &public).succeeds();
    bench.transfer("pull", &team).fails_saying("requested access to the resource is denied");
    bench.login(PASSWORD).succeeds();
    bench.transfer("pull", &team).succeeds();
}

/// podman requests the ranges that it lacks in one request, and expects them as parts, in order.
#[test]
fn podman_pulls_of_a_zstd_chunked_layer_only_what_it_lacks() {
    let Some(bench) = Bench::new() else { return };
    let storage = bench.path().join("partial").display().to_string();
    let configuration = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{storage}/root\"\n\
         runroot = \"{storage}/run\"\n[storage.options]\n\
         pull_options = {{enable_partial_images = \"true\", use_hard_links = \"false\"}}\n"
    );
    fs::write(bench.path().join("storage.conf"), configuration).expect("a file can be written");
    if !bench.partial("info").output().expect("podman starts").status.success() {
        return skip::skip("podman, partial pulls", "overlayfs cannot be used here", false);
    }
    let login = ["--username", USER, "--password", PASSWORD, &bench.server.name()];
    Outcome::of(bench.partial("login").arg("--cert-dir").arg(bench.server.trust()).args(login))
        .succeeds();
    let content = bench.path().join("content");
    fs::create_dir(&content).expect("a directory can be made");
    let mut pulled = Vec::new();
    for (tag, changed) in [("a", 0..60), ("b", 20..23)] {
        for file in changed {
            let bytes = noise(tag.len() + file + usize::from(tag == "b") * 1000);
            fs::write(content.join(format!("file-{file:02}")), bytes)
                .expect("a file can be written");
        }
        let image = bench.server.image(&format!("podman/chunked:{tag}"));
        let tar = bench.path().join("content.tar");
        image::pack(&content, &tar);
        Outcome::of(bench.partial("import").arg("--quiet").arg(tar).arg(&image)).succeeds();
        let mut push = bench.partial("push");
        push.args(["--compression-format", "zstd:chunked", "--cert-dir"]);
        Outcome::of(push.arg(bench.server.trust()).arg(&image)).succeeds();
        pulled.push(image);
    }
    Outcome::of(bench.partial("rmi").args(["--all", "--force"])).succeeds();
    // 60 files of 40 kB, and 3; in either case also their list.
    for (image, least, most) in [(&pulled[0], 2_400_000, 3_000_000), (&pulled[1], 120_000, 400_000)]
    {
        let before = bench.parts_sent();
        let mut pull = bench.partial("pull");
        Outcome::of(pull.arg("--cert-dir").arg(bench.server.trust()).arg(image)).succeeds();
        let started = Instant::now();
        // The server writes a line when its response has left.
        while bench.parts_sent() - before < least && started.elapsed() < LOG_LIMIT {
            thread::sleep(Duration::from_millis(20));
        }
        let sent = bench.parts_sent() - before;
        assert!((least..most).contains(&sent), "{image}: {sent}");
    }
}

/// 40,000 incompressible bytes, different for each seed.
fn noise(seed: usize) -> Vec<u8> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(40_000)
    .collect()
}

/// A server, and a place for podman's images and credentials.
struct Bench {
    server: Server,
    directory: TempDir,
    storage: &'static str,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // podman may leave its storage mounted on itself.
        let mounted = self.path().join("partial/root/overlay");
        if mounted.is_dir() {
            let _ = Command::new("umount").arg("-l").arg(mounted).output();
        }
    }
}

impl Bench {
    fn new() -> Option<Self> {
        Self::on(Server::on_loopback)
    }

    fn with_access(rules: &str) -> Option<Self> {
        Self::on(|| Server::with_access(Server::free_address(), rules))
    }

    fn on(server: impl FnOnce() -> Server) -> Option<Self> {
        if !require::met("podman", &[Need::Program("podman"), Need::Root, Need::Namespaces]) {
            return None;
        }
        let directory = TempDir::new().expect("a temporary directory");
        Some(Self { server: server(), directory, storage: "first" })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn podman(&self, subcommand: &str) -> Command {
        let storage = self.path().join(self.storage);
        let mut podman = client("podman");
        podman.env("HOME", self.path()).env("REGISTRY_AUTH_FILE", self.path().join("auth.json"));
        podman.arg("--root").arg(storage.join("root"));
        podman.arg("--runroot").arg(storage.join("run"));
        podman.args(["--storage-driver", "vfs", subcommand]);
        podman
    }

    /// podman with a storage driver that supports partial pulls, unlike `vfs`.
    fn partial(&self, subcommand: &str) -> Command {
        let mut podman = client("podman");
        podman.env("HOME", self.path()).env("REGISTRY_AUTH_FILE", self.path().join("auth.json"));
        podman.env("CONTAINERS_STORAGE_CONF", self.path().join("storage.conf")).arg(subcommand);
        podman
    }

    /// How many bytes were sent in 206 responses.
    fn parts_sent(&self) -> u64 {
        let log = self.server.log();
        let sizes = log.lines().filter_map(|line| line.split_once("HTTP/1.1\" 206 "));
        let size = |rest: &str| rest.split(' ').next().and_then(|size| size.parse::<u64>().ok());
        sizes.filter_map(|(_, rest)| size(rest)).sum()
    }

    fn login(&self, password: &str) -> Outcome {
        self.login_as(USER, password)
    }

    fn login_as(&self, user: &str, password: &str) -> Outcome {
        let mut login = self.podman("login");
        login.arg("--cert-dir").arg(self.server.trust());
        login.args(["--username", user, "--password-stdin", &self.server.name()]);
        Outcome::with_input(&mut login, password)
    }

    /// `podman push` or `podman pull`.
    fn transfer(&self, direction: &str, image: &str) -> Outcome {
        let mut transfer = self.podman(direction);
        Outcome::of(transfer.arg("--cert-dir").arg(self.server.trust()).arg(image))
    }

    fn image_id(&self, image: &str) -> String {
        let mut inspect = self.podman("image");
        Outcome::of(inspect.args(["inspect", "--format", "{{.Id}}", image])).succeeds()
    }
}
