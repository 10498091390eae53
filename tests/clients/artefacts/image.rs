//! The image, loaded into a dockerd and used as registry:2's.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use testkit::process::Outcome;
use testkit::require;

use super::{dist, the_file};
use crate::dockerd::{Bridge, Engine, NEEDS};
use crate::image;
use crate::netns::Network;

/// The name that the archive gives the image.
pub(crate) const IMAGE: &str = "portcullis:latest";

#[test]
fn image_keeps_pushed_images_in_the_folder_that_is_mounted_at_registry_2_s_path() {
    let Some(host) = Host::new("image") else { return };
    let data = host.folder("data");
    host.run(
        "registry",
        &["--publish", "5000:5000", "--volume", &volume(&data, "/var/lib/registry")],
    );
    host.log_in("registry");

    host.push("localhost:5000/team/app:1");
    assert!(data.join("docker/registry/v2/repositories/team/app/_manifests/tags/1").is_dir());
    host.docker(["image", "rm", "localhost:5000/team/app:1"]).succeeds();
    host.docker(["pull", "localhost:5000/team/app:1"]).succeeds();

    let found = host.docker(["exec", "registry", "portcullis", "verify"]);
    found.succeeds();
    assert!(found.said().contains("1 manifests"), "{}", found.said());
}

#[test]
fn image_uses_a_file_that_is_mounted_where_registry_2_has_it() {
    let Some(host) = Host::new("image with registry:2's file") else { return };
    let data = host.folder("data");
    for path in ["/etc/docker/registry/config.yml", "/etc/distribution/config.yml"] {
        let file = host.directory.path().join("config.yml");
        let yaml =
            "version: 0.1\nstorage: {filesystem: {rootdirectory: /images}}\nhttp: {addr: :5000}\n";
        fs::write(&file, yaml).expect("a file can be written");
        let options = [
            "--publish",
            "5000:5000",
            "--volume",
            &volume(&data, "/images"),
            "--volume",
            &volume(&file, path),
        ];
        host.run("registry", &options);
        host.log_in("registry");
        host.push("localhost:5000/team/app:1");
        assert!(data.join("docker/registry/v2/repositories/team/app").is_dir());

        let collect = ["exec", "registry", "/bin/registry", "garbage-collect", path];
        host.docker(collect).succeeds();
        host.docker(["exec", "registry", "portcullis", "verify"]).succeeds();
        host.docker(["rm", "--force", "--volumes", "registry"]).succeeds();
        fs::remove_dir_all(data.join("docker")).expect("images can be removed");
    }
}

#[test]
fn image_makes_password_lines_as_registry_2_s_documentation_has_it() {
    let Some(host) = Host::new("htpasswd in the image") else { return };
    let line = ["run", "--rm", "--entrypoint", "htpasswd", IMAGE, "-Bbn", "alice", "secret"];
    let said = host.docker(line).succeeds();
    assert!(said.starts_with("alice:$2"), "{said}");
}

#[test]
fn image_runs_as_any_user_who_owns_the_folders_and_on_new_volumes() {
    let Some(host) = Host::new("image of a user") else { return };
    let data = host.folder("data");
    chown(&data, Some(65532), Some(65532)).expect("root may");
    let user = ["--user", "65532", "--read-only", "--cap-drop", "ALL", "--publish", "5000:5000"];
    let mounted = volume(&data, "/var/lib/registry");
    host.run("mounted", &[&user[..], &["--volume", &mounted]].concat());
    host.log_in("mounted");
    host.push("localhost:5000/team/app:1");
    assert_eq!(fs::metadata(data.join("docker")).expect("a folder").uid(), 65532);
    host.docker(["rm", "--force", "mounted"]).succeeds();

    host.run("volumes", &[&user[..], &["--volume", "images:/var/lib/registry"]].concat());
    host.log_in("volumes");
    host.push("localhost:5000/team/app:1");
}

/// The static program asks the name server of a network for the host of a webhook, and believes the
/// authorities of the file that the image has.
#[test]
fn image_resolves_names_by_dns_and_trusts_the_authorities_of_its_file() {
    const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
    let Some(host) = Host::new("image with DNS") else { return };
    host.docker(["network", "create", "team"]).succeeds();
    let named = ["--network", "team", "--hostname", "receiver"];
    let run = ["run", "--detach", "--name", "receiver"];
    host.docker(run.iter().chain(&named).copied().chain([IMAGE])).succeeds();
    let copied = |from: &str, name: &str| {
        let to = host.directory.path().join(name);
        let text = to.to_str().expect("UTF-8");
        host.docker(["cp", &format!("receiver:{from}"), text]).succeeds();
        to
    };
    let public = fs::read_to_string(copied(AUTHORITIES, "public.crt")).expect("a file");
    assert!(public.matches("BEGIN CERTIFICATE").count() > 50, "{public}");

    // The file with the receiver's authority in place of those of the web.
    let log = |container: &str| host.docker(["logs", container]).said();
    until("certificate", || log("receiver").contains("ca.crt"));
    let authority = copied("/var/lib/portcullis/certs/ca.crt", "ca.crt");
    let mounted = volume(&authority, AUTHORITIES);
    let endpoints =
        "REGISTRY_NOTIFICATIONS_ENDPOINTS=[{name: a, url: \"https://receiver:5000/events\"}]";
    let network = ["--network", "team", "--publish", "5000:5000", "--env", endpoints];
    for (name, options) in [("trusting", &["--volume", &mounted][..]), ("public", &[])] {
        host.run(name, &[&network[..], options].concat());
        host.log_in(name);
        host.push("localhost:5000/team/app:1");
        match name {
            "trusting" => until("event", || log("receiver").contains("POST /events")),
            _ => until("refusal", || log(name).contains("UnknownIssuer")),
        }
        host.docker(["rm", "--force", "--volumes", name]).succeeds();
    }
}

