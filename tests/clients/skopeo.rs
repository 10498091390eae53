//! Skopeo, which speaks the protocol without a daemon and copies from registry to registry.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use testkit::process::{Outcome, client};
use testkit::require::{self, Need};

use crate::image::Layout;
use crate::server::{ADMIN, PASSWORD, Server, USER, WRONG_PASSWORD};

#[test]
fn skopeo_does_not_trust_the_registry_without_the_ca() {
    let Some(bench) = Bench::new() else { return };

    let mut login = bench.skopeo("login");
    login.args(["--username", USER, "--password-stdin", &bench.server.name()]);

    Outcome::with_input(&mut login, PASSWORD)
        .fails_saying("x509: certificate signed by unknown authority");
}

#[test]
fn skopeo_login_with_a_wrong_password_is_refused() {
    let Some(bench) = Bench::new() else { return };

    bench.login(WRONG_PASSWORD).fails_saying("invalid username/password");
}

#[test]
fn skopeo_copy_without_login_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.image("image");

    bench.push(&image, "nobody/here:1").fails_saying("unauthorized");
}

#[test]
fn skopeo_copies_an_image_between_repositories_and_back_unchanged() {
    let Some(bench) = Bench::logged_in() else {
        return;
    };
    let image = bench.image("image");

    bench.push(&image, "copy/source:1").succeeds();
    bench.copy_within("copy/source:1", "copy/target:2").succeeds();
    let back = format!("oci:{}:back", bench.path().join("back").display());
    let mut pull = bench.skopeo("copy");
    pull.args(["--preserve-digests", "--src-cert-dir"]).arg(bench.server.trust());
    Outcome::of(pull.args([&bench.reference("copy/target:2"), &back])).succeeds();

    assert_eq!(bench.digest("copy/source:1"), image.digest);
    assert_eq!(bench.digest("copy/target:2"), image.digest);
    let mut inspect = bench.skopeo("inspect");
    let digest = Outcome::of(inspect.args(["--format", "{{.Digest}}", &back])).succeeds();
    assert_eq!(digest, image.digest);
}

#[test]
fn skopeo_copies_every_image_of_an_index() {
    let Some(bench) = Bench::logged_in() else {
        return;
    };
    let index = Layout::index(&bench.path().join("index"), "name");

    bench.push(&index, "index/source:1").succeeds();
    bench.copy_within("index/source:1", "index/target:1").succeeds();

    let raw = bench.inspect("index/target:1", &["--raw"]).succeeds();
    let raw: serde_json::Value = serde_json::from_str(&raw).expect("an index is JSON");
    let manifests = raw["manifests"].as_array().expect("an index has manifests");
    assert_eq!(manifests.len(), 2);
    for manifest in manifests {
        let digest = manifest["digest"].as_str().expect("a descriptor has a digest");
        assert_eq!(bench.digest(&format!("index/target@{digest}")), digest);
    }
    let whole = bench.reference(&format!("index/target@{}", index.digest));
    let mut inspect = bench.skopeo("inspect");
    inspect.arg("--cert-dir").arg(bench.server.trust());
    Outcome::of(inspect.args(["--raw", &whole])).succeeds();
}

#[test]
fn skopeo_inspects_an_image_and_lists_its_tags() {
    let Some(bench) = Bench::logged_in() else {
        return;
    };
    let image = bench.image("image");
    bench.push(&image, "tags/here:beta").succeeds();
    bench.push(&image, "tags/here:alpha").succeeds();

    let layers = bench.inspect("tags/here:alpha", &["--format", "{{len .Layers}}"]).succeeds();
    let mut list = bench.skopeo("list-tags");
    list.arg("--cert-dir").arg(bench.server.trust());
    let tags = Outcome::of(list.arg(bench.reference("tags/here"))).succeeds();

    assert_eq!(layers, "2");
    let tags: serde_json::Value = serde_json::from_str(&tags).expect("skopeo lists JSON");
    assert_eq!(tags["Tags"], serde_json::json!(["alpha", "beta"]));
}

#[test]
fn skopeo_deletes_an_image_and_nothing_beside_it() {
    let Some(bench) = Bench::logged_in() else {
        return;
    };
    let (image, other) = (bench.image("image"), bench.image("other"));
    bench.push(&image, "delete/here:gone").succeeds();
    bench.push(&other, "delete/here:stays").succeeds();

    let mut delete = bench.skopeo("delete");
    delete.arg("--cert-dir").arg(bench.server.trust());
    Outcome::of(delete.arg(bench.reference("delete/here:gone"))).succeeds();

    bench.inspect("delete/here:gone", &["--raw"]).fails_saying("manifest unknown");
    assert_eq!(bench.digest("delete/here:stays"), other.digest);
}

/// Two challenges: everybody may pull `public/**` of the first server, and nobody anything of the second.
#[test]
fn skopeo_pulls_without_credentials_by_either_challenge() {
    let rules = "    - {who: anyone, repositories: public/**, may: pull}\n";
    for challenge in ["bearer", "basic"] {
        let server = || Server::with_challenge(Server::free_address(), challenge, rules);
        let Some(bench) = Bench::on(server) else { return };
        bench.login_as(ADMIN, PASSWORD).succeeds();
        bench.push(&bench.image("image"), "public/app:1").succeeds();
        bench.push(&bench.image("image"), "secret/app:1").succeeds();
        bench.logout();

        bench.inspect("public/app:1", &[]).succeeds();
        bench.inspect("secret/app:1", &[]).fails_saying("unauthorized");
        bench.login(WRONG_PASSWORD).fails_saying("invalid username/password");
        bench.login_as(ADMIN, PASSWORD).succeeds();
        bench.inspect("secret/app:1", &[]).succeeds();
    }
}

