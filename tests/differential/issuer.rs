//! `auth.token`: the same tokens to registry:2 and to Portcullis, in the forms of `docker_auth` and GitLab.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    process::{self, Command},
};

use serde_json::{Value, json};
use testkit::{
    issuer::{ISSUER, Issuer, SERVICE, repository},
    registry2::{Registry2, program},
    server::Server,
    skip::skip,
};

use crate::{
    exchange::exchange,
    step::{Step, delete, get, head, post, put},
};

/// The tokens, and the requests with them, whose statuses and challenges differ on purpose. registry:2
/// refuses a mount from a repository that the token does not cover; Portcullis begins an upload, as where
/// the blob is not there. docs/MIGRATING.md has the reasons.
const DIFFERING: &[(&str, &str)] = &[
    ("pull and push", "mount"),
    ("everything", "mount"),
    ("gitlab", "mount"),
    ("x5c", "mount"),
    ("no subject", "mount"),
];

fn configuration(address: SocketAddr) -> String {
    format!(
        "\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: data}}, delete: {{enabled: true}}}}
auth:
  token:
    realm: https://auth.example.com/token
    service: {SERVICE}
    issuer: {ISSUER}
    rootcertbundle: ../issuer.pem
http:
  addr: {address}
  secret: for both
  tls: {{certificate: ../certs/server.crt, key: ../certs/server.key}}
"
    )
}

/// Status and challenge. registry:2 writes the actions and the scopes of a challenge in any order.
fn shown(status: u16, challenge: Option<&str>) -> String {
    let Some(challenge) = challenge else { return status.to_string() };
    let Some((before, rest)) = challenge.split_once("scope=\"") else {
        return format!("{status} {challenge}");
    };
    let (scopes, behind) = rest.split_once('"').unwrap();
    let mut scopes: Vec<String> = scopes
        .split(' ')
        .map(|scope| {
            let (name, actions) = scope.rsplit_once(':').unwrap();
            let mut actions: Vec<_> = actions.split(',').collect();
            actions.sort_unstable();
            format!("{name}:{}", actions.join(","))
        })
        .collect();
    scopes.sort();
    format!("{status} {before}scope=\"{}\"{behind}", scopes.join(" "))
}

fn tokens(issuer: &Issuer) -> Vec<(&'static str, Option<String>)> {
    let stranger = Issuer::new();
    let kid = json!({ "typ": "JWT", "alg": "RS256", "kid": issuer.kid });
    let all = |actions: &[&str]| json!([repository("team/app", actions)]);
    let with = |name: &str, value: Value| {
        let mut claims = Issuer::claims(&all(&["*"]));
        claims[name] = value;
        Some(issuer.sign(&kid, &claims))
    };
    let gitlab = {
        let mut claims = Issuer::claims(&json!([{
            "type": "repository", "name": "team/app", "actions": ["pull", "push"],
            "meta": { "project_path": "team/app", "project_id": 7 },
        }]));
        claims["jti"] = json!("2f2b7c6a-24a0-4ac6-a3f7-6a1d3c6a53b7");
        claims["auth_type"] = json!("gitlab_or_ldap");
        claims["user"] = json!("eyJhbGciOiJIUzI1NiJ9.e30.c2ln");
        issuer.sign(&json!({ "alg": "RS256", "kid": issuer.kid }), &claims)
    };
    let catalog = json!([{ "type": "registry", "name": "catalog", "actions": ["*"] }]);
    vec![
        ("nothing", None),
        ("pull", Some(issuer.token(&all(&["pull"])))),
        ("push alone", Some(issuer.token(&all(&["push"])))),
        ("pull and push", Some(issuer.token(&all(&["push", "pull"])))),
        ("delete", Some(issuer.token(&all(&["delete"])))),
        ("everything", Some(issuer.token(&all(&["*"])))),
        ("catalog", Some(issuer.token(&catalog))),
        ("no access", Some(issuer.token(&json!([])))),
        ("gitlab", Some(gitlab)),
        ("x5c", {
            let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [issuer.x5c] });
            Some(issuer.sign(&header, &Issuer::claims(&all(&["*"]))))
        }),
        ("foreign x5c", {
            let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [stranger.x5c] });
            Some(stranger.sign(&header, &Issuer::claims(&all(&["*"]))))
        }),
        ("foreign key", Some(stranger.token(&all(&["*"])))),
        ("forged", Some(stranger.sign(&kid, &Issuer::claims(&all(&["*"]))))),
        ("expired", with("exp", json!(1_000_000_000))),
        ("not yet valid", with("nbf", json!(32_000_000_000_u64))),
        ("another audience", with("aud", json!("another"))),
        ("another issuer", with("iss", json!("another"))),
        ("no subject", with("sub", json!(""))),
        ("no algorithm", {
            let header = json!({ "typ": "JWT", "alg": "none", "kid": issuer.kid });
            Some(issuer.sign(&header, &Issuer::claims(&all(&["*"]))))
        }),
        ("malformed", Some("e30.e30.e30".to_owned())),
    ]
}

