//! `auth.token`: tokens of an external issuer, over real TLS.

use std::{fs, time::Duration};

use portcullis::{
    gate::{self, IssuerOptions},
    oci::ErrorCode,
};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use testkit::issuer::{ISSUER, Issuer, SERVICE, repository};

use crate::support::{Answer, Answered as _, TestServer, access::set_rules, digest, raw};

/// A server that believes an issuer.
struct Site {
    server: TestServer,
    issuer: Issuer,
}

impl Site {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut IssuerOptions)) -> Self {
        let issuer = Issuer::new();
        let server = TestServer::with(|config| {
            let gate::Options::Htpasswd(users) = &config.auth else { panic!("no users") };
            let bundle = users.path.with_file_name("issuer.pem");
            fs::write(&bundle, &issuer.certificate).unwrap();
            let mut options = IssuerOptions {
                realm: "https://auth.example.com/token".to_owned(),
                service: SERVICE.to_owned(),
                issuer: ISSUER.to_owned(),
                rootcertbundle: Some(bundle),
                ..IssuerOptions::default()
            };
            change(&mut options);
            config.auth = gate::Options::Token(options);
        })
        .await;
        Self { server, issuer }
    }

    fn request(&self, method: &str, path: &str, access: &Value) -> RequestBuilder {
        self.server.anonymous(method, path).bearer_auth(self.issuer.token(access))
    }

    async fn ask(&self, method: &str, path: &str, access: &Value) -> Answer {
        self.request(method, path, access).answer().await
    }

    /// A blob, and its digest.
    async fn push_blob(&self, name: &str, content: &'static str) -> String {
        let digest = digest(content);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let access = json!([repository(name, &["pull", "push"])]);
        self.request("POST", &path, &access).body(content).answer().await.expect(201);
        digest
    }
}

fn challenge(answer: &Answer) -> &str {
    let challenge = answer.header("www-authenticate");
    challenge
        .strip_prefix(
            "Bearer realm=\"https://auth.example.com/token\",service=\"registry.example\"",
        )
        .unwrap_or_else(|| panic!("{challenge}"))
}

#[tokio::test]
async fn challenge_has_the_scope_of_the_request() {
    let site = Site::new().await;
    let blob = digest("blob");
    for (method, path, scope) in [
        ("GET", "/v2/".to_owned(), ""),
        ("GET", "/v2/_catalog".to_owned(), ",scope=\"registry:catalog:*\""),
        ("GET", "/v2/a/b/tags/list".to_owned(), ",scope=\"repository:a/b:pull\""),
        ("HEAD", "/v2/a/manifests/v1".to_owned(), ",scope=\"repository:a:pull\""),
        ("PUT", "/v2/a/manifests/v1".to_owned(), ",scope=\"repository:a:pull,push\""),
        ("POST", "/v2/a/blobs/uploads/".to_owned(), ",scope=\"repository:a:pull,push\""),
        ("DELETE", format!("/v2/a/blobs/{blob}"), ",scope=\"repository:a:delete\""),
        (
            "POST",
            format!("/v2/a/blobs/uploads/?mount={blob}&from=b"),
            ",scope=\"repository:a:pull,push repository:b:pull\"",
        ),
    ] {
        let nobody = site.server.anonymous(method, &path).answer().await.expect(401);
        assert_eq!(challenge(&nobody), scope, "{method} {path}");
        let basic = site.server.request(method, &path).answer().await.expect(401);
        assert_eq!(challenge(&basic), scope, "{method} {path}");
        let broken = site.server.anonymous(method, &path).bearer_auth("e30.e30.e30");
        let broken = broken.answer().await.expect(401);
        assert_eq!(challenge(&broken), format!("{scope},error=\"invalid_token\""));
        if !scope.is_empty() {
            let empty = site.ask(method, &path, &json!([])).await.expect(401);
            assert_eq!(challenge(&empty), format!("{scope},error=\"insufficient_scope\""));
        }
    }
    site.ask("GET", "/v2/", &json!([])).await.expect(200);
    site.server.anonymous("GET", "/auth/token").answer().await.expect(404);
}

#[tokio::test]
async fn token_decides_what_its_holder_may() {
    let site = Site::new().await;
    let blob = site.push_blob("team/app", "blob").await;
    let path = format!("/v2/team/app/blobs/{blob}");
    for (actions, pull, push, delete) in [
        (&["pull"][..], 200, 401, 401),
        (&["push"], 401, 401, 401),
        (&["pull", "push"], 200, 202, 401),
        (&["delete"], 401, 401, 202),
        (&["*"], 404, 202, 404),
    ] {
        let access = json!([repository("team/app", actions)]);
        site.ask("GET", &path, &access).await.expect(pull);
        site.ask("POST", "/v2/team/app/blobs/uploads/", &access).await.expect(push);
        site.ask("DELETE", &path, &access).await.expect(delete);
    }
    let other = json!([repository("other/app", &["*"])]);
    let denied = site.ask("GET", "/v2/team/app/tags/list", &other).await;
    let denied = denied.expect_error(401, ErrorCode::Unauthorized);
    assert_eq!(denied.json()["errors"][0]["message"], "the token does not cover pull of team/app");
    let lists = json!([{ "type": "registry", "name": "catalog", "actions": ["*"] }]);
    site.ask("GET", "/v2/_catalog", &lists).await.expect(200);
    let error = site.ask("GET", "/v2/team/nothing", &lists).await.expect(404);
    assert!(error.headers.get("www-authenticate").is_none());
}

