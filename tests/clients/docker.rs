//! The docker CLI and a dockerd of the test's own, on the far side of a veth pair.
//!
//! The daemon sends the requests, for `docker login` too, so the daemon has to trust the server.
//! `/etc/docker` is a directory of the test's own: empty, so that no registry is insecure, unless a test
//! writes `daemon.json` there.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::process::Outcome;
use testkit::require;

use crate::dockerd::{Bridge, Engine, NEEDS};
use crate::image;
use crate::netns::Network;
use crate::server::{ADMIN, PASSWORD, Server, USER, WRONG_PASSWORD};

#[test]
fn docker_does_not_trust_the_registry_before_it_has_the_ca() {
    let Some(bench) = Bench::new() else { return };

    bench.login(PASSWORD).fails_saying("x509: certificate signed by unknown authority");

    bench.trust_the_server();
    bench.login(PASSWORD).succeeds();
}

#[test]
fn docker_login_with_a_wrong_password_is_unauthorized() {
    let Some(bench) = Bench::trusting() else {
        return;
    };

    bench.login(WRONG_PASSWORD).fails_saying("unauthorized");

    bench.login(PASSWORD).succeeds();
}

/// docker has an insecure registry in `localhost` and in what `insecure-registries` names. It tries plain
/// HTTP there when HTTPS has failed, after a 401 too, and shows the response to the last request.
#[test]
fn docker_without_a_login_says_what_to_type_where_it_falls_back_to_http() {
    let Some(mut bench) = Bench::new() else { return };
    let insecure = format!(r#"{{"insecure-registries": ["{}"]}}"#, bench.server.name());
    fs::write(bench.path().join("etc/daemon.json"), insecure).expect("a file can be written");
    bench.wipe_the_daemon();
    let image = bench.server.image("no/login:1");
    bench.build(&image, &["file"]);
    let login = format!("docker login {}", bench.server.name());

    // docker does not send the request of a push without credentials.
    bench.docker(["push", &image]).fails_saying("no basic auth credentials");
    bench.docker(["pull", &image]).fails_saying(&login);

    bench.login(PASSWORD).succeeds();
    bench.docker(["push", &image]).succeeds();
}

/// Users build between a login and a push. The daemon keeps its connections meanwhile, and the
/// server closes them at its idle timeout.
#[test]
fn docker_pushes_after_a_pause_longer_than_unauthenticated_clients_are_waited_for() {
    let Some(bench) = Bench::trusting() else {
        return;
    };
    let image = bench.server.image("after/pause:1");
    bench.build(&image, &["one", "two", "three"]);
    bench.docker(["push", &image]).fails_saying("no basic auth credentials");
    bench.login(PASSWORD).succeeds();

    std::thread::sleep(Duration::from_secs(15));
    bench.docker(["push", &image]).succeeds();
    std::thread::sleep(Duration::from_secs(15));
    bench.docker(["pull", &image]).succeeds();
}

#[test]
fn docker_pulls_on_a_wiped_daemon_what_it_pushed() {
    let Some(mut bench) = Bench::trusting() else {
        return;
    };
    let image = bench.server.image("single/layer:1");
    let tar = image::tar(bench.path(), "rootfs");
    bench.login(PASSWORD).succeeds();

    let id = bench.docker(["import", tar.to_str().expect("UTF-8"), &image]).succeeds();
    bench.docker(["push", &image]).succeeds();
    bench.wipe_the_daemon();
    bench.docker(["image", "inspect", &image]).fails_saying("no such image");
    bench.docker(["pull", &image]).succeeds();

    assert_eq!(bench.image_id(&image), id);
}

#[test]
fn docker_pulls_an_image_of_many_layers_by_its_second_tag() {
    let Some(mut bench) = Bench::trusting() else {
        return;
    };
    let first = bench.server.image("many/layers:1");
    let second = bench.server.image("many/layers:second");
    bench.login(PASSWORD).succeeds();

    bench.build(&first, &["one", "two", "three", "four", "five"]);
    let id = bench.image_id(&first);
    bench.docker(["push", &first]).succeeds();
    bench.docker(["tag", &first, &second]).succeeds();
    bench.docker(["push", &second]).succeeds();
    bench.wipe_the_daemon();
    bench.docker(["pull", &second]).succeeds();

    assert_eq!(bench.image_id(&second), id);
    let layers =
        bench.docker(["image", "inspect", "-f", "{{len .RootFS.Layers}}", &second]).succeeds();
    assert_eq!(layers, "5");
}

/// docker gives a pull up after a 429, and asks for its layers all at once.
#[test]
fn docker_pulls_and_pushes_under_low_limits() {
    let limits = "{requests: 4/s, burst: 1, delay: 60s, download: 256KiB/s, upload: 256KiB/s}";
    let Some(mut bench) =
        Bench::on(|network| Server::with_limits(network.server_address(), limits))
    else {
        return;
    };
    bench.trust_the_server();
    let image = bench.server.image("under/limits:1");
    let context = image::context(bench.path(), &["one", "two", "three", "four"]);
    // Bytes that no compression makes fewer.
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(1 << 20)
    .collect();
    fs::write(context.join("one"), noise).expect("a file can be written");
    bench.engine.build(&image, &context);
    let id = bench.image_id(&image);
    bench.login(PASSWORD).succeeds();
    bench.docker(["push", &image]).succeeds();
    bench.wipe_the_daemon();
    let began = Instant::now();
    bench.docker(["pull", &image]).succeeds();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(3800), "{took:?}");
    assert_eq!(bench.image_id(&image), id);
}

