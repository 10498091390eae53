//! A dockerd of the test's own in a network namespace, and the docker CLI that talks to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testkit::process::{Daemon, Outcome, client};
use testkit::require::Need;

use crate::netns::Network;

/// What a machine needs for an [`Engine`].
pub(crate) const NEEDS: [Need; 5] = [
    Need::Program("docker"),
    Need::Program("dockerd"),
    Need::Program("ip"),
    Need::Root,
    Need::Namespaces,
];

/// Whether containers have a network.
#[derive(Clone, Copy)]
pub(crate) enum Bridge {
    /// The daemon builds, pushes and pulls.
    Absent,
    /// Containers have addresses, and `docker run --publish` works.
    Present,
}

/// A running dockerd. Everything that it keeps is below `directory/name`, but its configuration
/// (`/etc/docker`), which is `directory/etc` for every daemon of a test.
pub(crate) struct Engine {
    // Stopped when dropped.
    _daemon: Daemon,
    directory: PathBuf,
    host: String,
}

impl Engine {
    /// Starts a dockerd in `network`.
    pub(crate) fn start(network: &Network, directory: &Path, name: &str, bridge: Bridge) -> Self {
        let options: &[&str] = match bridge {
            Bridge::Absent => &["--bridge=none"],
            Bridge::Present => &[],
        };
        Self::start_in(network.command(), directory, name, options)
    }

    /// Starts a dockerd with more options in the namespaces that `command` enters.
    ///
    /// Its mount namespace shows `directory/etc` as `/etc/docker`, and no containerd of this
    /// machine's for it to borrow; its mounts go away with it.
    pub(crate) fn start_in(
        mut command: Command,
        directory: &Path,
        name: &str,
        options: &[&str],
    ) -> Self {
        const ENTER: &str = r#"
            mkdir -p /etc/docker
            mount --bind "$1" /etc/docker
            if [ -d /run/containerd ]; then mount -t tmpfs none /run/containerd; fi
            shift
            exec "$@"
        "#;
        let etc = directory.join("etc");
        let home = directory.join(name);
        fs::create_dir_all(&etc).expect("a directory can be made");
        fs::create_dir_all(&home).expect("a directory can be made");
        let host = format!("unix://{}", home.join("sock").display());

        command.args(["unshare", "--mount", "sh", "-euc", ENTER, "dockerd"]).arg(etc);
        // Published ports are served by docker-proxy, without rules of the packet filter.
        command.args(["dockerd", "--iptables=false", "--ip6tables=false"]);
        command.args(options);
        command.args(["--storage-driver", "vfs", "--host", &host]);
        command.arg("--data-root").arg(home.join("data"));
        command.arg("--exec-root").arg(home.join("exec"));
        command.arg("--pidfile").arg(home.join("pid"));
        let daemon = Daemon::start(&mut command, &home.join("log"), || {
            let mut version = client("docker");
            version.args(["--host", &host, "version"]);
            version.stdout(Stdio::null()).stderr(Stdio::null());
            version.status().is_ok_and(|status| status.success())
        });
        Self { _daemon: daemon, directory: directory.to_owned(), host }
    }

    /// The address of its socket, for `DOCKER_HOST`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The docker CLI, with credentials of the test's own.
    pub(crate) fn command(&self) -> Command {
        let mut docker = client("docker");
        docker
            .env("DOCKER_CONFIG", self.directory.join("cli"))
            .env("DOCKER_HOST", &self.host)
            .env_remove("DOCKER_CONTEXT");
        docker
    }

    /// Runs the docker CLI.
    pub(crate) fn docker<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Outcome {
        Outcome::of(self.command().args(arguments))
    }

    /// Builds `image` from the folder `context`.
    pub(crate) fn build(&self, image: &str, context: &Path) {
        // The builder inside the daemon: buildx is a plugin that may be missing.
        let mut build = self.command();
        build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", image]);
        Outcome::of(build.arg(context)).succeeds();
    }
}
