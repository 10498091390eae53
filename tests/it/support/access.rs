//! Servers with access rules, and their users.

use std::{fs, sync::LazyLock};

use portcullis::{
    config::Config,
    gate::{
        self, Access, Policy,
        access::{Groups, Rule},
    },
    server::{ClientAuth, ClientCertificates, TlsOptions, certificates::ClientIdentity},
};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::{
    authority::{Authority, client_with},
    server::{PASSWORD, TestServer, USER},
};

/// The caller without credentials.
pub const NOBODY: &str = "nobody";

/// The caller whom a client certificate names `node1`.
pub const CERTIFICATE: &str = "certificate";

/// The users beside [`USER`], who may do everything; `bob` is in the group `team`. All have the same
/// password.
const USERS: [&str; 2] = ["ann", "bob"];

/// The groups of the users.
pub const GROUPS: &str = "team: bob\n";

/// A server with these rules, and one that lets [`USER`] do everything.
pub async fn guarded(rules: &Value) -> TestServer {
    guarded_with(rules, |_| {}).await
}

/// A [guarded] server with other options.
pub async fn guarded_with(rules: &Value, change: impl FnOnce(&mut Config)) -> TestServer {
    let server = TestServer::with(|config| {
        add_users(config);
        change(config);
    })
    .await;
    set_rules(&server, rules);
    server
}

fn add_users(config: &Config) {
    let gate::Options::Htpasswd(options) = &config.auth else { panic!("there are users") };
    let hash = gate::htpasswd::BcryptHash::new(PASSWORD, 4).unwrap();
    let line = |user: &&str| format!("{user}:{}\n", hash.as_str());
    let lines: String = [USER].iter().chain(&USERS).map(line).collect();
    fs::write(&options.path, lines).unwrap();
}

/// Puts other rules in force, beside the one that lets [`USER`] do everything.
pub fn set_rules(server: &TestServer, rules: &Value) {
    let mut all = rules.as_array().unwrap().clone();
    all.push(json!({ "who": USER, "may": "all" }));
    let rules: Vec<Rule> = all.into_iter().map(rule).collect();
    let groups = Groups::parse(GROUPS.as_bytes()).unwrap();
    server.app().gate().set_policy(Policy::rules(Access::new(rules, groups)));
}

/// A rule. One text stands for a list of it, as in YAML.
fn rule(mut written: Value) -> Rule {
    for value in written.as_object_mut().unwrap().values_mut() {
        if value.is_string() {
            *value = json!([value.take()]);
        }
    }
    serde_json::from_value(written).unwrap()
}

/// Lets in the client whose certificate names it `node1`, and asks others for no certificate.
pub fn trust_certificates(config: &mut Config) {
    let gate::Options::Htpasswd(options) = &config.auth else { panic!("there are users") };
    let file = options.path.with_file_name("clients.crt");
    fs::write(&file, authority().pem()).unwrap();
    let TlsOptions::On { clients, .. } = &mut config.http.server.tls else { panic!("TLS is off") };
    *clients = Some(ClientCertificates {
        authorities: vec![file],
        demand: ClientAuth::VerifyClientCertIfGiven,
        identity: Some(ClientIdentity::Dns),
    });
}

/// The authority of [`CERTIFICATE`].
pub fn authority() -> &'static Authority {
    static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("clients"));
    &AUTHORITY
}

/// A request of a user, of [`NOBODY`], or of [`CERTIFICATE`].
pub fn by(server: &TestServer, user: &str, method: &str, target: &str) -> RequestBuilder {
    let request = server.anonymous(method, target);
    match user {
        NOBODY => request,
        CERTIFICATE => {
            let client = client_with(Some(authority().client_named(&["node1"])));
            RequestBuilder::from_parts(client, request.build().unwrap())
        }
        user => request.basic_auth(user, Some(PASSWORD)),
    }
}