#[test]
fn docker_pulls_by_the_digest_that_the_push_told() {
    let Some(mut bench) = Bench::trusting() else {
        return;
    };
    let image = bench.server.image("by/digest:1");
    bench.login(PASSWORD).succeeds();

    bench.build(&image, &["file"]);
    let id = bench.image_id(&image);
    let told = bench.docker(["push", &image]).succeeds();
    let digest = told
        .split_whitespace()
        .find(|word| word.starts_with("sha256:"))
        .expect("docker push prints the digest");
    let by_digest = bench.server.image(&format!("by/digest@{digest}"));
    bench.wipe_the_daemon();
    bench.docker(["pull", &by_digest]).succeeds();

    assert_eq!(bench.image_id(&by_digest), id);
}

#[test]
fn docker_search_finds_a_repository_by_a_part_of_its_name() {
    let Some(bench) = Bench::trusting() else {
        return;
    };
    let image = bench.server.image("team/lighthouse:1");
    bench.login(PASSWORD).succeeds();
    bench.build(&image, &["file"]);
    bench.docker(["push", &image]).succeeds();

    let found = bench.docker(["search", &bench.server.image("light")]).succeeds();
    let nothing = bench.docker(["search", &bench.server.image("windmill")]).succeeds();

    let with_tag = bench.docker(["search", &image]).succeeds();

    assert!(found.contains("team/lighthouse"), "found: {found}");
    assert!(with_tag.contains("team/lighthouse"), "found: {with_tag}");
    assert!(!nothing.contains("team/lighthouse"), "found: {nothing}");
}

#[test]
fn docker_push_after_logout_is_refused() {
    let Some(bench) = Bench::trusting() else {
        return;
    };
    let image = bench.server.image("after/logout:1");
    bench.build(&image, &["file"]);
    bench.login(PASSWORD).succeeds();
    bench.docker(["push", &image]).succeeds();

    bench.docker(["logout", &bench.server.name()]).succeeds();

    bench.docker(["push", &image]).fails_saying("no basic auth credentials");
    bench.docker(["pull", &image]).fails_saying("no basic auth credentials");
}

/// The secret is the password of Basic, the only one that docker knows for a registry. The server reads
/// the token file by itself.
#[test]
fn docker_logs_in_with_a_deploy_token() {
    let Some(mut bench) = Bench::trusting() else {
        return;
    };
    let rights = ["--may", "push", "--repositories", "team-a/**,base/go"];
    let create = ["token", "create", "ci-team-a"].into_iter().chain(rights);
    let secret = bench.server.command(create);
    let mine = bench.server.image("team-a/app:1");
    let other = bench.server.image("team-b/app:1");
    bench.build(&mine, &["file"]);
    bench.docker(["tag", &mine, &other]).succeeds();
    let id = bench.image_id(&mine);

    let begun = Instant::now();
    while !bench.login_as("ci-team-a", &secret).said().contains("Login Succeeded") {
        assert!(begun.elapsed() < Duration::from_secs(10), "the server does not know the token");
    }
    bench.docker(["push", &mine]).succeeds();
    bench.docker(["push", &other]).fails_saying("denied");
    bench.wipe_the_daemon();
    bench.docker(["pull", &mine]).succeeds();
    assert_eq!(bench.image_id(&mine), id);
    assert!(bench.server.command(["token", "list", "--json"]).contains("\"lastUsed\":"));

    bench.server.command(["token", "revoke", "ci-team-a"]);
    let begun = Instant::now();
    while bench.login_as("ci-team-a", &secret).said().contains("Login Succeeded") {
        assert!(begun.elapsed() < Duration::from_secs(10), "a revoked token is let in");
    }
    bench.docker(["pull", &mine]).fails_saying("unauthorized");
    bench.login(PASSWORD).succeeds();
}

