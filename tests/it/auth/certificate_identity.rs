//! `http.tls.clientidentity`: a verified client certificate that names its client, in place of a
//! password.

use std::{fs, sync::Arc};

use portcullis::{
    app::Change,
    config::Config,
    gate,
    oci::ErrorCode,
    server::{ClientAuth, ClientCertificates, TlsOptions, certificates::ClientIdentity},
};
use reqwest::RequestBuilder;
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};

use crate::support::{
    Answer, Answered as _, TestServer,
    access::{authority, guarded, guarded_with, set_rules, trust_certificates},
    authority::{Authority, client_of, client_with},
    content::trifle,
    process::Process,
    server::{PASSWORD, USER},
};

/// A server with these rules that takes names from certificates.
async fn server(rules: &Value) -> TestServer {
    guarded_with(rules, trust_certificates).await
}

fn clients(config: &mut Config) -> &mut ClientCertificates {
    match &mut config.http.server.tls {
        TlsOptions::On { clients: Some(clients), .. } => clients,
        _ => panic!("no client certificates"),
    }
}

/// A client of a server that presents one certificate on all its connections.
struct Client<'a> {
    server: &'a TestServer,
    client: reqwest::Client,
}

impl<'a> Client<'a> {
    fn new(server: &'a TestServer, shows: Arc<CertifiedKey>) -> Self {
        Self { server, client: client_with(Some(shows)) }
    }

    fn named(server: &'a TestServer, names: &[&str]) -> Self {
        Self::new(server, authority().client_named(names))
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let request = self.server.anonymous(method, path).build().unwrap();
        RequestBuilder::from_parts(self.client.clone(), request)
    }

    async fn get(&self, path: &str) -> Answer {
        self.request("GET", path).answer().await
    }

    async fn token(&self, path: &str) -> String {
        self.get(path).await.expect(200).json()["token"].as_str().unwrap().to_owned()
    }
}

fn certified(server: &TestServer) -> f64 {
    let mut outcomes = server.app().gate().outcomes();
    let (_, count) = outcomes.find(|(name, _)| *name == "certificate").unwrap();
    f64::from(u32::try_from(count).unwrap())
}

#[tokio::test]
async fn certificate_is_the_user_that_it_names() {
    let server = server(&json!([
        { "who": "node1", "repositories": "base/**", "may": "pull" },
        { "who": "users", "repositories": "home/{user}/**", "may": "push" },
        { "who": "group:team", "repositories": "team/**", "may": "pull" },
    ]))
    .await;
    for name in ["base/app", "team/app", "other/app"] {
        trifle(&server, name, "v1").await;
    }
    let node = Client::named(&server, &["node1"]);
    node.get("/v2/").await.expect(200);
    node.get("/v2/base/app/manifests/v1").await.expect(200);
    let denied = node.get("/v2/team/app/manifests/v1").await;
    let denied = denied.expect_error(403, ErrorCode::Denied);
    assert_eq!(denied.json()["errors"][0]["message"], "cert:node1 may not pull team/app");
    node.request("POST", "/v2/home/node1/app/blobs/uploads/").answer().await.expect(202);
    node.request("POST", "/v2/home/ann/app/blobs/uploads/").answer().await.expect(403);
    let seen = node.get("/v2/_catalog").await.expect(200).json();
    assert_eq!(seen["repositories"], json!(["base/app"]));
    assert_eq!(certified(&server), 6.0);
    // The group file knows the name as that of any user.
    Client::named(&server, &["bob"]).get("/v2/team/app/manifests/v1").await.expect(200);
}

#[tokio::test]
async fn certificate_names_its_client_without_rules() {
    let server = TestServer::with(trust_certificates).await;
    let upload = |client: &Client<'_>| client.request("POST", "/v2/app/blobs/uploads/");
    upload(&Client::named(&server, &["node1"])).answer().await.expect(202);
    server.anonymous("POST", "/v2/app/blobs/uploads/").answer().await.expect(401);
}