#[test]
fn image_of_the_dockerfile_has_the_files_and_settings_of_the_archive() {
    let Some(host) = Host::new("Dockerfile") else { return };
    host.engine.build("built", &host.dist.join("image"));
    let settings = |image: &str| -> Value {
        let shown = host.docker(["image", "inspect", "--format", "{{json .Config}}", image]);
        let mut config: Value = serde_json::from_str(&shown.succeeds()).expect("JSON");
        let keys = ["Env", "Entrypoint", "Cmd", "WorkingDir", "Volumes", "ExposedPorts", "User"];
        keys.iter().map(|key| ((*key).to_owned(), config[*key].take())).collect()
    };
    let files = |image: &str| {
        let id = host.docker(["create", image]).succeeds();
        let tar = host.directory.path().join("files.tar");
        let mut export = host.engine.command();
        Outcome::of(export.arg("export").arg("--output").arg(&tar).arg(&id)).succeeds();
        Outcome::of(
            Command::new("tar").arg("-tvf").arg(&tar).arg("bin").arg("etc/portcullis").arg("var"),
        )
        .succeeds()
    };

    assert_eq!(settings("built"), settings(IMAGE));
    assert_eq!(files("built"), files(IMAGE));
}

#[test]
fn image_is_an_oci_layout_that_skopeo_copies() {
    let Some(folder) = dist("OCI layout") else { return };
    if !require::met("OCI layout", &[require::Need::Program("skopeo")]) {
        return;
    }
    let directory = TempDir::new().expect("a temporary directory");
    let from = format!("oci-archive:{}", the_file(&folder, "-image.tar").display());
    let to = format!("dir:{}", directory.path().join("copy").display());
    Outcome::of(Command::new("skopeo").args(["--insecure-policy", "copy", &from, &to])).succeeds();
}

/// A machine with docker on which the image is loaded. Fields are dropped in this order.
pub(crate) struct Host {
    /// Its dockerd, whose containers have a network.
    pub(crate) engine: Engine,
    network: Network,
    directory: TempDir,
    dist: PathBuf,
}

impl Host {
    /// Starts the dockerd and loads the image as [`IMAGE`]; `None`, and a report, if this machine
    /// cannot.
    pub(crate) fn new(suite: &str) -> Option<Self> {
        let dist = dist(suite)?;
        if !require::met(suite, &NEEDS) {
            return None;
        }
        let network = Network::new();
        let directory = TempDir::new().expect("a temporary directory");
        let engine = Engine::start(&network, directory.path(), "daemon", Bridge::Present);
        let mut load = engine.command();
        load.arg("load").arg("--input").arg(the_file(&dist, "-image.tar"));
        Outcome::of(&mut load).succeeds();
        Some(Self { engine, network, directory, dist })
    }

    /// A command on that machine.
    pub(crate) fn command(&self) -> Command {
        self.network.command()
    }

    /// A new folder on that machine.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.directory.path().join(name);
        fs::create_dir(&folder).expect("a directory can be made");
        folder
    }

    /// `docker` with arguments.
    pub(crate) fn docker<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Outcome {
        self.engine.docker(arguments)
    }

    /// `docker run --detach --name NAME OPTIONS IMAGE`, until the registry answers on port 5000.
    fn run(&self, name: &str, options: &[&str]) {
        let run = ["run", "--detach", "--name", name];
        self.docker(run.iter().chain(options).copied().chain([IMAGE])).succeeds();
        until("answer", || {
            let running = self.docker(["inspect", "--format", "{{.State.Running}}", name]);
            let log = || self.docker(["logs", name]).said();
            assert_eq!(running.succeeds(), "true", "the container ended:\n{}", log());
            self.answers()
        });
    }

    fn answers(&self) -> bool {
        let mut curl = self.command();
        curl.args(["curl", "--silent", "--insecure", "--output", "/dev/null"]);
        curl.arg("https://127.0.0.1:5000/v2/").status().is_ok_and(|status| status.success())
    }

    /// Logs in as the first user of the container, whose password is in a file: its output is no
    /// terminal.
    fn log_in(&self, container: &str) {
        let from = format!("{container}:/var/lib/portcullis/auth/admin.password");
        let to = self.directory.path().join("password");
        self.docker(["cp", &from, to.to_str().expect("UTF-8")]).succeeds();
        let password = fs::read_to_string(&to).expect("a password");
        let mut login = self.engine.command();
        login.args(["login", "--username", "admin", "--password-stdin", "localhost:5000"]);
        Outcome::with_input(&mut login, password.trim()).succeeds();
    }

    fn push(&self, image: &str) {
        self.engine.build(image, &image::context(self.directory.path(), &["file"]));
        self.docker(["push", image]).succeeds();
    }
}

/// Waits until something holds.
fn until(what: &str, holds: impl Fn() -> bool) {
    let asked = Instant::now();
    while !holds() {
        assert!(asked.elapsed() < Duration::from_secs(60), "no {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn volume(folder: &Path, mounted: &str) -> String {
    format!("{}:{mounted}", folder.display())
}
