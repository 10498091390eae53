//! A reader's machine: a shell and a dockerd in namespaces of their own, in which the commands of a
//! tutorial can be typed as they stand.
//!
//! The namespaces hide `/mnt`, `/opt`, `/home`, `/var`, `/etc/docker`, `/etc/default` and
//! `/etc/hosts` of the machine that runs the test. The reader's machine has the address that the
//! tutorials name.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use testkit::{
    process::{Daemon, Outcome, client},
    require::{self, Need},
};

use crate::{
    artefacts::{dist, image::IMAGE, the_file},
    dockerd::{Engine, NEEDS},
    image,
    netns::Network,
};

/// The address of the machine in the tutorials.
const ADDRESS: &str = "192.168.30.144";

/// Mounts what the shell and the daemon see in place of this machine's folders, and stays.
const NAMESPACE: &str = r#"
    cd "$1"
    mkdir -p etc default home bin var/upper var/work
    cp /etc/hosts hosts
    mkdir -p /etc/docker
    mount --bind etc /etc/docker
    mount --bind default /etc/default
    mount --bind hosts /etc/hosts
    mount -t overlay overlay -o lowerdir=/var,upperdir=var/upper,workdir=var/work /var
    for folder in /mnt /opt /home; do mount -t tmpfs none $folder; done
    touch ready
    exec sleep infinity
"#;

/// Stands for the machine's services: it notes the options of docker, with which the test restarts
/// dockerd.
const SERVICE: &str = r#"#!/bin/sh
case "$*" in
    "docker restart" | "restart docker")
        if [ -f /etc/default/docker ]; then . /etc/default/docker; fi
        echo "$DOCKER_OPTS" >"$HOME/../restart" ;;
esac
"#;

/// Waits until a registry says once more that it listens, as a person does who looks at its log, and
/// prints the log. Called once for each start of a container. The times of docker are no help: a
/// container's first lines may be older than the start that docker notes.
const LISTENS: &str = r#"#!/bin/sh
seen="$HOME/../seen.$(docker inspect -f '{{.Id}}' "$1")"
before=$(cat "$seen" 2>/dev/null || echo 0)
while now=$(docker logs "$1" 2>&1 | grep -c listening); [ "$now" -le "$before" ]; do
    if [ "$(docker inspect -f '{{.State.Running}}' "$1")" != true ]; then
        docker logs "$1"
        exit 1
    fi
    sleep 0.1
done
echo "$now" >"$seen"
docker logs "$1" 2>&1
"#;

/// An image of nginx with the files that [`COPY_NGINX`] copies.
const NGINX: &str = r#"FROM scratch
COPY rootfs/ /
COPY nginx.conf /etc/nginx/nginx.conf
ENTRYPOINT ["/usr/sbin/nginx", "-g", "daemon off; error_log stderr; user root;"]
"#;

/// Copies this machine's nginx with its libraries.
const COPY_NGINX: &str = r"set -e
cd nginx
mkdir -p rootfs/{etc,run,tmp,usr/sbin,var/lib/nginx,var/log/nginx}
echo root:x:0:0:root:/:/bin/false >rootfs/etc/passwd
echo root:x:0: >rootfs/etc/group
nginx=$(command -v nginx)
cp $nginx rootfs/usr/sbin/
cp --parents --dereference $(ldd $nginx | grep -o '/[^ ]*') rootfs/
";

/// Fields are dropped in this order.
pub(super) struct Machine {
    docker: Option<Engine>,
    namespace: Daemon,
    // Removed when dropped.
    _network: Network,
    directory: TempDir,
}