#[tokio::test]
async fn each_kind_of_name_is_taken_as_it_is() {
    let authority = Authority::new("clients");
    let shows = authority.client(|params| {
        use rcgen::{DnType, SanType};
        params.distinguished_name.push(DnType::CommonName, "Ann Smith");
        params.subject_alt_names = vec![
            SanType::DnsName("Node1.example.com".try_into().unwrap()),
            SanType::Rfc822Name("ann@example.com".try_into().unwrap()),
            SanType::URI("spiffe://example.com/node1".try_into().unwrap()),
        ];
    });
    for (identity, name) in [
        (ClientIdentity::Cn, "Ann Smith"),
        (ClientIdentity::Dns, "Node1.example.com"),
        (ClientIdentity::Email, "ann@example.com"),
        (ClientIdentity::Uri, "spiffe://example.com/node1"),
    ] {
        let server = server(&json!([{ "who": format!("user:{name}"), "may": "pull" }])).await;
        let mut config = server.config().clone();
        fs::write(&clients(&mut config).authorities[0], authority.pem()).unwrap();
        clients(&mut config).identity = Some(identity);
        let reloaded = server.app().apply(&config).await;
        assert_eq!(reloaded.change("http.tls.clientidentity"), Change::Applied);
        trifle(&server, "app", "v1").await;
        let client = Client::new(&server, Arc::clone(&shows));
        client.get("/v2/app/manifests/v1").await.expect(200);
    }
}

#[tokio::test]
async fn password_decides_where_a_request_has_one() {
    let server =
        server(&json!([{ "who": "node1", "repositories": "base/**", "may": "pull" }])).await;
    trifle(&server, "base/app", "v1").await;
    trifle(&server, "other/app", "v1").await;
    let node = Client::named(&server, &["node1"]);
    let path = "/v2/base/app/manifests/v1";
    let wrong = node.request("GET", path).basic_auth(USER, Some("wrong"));
    wrong.answer().await.expect_error(401, ErrorCode::Unauthorized);
    for malformed in ["Basic", "Negotiate abc", "Bearer a.b.c"] {
        let request = node.request("GET", path).header("authorization", malformed);
        request.answer().await.expect(401);
    }
    let right = node.request("GET", "/v2/other/app/manifests/v1").basic_auth(USER, Some(PASSWORD));
    right.answer().await.expect(200);
    // An empty name and an empty password are no credentials.
    node.request("GET", path).basic_auth("", Some("")).answer().await.expect(200);
}

#[tokio::test]
async fn certificate_does_not_prove_a_password_on_its_connection() {
    let server = guarded_with(&json!([]), |config| {
        trust_certificates(config);
        let gate::Options::Htpasswd(options) = &mut config.auth else { panic!("no users") };
        options.throttle.failures = 1;
    })
    .await;
    let node = Client::named(&server, &["node1"]);
    node.get("/v2/").await.expect(200);
    for (password, expected) in [("wrong", 401), ("other", 429), ("other", 429)] {
        let request = node.request("GET", "/v2/").basic_auth("ann", Some(password));
        request.answer().await.expect(expected);
    }
    // The certificate is no guess.
    node.get("/v2/").await.expect(200);
}

#[tokio::test]
async fn certificate_without_exactly_one_name_logs_nobody_in() {
    let server = server(&json!([])).await;
    for names in [&[][..], &["node1", "node2"]] {
        let client = Client::named(&server, names);
        client.get("/v2/").await.expect_error(401, ErrorCode::Unauthorized);
        let request = client.request("GET", "/v2/").basic_auth(USER, Some(PASSWORD));
        request.answer().await.expect(200);
    }
    server.anonymous("GET", "/v2/").answer().await.expect(401);
}

/// nginx sends what it has verified in such headers; this server believes no proxy about it.
#[tokio::test]
async fn headers_of_a_proxy_name_nobody() {
    let server = server(&json!([{ "who": "node1", "may": "pull" }])).await;
    for name in ["x-ssl-client-s-dn", "x-ssl-client-cn", "ssl-client-subject-dn", "x-client-cert"] {
        let request = server.anonymous("GET", "/v2/").header(name, "CN=node1");
        request.answer().await.expect(401);
    }
}

#[tokio::test]
async fn certificate_that_nobody_verifies_names_nobody() {
    let server = server(&json!([{ "who": "node1", "may": "pull" }])).await;
    let stranger = Authority::new("clients").client_named(&["node1"]);
    let refused = client_with(Some(Arc::clone(&stranger))).get(format!("{}/v2/", server.base));
    refused.send().await.unwrap_err();
    let mut config = server.config().clone();
    for demand in [ClientAuth::RequestClientCert, ClientAuth::RequireAnyClientCert] {
        clients(&mut config).demand = demand;
        server.app().apply(&config).await;
        let stranger = Client::new(&server, Arc::clone(&stranger));
        stranger.get("/v2/").await.expect(401);
        Client::named(&server, &["node1"]).get("/v2/").await.expect(401);
    }
}