/// Everybody pulls `public/**`, and users push `team/**`.
const OPEN: &str = "    - {who: anyone, repositories: public/**, may: pull}
    - {who: users, repositories: team/**, may: push}
";

#[test]
fn docker_login_checks_the_password_where_everybody_may_pull() {
    let Some(bench) = Bench::with_access(OPEN) else { return };

    bench.login(WRONG_PASSWORD).fails_saying("unauthorized");
    bench.login(PASSWORD).succeeds();
}

#[test]
fn docker_pulls_a_public_image_without_login() {
    let Some(mut bench) = Bench::with_access(OPEN) else { return };
    let public = bench.server.image("public/app:1");
    let secret = bench.server.image("secret/app:1");
    bench.login_as(ADMIN, PASSWORD).succeeds();
    bench.build(&public, &["file"]);
    bench.docker(["push", &public]).succeeds();
    bench.docker(["tag", &public, &secret]).succeeds();
    bench.docker(["push", &secret]).succeeds();
    bench.docker(["logout", &bench.server.name()]).succeeds();
    bench.wipe_the_daemon();

    bench.docker(["pull", &public]).succeeds();
    bench.docker(["pull", &secret]).fails_saying("may require 'docker login'");
    bench
        .docker(["pull", &bench.server.image("no/such:1")])
        .fails_saying("may require 'docker login'");
}

#[test]
fn docker_pushes_after_login_where_everybody_may_pull() {
    let Some(mut bench) = Bench::with_access(OPEN) else { return };
    let image = bench.server.image("team/app:1");
    bench.build(&image, &["one", "two"]);
    bench.docker(["push", &image]).fails();

    bench.login(PASSWORD).succeeds();
    bench.docker(["push", &image]).succeeds();
    bench.wipe_the_daemon();
    bench.docker(["pull", &image]).succeeds();
}

#[test]
fn docker_is_told_what_it_may_not_push() {
    let Some(bench) = Bench::with_access(OPEN) else { return };
    let image = bench.server.image("other/app:1");
    bench.build(&image, &["file"]);
    bench.login(PASSWORD).succeeds();

    bench.docker(["push", &image]).fails_saying("ann may not push to other/app");
    bench.docker(["pull", &image]).fails_saying("ann may not pull other/app");
}

/// Users push, and a repository below `full` may hold less than a layer.
const QUOTA: &str = "    - {who: users, may: push}
  quotas:
    - {repositories: full/**, bytes: 64B}
";

/// docker sends a blob six times where the code of the error is another than `DENIED`.
#[test]
fn docker_is_told_that_the_quota_has_no_room_and_gives_up() {
    let Some(bench) = Bench::with_access(QUOTA) else { return };
    let image = bench.server.image("full/app:1");
    bench.build(&image, &["file"]);
    bench.login(PASSWORD).succeeds();

    bench.docker(["push", &image]).fails_saying("denied: full/app may hold 64 B: 0 B are used, ");

    let log = bench.server.log();
    let sent = log.lines().filter(|line| line.contains("\"PATCH /v2/full/app/"));
    let sent: Vec<&str> = sent.collect();
    assert!(sent.len() == 1 && sent[0].contains("\" 413 "), "{sent:?}");
    let other = bench.server.image("roomy/app:1");
    bench.docker(["tag", &image, &other]).succeeds();
    bench.docker(["push", &other]).succeeds();
    // A mount that the quota refuses is an upload that it refuses.
    bench.docker(["push", &image]).fails_saying("full/app may hold 64 B: 0 B are used, ");
}

/// docker mounts from the repositories where its layers were last seen, whoever may read them now.
#[test]
fn docker_pushes_although_the_mount_source_is_secret() {
    let Some(mut bench) = Bench::with_access(OPEN) else { return };
    let secret = bench.server.image("secret/app:1");
    let image = bench.server.image("team/app:1");
    bench.login_as(ADMIN, PASSWORD).succeeds();
    bench.build(&secret, &["one", "two"]);
    bench.docker(["push", &secret]).succeeds();
    bench.docker(["tag", &secret, &image]).succeeds();
    bench.login(PASSWORD).succeeds();

    bench.docker(["push", &image]).succeeds();

    let log = bench.server.log();
    let mount = |line: &&str| line.contains("&from=secret") || line.contains("from=secret%2Fapp");
    let mounts: Vec<&str> =
        log.lines().filter(mount).filter(|line| line.contains(" ann ")).collect();
    assert!(!mounts.is_empty(), "docker asks for mounts");
    assert!(mounts.iter().all(|line| line.contains("\" 202 ")), "{mounts:?}");
    bench.wipe_the_daemon();
    bench.docker(["pull", &image]).succeeds();
}

#[test]
fn docker_search_shows_what_ann_may_pull() {
    let Some(bench) = Bench::with_access(OPEN) else { return };
    bench.login_as(ADMIN, PASSWORD).succeeds();
    for name in ["public/lighthouse:1", "team/lighthouse:1", "secret/lighthouse:1"] {
        let image = bench.server.image(name);
        bench.build(&image, &["file"]);
        bench.docker(["push", &image]).succeeds();
    }
    let search = || bench.docker(["search", &bench.server.image("lighthouse")]);

    bench.login(PASSWORD).succeeds();
    let found = search().succeeds();

    assert!(found.contains("public/lighthouse") && found.contains("team/lighthouse"), "{found}");
    assert!(!found.contains("secret/lighthouse"), "{found}");
    bench.docker(["logout", &bench.server.name()]).succeeds();
    search().fails_saying("Unexpected status code 401");
}

/// A server, a daemon, and the network between them. Fields are dropped in this order.
pub(crate) struct Bench {
    engine: Engine,
    pub(crate) server: Server,
    network: Network,
    directory: TempDir,
    daemons: usize,
}

impl Bench {
    /// A daemon that does not know the server's CA; `None` if the machine cannot run one.
    pub(crate) fn new() -> Option<Self> {
        Self::on(|network| Server::start(network.server_address()))
    }

    /// A daemon that trusts a server with access rules.
    pub(crate) fn with_access(rules: &str) -> Option<Self> {
        let bench = Self::on(|network| Server::with_access(network.server_address(), rules))?;
        bench.trust_the_server();
        Some(bench)
    }

    pub(crate) fn on(server: impl FnOnce(&Network) -> Server) -> Option<Self> {
        if !require::met("docker", &NEEDS) {
            return None;
        }
        let network = Network::new();
        let server = server(&network);
        let directory = TempDir::new().expect("a temporary directory");
        let engine = Engine::start(&network, directory.path(), "daemon-0", Bridge::Absent);
        Some(Self { engine, server, network, directory, daemons: 1 })
    }

    pub(crate) fn trusting() -> Option<Self> {
        let bench = Self::new()?;
        bench.trust_the_server();
        Some(bench)
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Installs the CA as a user does: in `/etc/docker/certs.d/HOST:PORT/`.
    pub(crate) fn trust_the_server(&self) {
        let certs = self.path().join("etc/certs.d").join(self.server.name());
        fs::create_dir_all(&certs).expect("a directory can be made");
        fs::copy(self.server.trust().join("ca.crt"), certs.join("ca.crt")).expect("a CA");
    }

    /// Replaces the daemon by one that has never seen an image or a registry.
    pub(crate) fn wipe_the_daemon(&mut self) {
        let name = format!("daemon-{}", self.daemons);
        self.engine = Engine::start(&self.network, self.path(), &name, Bridge::Absent);
        self.daemons += 1;
    }

    pub(crate) fn command(&self) -> Command {
        self.engine.command()
    }

    pub(crate) fn docker<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Outcome {
        self.engine.docker(arguments)
    }

    pub(crate) fn login(&self, password: &str) -> Outcome {
        self.login_as(USER, password)
    }

    pub(crate) fn login_as(&self, user: &str, password: &str) -> Outcome {
        let server = self.server.name();
        let mut login = self.command();
        Outcome::with_input(
            login.args(["login", "--username", user, "--password-stdin", &server]),
            password,
        )
    }

    /// Builds `image` with one layer per file.
    pub(crate) fn build(&self, image: &str, files: &[&str]) {
        self.engine.build(image, &image::context(self.path(), files));
    }

    pub(crate) fn image_id(&self, image: &str) -> String {
        self.docker(["image", "inspect", "--format", "{{.Id}}", image]).succeeds()
    }
}