impl Machine {
    /// A machine whose docker has the image under the names that the tutorials type; `None`, and a
    /// report, where this machine cannot run it.
    pub(super) fn new() -> Option<Self> {
        let dist = dist("tutorials")?;
        let more = [
            Need::Program("curl"),
            Need::Program("docker-compose"),
            Need::Program("nginx"),
            Need::Overlays,
        ];
        if !require::met("tutorials", &NEEDS) || !require::met("tutorials", &more) {
            return None;
        }
        let network = Network::new();
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path();
        let mut holder = network.command();
        holder.args(["unshare", "--mount", "sh", "-euc", NAMESPACE, "sh"]).arg(path);
        let log = path.join("namespace.log");
        let namespace = Daemon::start(&mut holder, &log, || path.join("ready").exists());
        let mut machine = Self { docker: None, namespace, _network: network, directory };
        for service in ["service", "systemctl"] {
            machine.has_program(service, SERVICE);
        }
        machine.has_program("registry-listens", LISTENS);
        machine.start_docker(&[]);
        machine.types(&format!("ip addr add {ADDRESS}/32 dev lo")).succeeds();
        machine.load_images(&the_file(&dist, "-image.tar"));
        Some(machine)
    }

    /// Types commands, and restarts docker if they asked for it.
    pub(super) fn types(&mut self, commands: &str) -> Outcome {
        let mut shell = client("nsenter");
        self.enter(&mut shell);
        shell.args(["bash", "-c"]).arg(format!("cd ~\n{commands}"));
        let inherited = std::env::var("PATH").unwrap_or_default();
        shell.env("PATH", format!("{}:{inherited}", self.path().join("bin").display()));
        shell.env("HOME", self.path().join("home")).env("DOCKER_BUILDKIT", "0");
        // Compose 2 then names containers as the tutorials do.
        shell.env("COMPOSE_COMPATIBILITY", "true");
        if let Some(docker) = &self.docker {
            shell.env("DOCKER_HOST", docker.host());
        }
        shell.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_CONFIG");
        let outcome = Outcome::of(&mut shell);
        let restart = self.path().join("restart");
        if let Ok(options) = fs::read_to_string(&restart) {
            fs::remove_file(&restart).expect("the note can be removed");
            self.docker = None;
            self.start_docker(&options.split_whitespace().collect::<Vec<_>>());
        }
        outcome
    }

    /// Builds an image of this machine's nginx, with a configuration, under that name.
    pub(super) fn has_nginx(&mut self, name: &str, configuration: &str) {
        let context = self.path().join("home/nginx");
        fs::create_dir_all(&context).expect("a directory can be made");
        fs::write(context.join("nginx.conf"), configuration).expect("a file can be written");
        fs::write(context.join("Dockerfile"), NGINX).expect("a file can be written");
        self.types(&format!("{COPY_NGINX}\ndocker build -q -t {name} .")).succeeds();
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The arguments of nsenter.
    fn enter(&self, command: &mut Command) {
        let pid = self.namespace.id();
        command.arg(format!("--net=/proc/{pid}/ns/net")).arg(format!("--mount=/proc/{pid}/ns/mnt"));
    }

    fn start_docker(&mut self, options: &[&str]) {
        let mut command = Command::new("nsenter");
        self.enter(&mut command);
        self.docker = Some(Engine::start_in(command, self.path(), "docker", options));
    }

    /// The registry under its names in the tutorials, and the images that they push.
    fn load_images(&mut self, archive: &Path) {
        self.types(&format!("docker load -i {}", archive.display())).succeeds();
        for name in ["registry", "registry:2", "registry:2.0", "registry:2.5.0"] {
            self.types(&format!("docker tag {IMAGE} {name}")).succeeds();
        }
        for name in ["ubuntu", "busybox", "hello-world", "xfdsend"] {
            let tar: PathBuf = image::tar(self.path(), name);
            self.types(&format!("docker import {} {name}", tar.display())).succeeds();
        }
    }

    fn has_program(&self, name: &str, text: &str) {
        let path = self.path().join("bin").join(name);
        fs::write(&path, text).expect("a file can be written");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&path, executable).expect("its mode can be set");
    }
}
