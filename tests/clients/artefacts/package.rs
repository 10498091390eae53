//! The Debian package, installed by dpkg in a copy of this system: an overlay over its root, in which
//! dpkg, useradd and the service's own line run as on a server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use testkit::process::{Daemon, Outcome};
use testkit::require::{self, Need};

use super::{dist, the_file};

#[test]
fn package_installs_user_unit_and_options_and_its_service_serves() {
    let Some(system) = System::new() else { return };
    let said = system.run(["dpkg", "--install", "/portcullis.deb"]).succeeds();
    assert!(said.contains("systemctl enable --now portcullis.socket portcullis.service"), "{said}");
    let owner =
        ["stat", "--format", "%U:%G %a", "/var/lib/portcullis", "/etc/portcullis/config.yml"];
    let owners = system.run(owner).succeeds();
    assert_eq!(owners, "portcullis:portcullis 700\nroot:portcullis 640");

    // Systems without manuals leave these out when they install a package.
    let files = system.run(["dpkg", "--contents", "/portcullis.deb"]).succeeds();
    for file in ["man/man1/portcullis-serve.1", "bash-completion/completions/portcullis"] {
        assert!(files.contains(&format!("./usr/share/{file}\n")), "{file} is not in\n{files}");
    }

    let unit = system.read("usr/lib/systemd/system/portcullis.service");
    let line = |key: &str| -> String {
        let found = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("{key} is missing in\n{unit}")).to_owned()
    };
    let ip = format!("127.{}.7.1", 128 + std::process::id() % 64);
    let address = format!("{ip}:5000");
    let service = format!(
        "cd {} && REGISTRY_HTTP_ADDR={address} exec {}",
        line("WorkingDirectory"),
        line("ExecStart")
    );
    let mut serve =
        system.command(["setpriv", "--reuid", &line("User"), "--regid", &line("Group")]);
    serve.args(["--clear-groups", "--no-new-privs", "sh", "-euc", &service]);
    // Not by a connection: a registry of this machine may listen on all addresses.
    let log = system.directory.path().join("log");
    let listens = || fs::read_to_string(&log).is_ok_and(|log| log.contains("listening"));
    let _daemon = Daemon::start(&mut serve, &log, listens);

    let state = "var/lib/portcullis";
    let password = system.read(&format!("{state}/auth/admin.password"));
    let authority = system.path(&format!("{state}/certs/ca.crt"));
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(authority);
    curl.args(["--user", &format!("admin:{}", password.trim())]);
    curl.args(["--resolve", &format!("localhost:5000:{ip}")]);
    Outcome::of(curl.arg("https://localhost:5000/v2/")).succeeds();
    assert!(system.path(&format!("{state}/data")).is_dir());
    system
        .run([
            "setpriv",
            "--reuid",
            "portcullis",
            "--regid",
            "portcullis",
            "--clear-groups",
            "portcullis",
            "verify",
            "/etc/portcullis/config.yml",
        ])
        .succeeds();
}

#[test]
fn removal_of_the_package_keeps_options_and_purge_keeps_images() {
    let Some(system) = System::new() else { return };
    system.run(["dpkg", "--install", "/portcullis.deb"]).succeeds();
    fs::write(system.path("var/lib/portcullis/image"), "").expect("a file can be written");

    system.run(["dpkg", "--remove", "portcullis"]).succeeds();
    assert!(!system.path("usr/bin/portcullis").exists());
    assert!(system.path("etc/portcullis/config.yml").exists());
    let said = system.run(["dpkg", "--purge", "portcullis"]).succeeds();
    assert!(said.contains("rm -r /var/lib/portcullis"), "{said}");
    assert!(!system.path("etc/portcullis").exists());
    assert!(system.path("var/lib/portcullis/image").exists());
}

/// A copy of this system, whose changes lie in a temporary directory.
struct System {
    directory: TempDir,
}

impl System {
    /// `None`, and a report, if this machine cannot make one.
    fn new() -> Option<Self> {
        const SUITE: &str = "Debian package";
        let dist = dist(SUITE)?;
        let needs = [Need::Toolchain("dpkg"), Need::Program("curl"), Need::Root, Need::Overlays];
        if !require::met(SUITE, &needs) {
            return None;
        }
        // The upper layer of an overlay must not lie in the lower one: a file system of its own.
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path();
        mount(&["-t", "tmpfs", "none"], path);
        for part in ["changes", "work", "root"] {
            fs::create_dir(path.join(part)).expect("a directory can be made");
        }
        let system = Self { directory };
        let layers = format!(
            "lowerdir=/,upperdir={},workdir={}",
            system.part("changes").display(),
            system.part("work").display()
        );
        mount(&["-t", "overlay", "overlay", "-o", &layers], &system.part("root"));
        mount(&["-t", "proc", "proc"], &system.path("proc"));
        // Not those of this system: a test that fails to unmount them would remove them.
        for (name, minor) in [("null", "3"), ("random", "8"), ("urandom", "9")] {
            system
                .run(["mknod", "--mode=666", &format!("/dev/{name}"), "c", "1", minor])
                .succeeds();
        }
        fs::copy(the_file(&dist, "_amd64.deb"), system.path("portcullis.deb")).expect("a package");
        Some(system)
    }

    fn part(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn path(&self, below_root: &str) -> PathBuf {
        self.part("root").join(below_root)
    }

    fn read(&self, below_root: &str) -> String {
        fs::read_to_string(self.path(below_root)).expect("the file is there")
    }

    fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new("chroot");
        command.arg(self.part("root")).args(arguments);
        command
    }

    fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Outcome {
        Outcome::of(&mut self.command(arguments))
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // Lazily: a process that ends late keeps its view, and nothing else.
        for mounted in ["root/proc", "root", ""] {
            Outcome::of(Command::new("umount").arg("--lazy").arg(self.part(mounted)));
        }
    }
}

fn mount(arguments: &[&str], on: &Path) {
    Outcome::of(Command::new("mount").args(arguments).arg(on)).succeeds();
}
