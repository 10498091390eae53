//! Podman with a storage of its own.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::image;
use crate::process::{Outcome, client};
use crate::require::{self, Need};
use crate::server::{PASSWORD, Server, USER, WRONG_PASSWORD};

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

/// A server, and a place for podman's images and credentials.
struct Bench {
    server: Server,
    directory: TempDir,
    storage: &'static str,
}

impl Bench {
    fn new() -> Option<Self> {
        if !require::met("podman", &[Need::Program("podman"), Need::Root, Need::Namespaces]) {
            return None;
        }
        let directory = TempDir::new().expect("a temporary directory");
        Some(Self { server: Server::on_loopback(), directory, storage: "first" })
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

    fn login(&self, password: &str) -> Outcome {
        let mut login = self.podman("login");
        login.arg("--cert-dir").arg(self.server.trust());
        login.args(["--username", USER, "--password-stdin", &self.server.name()]);
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