#[tokio::test]
async fn rules_change_for_a_certificate_on_an_open_connection() {
    let server = server(&json!([{ "who": "node1", "may": "pull" }])).await;
    trifle(&server, "app", "v1").await;
    let node = Client::named(&server, &["node1"]);
    node.get("/v2/app/manifests/v1").await.expect(200);
    set_rules(&server, &json!([]));
    node.get("/v2/app/manifests/v1").await.expect(403);
}

#[tokio::test]
async fn certificate_names_its_client_where_everybody_may_pull() {
    let server = server(&json!([
        { "who": "anyone", "may": "pull" },
        { "who": "node1", "may": "push" },
    ]))
    .await;
    let node = Client::named(&server, &["node1"]);
    node.get("/v2/").await.expect(200);
    node.request("POST", "/v2/app/blobs/uploads/").answer().await.expect(202);
    let challenge = server.anonymous("GET", "/v2/").answer().await.expect(401);
    assert!(challenge.header("www-authenticate").starts_with("Bearer "), "{challenge:?}");
}

#[tokio::test]
async fn session_token_of_a_certificate_is_valid_with_that_certificate_only() {
    let server = server(&json!([
        { "who": "anyone", "repositories": "public/**", "may": "pull" },
        { "who": "node1", "repositories": "base/**", "may": "pull" },
    ]))
    .await;
    trifle(&server, "base/app", "v1").await;
    let shows = authority().client_named(&["node1"]);
    let node = Client::new(&server, Arc::clone(&shows));
    let token = node.token("/auth/token?scope=repository:base/app:pull").await;
    let path = "/v2/base/app/manifests/v1";
    let ask =
        async |client: &Client<'_>| client.request("GET", path).bearer_auth(&token).answer().await;
    ask(&node).await.expect(200);
    ask(&Client::new(&server, shows)).await.expect(200);
    let another = Client::named(&server, &["node1"]);
    for answer in [
        ask(&another).await,
        ask(&Client::named(&server, &["node2"])).await,
        server.anonymous("GET", path).bearer_auth(&token).answer().await,
    ] {
        let answer = answer.expect_error(401, ErrorCode::Unauthorized);
        assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""));
    }
    // A password is asked for in place of the certificate where the request has one.
    let request = node.request("GET", "/auth/token").basic_auth("ann", Some("wrong"));
    request.answer().await.expect(401);
}

#[tokio::test]
async fn certificate_names_its_client_where_there_are_no_passwords() {
    let rules = json!([
        { "who": "anyone", "repositories": "public/**", "may": "pull" },
        { "who": "node1", "may": "all" },
    ]);
    let server = guarded_with(&rules, |config| {
        trust_certificates(config);
        config.auth = gate::Options::None;
    })
    .await;
    let node = Client::named(&server, &["node1"]);
    node.request("POST", "/v2/app/blobs/uploads/").answer().await.expect(202);
    // There is no password that could decide.
    let request = node.request("POST", "/v2/app/blobs/uploads/").basic_auth("ann", Some("any"));
    request.answer().await.expect(202);
    server.anonymous("POST", "/v2/app/blobs/uploads/").answer().await.expect(403);
    guarded(&json!([])).await.anonymous("GET", "/v2/").answer().await.expect(401);
}

#[tokio::test]
async fn log_has_the_kind_of_the_name_and_why_a_certificate_names_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clients.crt");
    fs::write(&file, authority().pem()).unwrap();
    let server = Process::start(&[
        ("REGISTRY_HTTP_TLS_CLIENTCAS", file.to_str().unwrap()),
        ("REGISTRY_HTTP_TLS_CLIENTAUTH", "verify-client-cert-if-given"),
        ("REGISTRY_HTTP_TLS_CLIENTIDENTITY", "dns"),
    ]);
    let url = format!("{}/v2/", server.base);
    for (names, expected) in [(&["node1"][..], 200), (&["node1", "node2"], 401)] {
        let client = client_of(&server.ca(), Some(authority().client_named(names)));
        client.get(&url).answer().await.expect(expected);
    }
    let (log, access) = server.end_with_access().await;
    assert!(access.contains(" cert:node1 ["), "{access}");
    let why = "a client's certificate does not name the client: it has 2 DNS names, and \
               http.tls.clientidentity: dns takes the name of a certificate with exactly one";
    assert!(log.contains(why), "{log}");
}
