//! docker with a client certificate that names it, made by the commands of docs/ACCESS.md.

use std::{fs, path::Path, process::Command};

use testkit::process::Outcome;

use crate::{
    docker::Bench,
    server::{ADMIN, PASSWORD, Server, WRONG_PASSWORD},
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ACCESS.md");

const TLS: &str = "clientcas: [clients.crt]
    clientauth: verify-client-cert-if-given
    clientidentity: dns";

const RULES: &str = "    - {who: node1.example.com, repositories: base/**, may: pull}
    - {who: users, repositories: \"nodes/{user}/**\", may: push}
";

/// Types the commands of the page that make an authority and a client certificate.
fn issue(folder: &Path) {
    let page = fs::read_to_string(PAGE).expect("the page is there");
    let (_, section) = page.split_once("\n## Client certificates\n").expect("the section");
    let (_, block) = section.split_once("```console\n").expect("its commands");
    let (block, _) = block.split_once("```").expect("their end");
    let commands = block.replace("$ ", "");
    let mut shell = Command::new("sh");
    Outcome::of(shell.current_dir(folder).args(["-e", "-c", &commands])).succeeds();
}

#[test]
fn docker_pulls_with_a_client_certificate_and_no_login() {
    let Some(mut bench) = Bench::on(|network| {
        Server::with_tls_and_access(network.server_address(), TLS, RULES, issue)
    }) else {
        return;
    };
    bench.trust_the_server();
    let image = bench.server.image("base/app:1");
    let other = bench.server.image("other/app:1");
    bench.build(&image, &["file"]);
    let id = bench.image_id(&image);
    bench.docker(["tag", &image, &other]).succeeds();
    bench.login_as(ADMIN, PASSWORD).succeeds();
    bench.docker(["push", &image]).succeeds();
    bench.docker(["push", &other]).succeeds();
    bench.docker(["logout", &bench.server.name()]).succeeds();
    bench.wipe_the_daemon();
    bench.docker(["pull", &image]).fails_saying("no basic auth credentials");

    let certs = bench.path().join("etc/certs.d").join(bench.server.name());
    for file in ["client.cert", "client.key"] {
        fs::copy(bench.server.file(file), certs.join(file)).expect("it was issued");
    }
    bench.wipe_the_daemon();
    bench.docker(["pull", &image]).succeeds();
    assert_eq!(bench.image_id(&image), id);
    bench.docker(["pull", &other]).fails_saying("cert:node1.example.com may not pull other/app");
    let own = bench.server.image("nodes/node1.example.com/app:1");
    bench.docker(["tag", &image, &own]).succeeds();
    bench.docker(["push", &own]).succeeds();
    let elsewhere = bench.server.image("nodes/node2/app:1");
    bench.docker(["tag", &image, &elsewhere]).succeeds();
    bench
        .docker(["push", &elsewhere])
        .fails_saying("cert:node1.example.com may not push to nodes/node2/app");

    // docker sends no password where `/v2/` asks for none: its user stays the certificate's.
    bench.login_as(ADMIN, WRONG_PASSWORD).succeeds();
    bench.docker(["pull", &other]).fails_saying("cert:node1.example.com may not pull other/app");
    assert!(bench.server.log().contains(" cert:node1.example.com "));
}