#[tokio::test]
async fn mount_from_what_the_token_does_not_cover_begins_an_upload() {
    let site = Site::new().await;
    let blob = site.push_blob("secret/app", "blob").await;
    let mount = format!("/v2/team/app/blobs/uploads/?mount={blob}&from=secret/app");
    let push = repository("team/app", &["pull", "push"]);
    site.ask("POST", &mount, &json!([push])).await.expect(202);
    let both = json!([push, repository("secret/app", &["pull"])]);
    site.ask("POST", &mount, &both).await.expect(201);
    let without = format!("/v2/team/app/blobs/uploads/?mount={blob}");
    site.ask("POST", &without, &both).await.expect(202);
}

#[tokio::test]
async fn rules_bound_what_tokens_cover() {
    let site = Site::new().await;
    site.push_blob("team/app", "blob").await;
    set_rules(&site.server, &json!([{ "who": "ann", "repositories": "home/**", "may": "push" }]));
    let everything = json!([repository("home/app", &["*"]), repository("team/app", &["*"])]);
    site.ask("POST", "/v2/home/app/blobs/uploads/", &everything).await.expect(202);
    let denied = site.ask("POST", "/v2/team/app/blobs/uploads/", &everything).await;
    let denied = denied.expect_error(403, ErrorCode::Denied);
    assert_eq!(denied.json()["errors"][0]["message"], "ann may not push to team/app");
    // Where the rules deny it, another token would not help.
    site.ask("POST", "/v2/team/app/blobs/uploads/", &json!([])).await.expect(403);
    site.ask("POST", "/v2/home/app/blobs/uploads/", &json!([])).await.expect(401);
    set_rules(&site.server, &json!([{ "who": "anyone", "may": "pull" }]));
    site.server.anonymous("GET", "/v2/home/app/tags/list").answer().await.expect(401);
}

#[tokio::test]
async fn token_of_another_key_issuer_or_time_is_refused() {
    let site = Site::new().await;
    let header = json!({ "alg": "RS256", "kid": site.issuer.kid });
    let all = json!([repository("a", &["*"])]);
    let ask = async |token: &str| {
        let request = site.server.anonymous("GET", "/v2/").bearer_auth(token);
        request.answer().await.status.as_u16()
    };
    let claims = Issuer::claims(&all);
    assert_eq!(ask(&site.issuer.sign(&header, &claims)).await, 200);
    let x5c = json!({ "alg": "RS256", "x5c": [site.issuer.x5c] });
    assert_eq!(ask(&site.issuer.sign(&x5c, &claims)).await, 200);
    let stranger = Issuer::new();
    for header in [
        header.clone(),
        json!({ "alg": "RS256", "kid": stranger.kid }),
        json!({ "alg": "RS256", "x5c": [stranger.x5c] }),
        json!({ "alg": "RS256" }),
        json!({ "alg": "none" }),
    ] {
        assert_eq!(ask(&stranger.sign(&header, &claims)).await, 401, "{header}");
    }
    for (name, value) in [
        ("exp", json!(1_000_000_000)),
        ("nbf", json!(32_000_000_000_u64)),
        ("aud", json!("another")),
        ("iss", json!("another")),
    ] {
        let mut claims = claims.clone();
        claims[name] = value;
        assert_eq!(ask(&site.issuer.sign(&header, &claims)).await, 401, "{name}");
    }
    let long = "a".repeat(9000);
    assert_eq!(ask(&format!("{long}.e30.e30")).await, 401);
}

#[tokio::test]
async fn realm_is_the_host_of_the_request_where_autoredirect_says_so() {
    let site = Site::with(|options| {
        options.autoredirect = true;
        options.autoredirectpath = "/tokens".to_owned();
    })
    .await;
    let answer = site.server.anonymous("GET", "/v2/").answer().await.expect(401);
    let expected =
        format!("Bearer realm=\"{}/tokens\",service=\"registry.example\"", site.server.base);
    assert_eq!(answer.header("www-authenticate"), expected);
}

#[tokio::test]
async fn changed_keys_are_in_force_without_a_restart() {
    let site = Site::new().await;
    let next = Issuer::new();
    let ask = async |issuer: &Issuer| {
        let token = issuer.token(&json!([]));
        site.server.anonymous("GET", "/v2/").bearer_auth(token).answer().await.status.as_u16()
    };
    assert_eq!([ask(&site.issuer).await, ask(&next).await], [200, 401]);
    let bundle = site.server.folder().join("issuer.pem");
    fs::write(&bundle, "broken").unwrap();
    site.server.app().reload().await;
    assert_eq!([ask(&site.issuer).await, ask(&next).await], [200, 401]);
    fs::write(&bundle, &next.certificate).unwrap();
    let noticed = async {
        while [ask(&site.issuer).await, ask(&next).await] != [401, 200] {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(raw::GUARD, noticed).await.expect("it is noticed");
}