#[test]
fn skopeo_is_refused_where_anyone_may_pull_from_other_addresses_only() {
    let rules = "    - {who: anyone, from: 192.0.2.0/24, may: pull}\n";
    let Some(bench) = Bench::with_access(rules) else { return };
    bench.login_as(ADMIN, PASSWORD).succeeds();
    bench.push(&bench.image("image"), "public/app:1").succeeds();
    bench.logout();

    bench.inspect("public/app:1", &[]).fails_saying("unauthorized");
    bench.login(WRONG_PASSWORD).fails_saying("invalid username/password");
}

#[test]
fn skopeo_lists_tags_of_public_only() {
    let rules = "    - {who: anyone, repositories: public/**, may: pull}\n";
    let Some(bench) = Bench::with_access(rules) else { return };
    bench.login_as(ADMIN, PASSWORD).succeeds();
    bench.push(&bench.image("image"), "public/app:1").succeeds();
    bench.push(&bench.image("image"), "secret/app:1").succeeds();
    bench.logout();
    let list = |repository: &str| {
        let mut list = bench.skopeo("list-tags");
        list.arg("--cert-dir").arg(bench.server.trust());
        Outcome::of(list.arg(bench.reference(repository)))
    };

    let tags = list("public/app").succeeds();
    assert!(tags.contains("\"1\""), "{tags}");
    list("secret/app").fails_saying("requested access to the resource is denied");
    list("no/such").fails_saying("requested access to the resource is denied");

    bench.login(PASSWORD).succeeds();
    list("secret/app").fails_saying("403 (Forbidden)");
}

#[test]
fn skopeo_is_told_that_the_quota_has_no_room() {
    let quota =
        "    - {who: users, may: push}\n  quotas:\n    - {repositories: full/**, bytes: 64B}\n";
    let Some(bench) = Bench::with_access(quota) else { return };
    bench.login(PASSWORD).succeeds();
    let image = bench.image("image");

    bench.push(&image, "full/app:1").fails_saying("denied: full/app may hold 64 B: 0 B are used");
    bench.push(&image, "roomy/app:1").succeeds();
}

/// A server, and a place for skopeo's credentials.
struct Bench {
    server: Server,
    directory: TempDir,
}

impl Bench {
    fn new() -> Option<Self> {
        Self::on(Server::on_loopback)
    }

    fn with_access(rules: &str) -> Option<Self> {
        Self::on(|| Server::with_access(Server::free_address(), rules))
    }

    fn on(server: impl FnOnce() -> Server) -> Option<Self> {
        if !require::met("skopeo", &[Need::Program("skopeo")]) {
            return None;
        }
        let directory = TempDir::new().expect("a temporary directory");
        Some(Self { server: server(), directory })
    }

    fn logged_in() -> Option<Self> {
        let bench = Self::new()?;
        bench.login(PASSWORD).succeeds();
        Some(bench)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn image(&self, name: &str) -> Layout {
        Layout::image(&self.path().join(name), "name")
    }

    fn reference(&self, repository_and_tag: &str) -> String {
        format!("docker://{}", self.server.image(repository_and_tag))
    }

    fn skopeo(&self, subcommand: &str) -> Command {
        let mut skopeo = client("skopeo");
        skopeo
            .env("HOME", self.path())
            .env("REGISTRY_AUTH_FILE", self.path().join("auth.json"))
            .arg(subcommand);
        skopeo
    }

    fn logout(&self) {
        Outcome::of(self.skopeo("logout").arg(self.server.name())).succeeds();
    }

    fn login(&self, password: &str) -> Outcome {
        self.login_as(USER, password)
    }

    fn login_as(&self, user: &str, password: &str) -> Outcome {
        let mut login = self.skopeo("login");
        login.arg("--cert-dir").arg(self.server.trust());
        login.args(["--username", user, "--password-stdin", &self.server.name()]);
        Outcome::with_input(&mut login, password)
    }

    /// Copies a layout to the registry unchanged.
    fn push(&self, layout: &Layout, to: &str) -> Outcome {
        let mut copy = self.skopeo("copy");
        copy.args(["--all", "--preserve-digests", "--dest-cert-dir"]).arg(self.server.trust());
        Outcome::of(copy.args([layout.reference("name"), self.reference(to)]))
    }

    /// Copies from one repository to another.
    fn copy_within(&self, from: &str, to: &str) -> Outcome {
        let trust = self.server.trust();
        let mut copy = self.skopeo("copy");
        copy.args(["--all", "--preserve-digests"]);
        copy.arg("--src-cert-dir").arg(&trust).arg("--dest-cert-dir").arg(&trust);
        Outcome::of(copy.args([self.reference(from), self.reference(to)]))
    }

    fn inspect(&self, image: &str, options: &[&str]) -> Outcome {
        let mut inspect = self.skopeo("inspect");
        inspect.arg("--cert-dir").arg(self.server.trust()).args(options);
        Outcome::of(inspect.arg(self.reference(image)))
    }

    fn digest(&self, image: &str) -> String {
        self.inspect(image, &["--format", "{{.Digest}}"]).succeeds()
    }
}