fn steps() -> Vec<Step> {
    let blob = crate::content::digest(crate::content::ABSENT);
    vec![
        get("ping", "/v2/"),
        get("catalog", "/v2/_catalog"),
        get("tags", "/v2/team/app/tags/list"),
        head("manifest", "/v2/team/app/manifests/v1"),
        put("put", "/v2/team/app/manifests/v1").body("{}"),
        delete("delete", format!("/v2/team/app/manifests/{blob}")),
        get("blob", format!("/v2/team/app/blobs/{blob}")),
        delete("delete blob", format!("/v2/team/app/blobs/{blob}")),
        post("upload", "/v2/team/app/blobs/uploads/"),
        post("mount", format!("/v2/team/app/blobs/uploads/?mount={blob}&from=other/app")),
        get("elsewhere", "/v2/other/app/tags/list"),
    ]
}

#[tokio::test]
async fn tokens_are_taken_as_by_registry_2() {
    if program().is_none() {
        return skip("differential", "docker-registry is not installed", true);
    }
    let [_, high, middle, low] = process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 192 + high % 63, middle, low);
    let [theirs, ours] = [5002, 5003].map(|port| SocketAddr::V4(SocketAddrV4::new(ip, port)));
    let folder = tempfile::tempdir().unwrap();
    crate::sides::run(
        folder.path(),
        &["certs", "--new", "--host", &ip.to_string(), "--out", "certs"],
    );
    let issuer = Issuer::new();
    fs::write(folder.path().join("issuer.pem"), &issuer.certificate).unwrap();
    let place = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let _registry2 = Registry2::start(&place("registry2"), &configuration(theirs));
    let own = place("portcullis");
    fs::write(own.join("config.yml"), configuration(ours)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["serve", "config.yml"]).current_dir(&own).env_clear();
    let _portcullis = Server::start(&mut command, ours, &own.join("portcullis.log"));
    let ca = folder.path().join("certs/ca.crt");
    let mut differing = Vec::new();
    for (kind, token) in tokens(&issuer) {
        let authorization = token.map(|token| format!("Bearer {token}"));
        for step in steps() {
            let step = step.by(authorization.as_deref());
            let target = step.target.clone();
            let mut answers = Vec::new();
            for address in [theirs, ours] {
                let answer = exchange(address, &ca, &step, &target).await;
                answers.push(shown(answer.status, answer.header("www-authenticate")));
            }
            let is_listed = DIFFERING.contains(&(kind, &step.name));
            if (answers[0] != answers[1]) != is_listed {
                differing.push(format!(
                    "{kind}, {}:\n  registry:2 {}\n  Portcullis {}",
                    step.name, answers[0], answers[1]
                ));
            }
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
