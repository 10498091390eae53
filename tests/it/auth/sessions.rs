//! Session tokens: what `/auth/token` answers, how long a token opens the registry, and what it costs.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use portcullis::{
    config::Config,
    gate::{self, ThrottleOptions},
    oci::ErrorCode,
};
use serde_json::{Value, json};

use crate::support::{
    Answer, Answered as _, TestServer,
    server::{PASSWORD, USER, write_user},
};

/// A server whose session keys are in its folder.
async fn server() -> TestServer {
    server_with(|_| {}).await
}

async fn server_with(change: impl FnOnce(&mut gate::HtpasswdOptions)) -> TestServer {
    TestServer::with(|config| change(options(config))).await
}

fn options(config: &mut Config) -> &mut gate::HtpasswdOptions {
    let gate::Options::Htpasswd(options) = &mut config.auth else { unreachable!() };
    options
}

/// A token for the test's user, which covers these scopes.
async fn token(server: &TestServer, scopes: &[&str]) -> String {
    let scopes = scopes.iter().map(|scope| format!("&scope={scope}")).collect::<String>();
    let answer = server.get(&format!("/auth/token?service=portcullis{scopes}")).await.expect(200);
    answer.json()["token"].as_str().unwrap().to_owned()
}

async fn ask(server: &TestServer, method: &str, path: &str, token: &str) -> Answer {
    server.anonymous(method, path).bearer_auth(token).answer().await
}

async fn post(server: &TestServer, form: &str) -> Answer {
    let request = server.anonymous("POST", "/auth/token");
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    request.body(form.to_owned()).answer().await
}

/// The payload of a token.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64.decode(payload).unwrap()).unwrap()
}

/// The token with other claims, signed with the server's key.
fn signed_again(server: &TestServer, token: &str, change: impl FnOnce(&mut Value)) -> String {
    let file = fs::read_to_string(server.folder().join("session.key")).unwrap();
    let secret = BASE64.decode(file.lines().next().unwrap()).unwrap();
    let mut claims = claims(token);
    change(&mut claims);
    let header = token.split('.').next().unwrap();
    let signed = format!("{header}.{}", BASE64.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    format!("{signed}.{}", BASE64.encode(hmac::sign(&key, signed.as_bytes())))
}

fn assert_invalid(answer: Answer) {
    let answer = answer.expect_error(401, ErrorCode::Unauthorized);
    let challenge = answer.header("www-authenticate");
    assert!(challenge.starts_with("Bearer realm=\"https://localhost:"), "{challenge}");
    assert!(challenge.contains("/auth/token\",service=\"portcullis\""), "{challenge}");
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    assert_eq!(answer.json()["errors"][0]["message"], "the token is no longer valid");
}

#[tokio::test]
async fn token_is_answered_to_get_and_post_in_the_form_that_clients_read() {
    let server = server().await;
    let before = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let path = "/auth/token?account=alice&client_id=docker&offline_token=true&service=portcullis";
    let form = format!("grant_type=password&username={USER}&password=correct+horse&service=x");
    for answer in [server.get(path).await, post(&server, &form).await] {
        let answer = answer.expect(200);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("content-type"), "application/json");
        let json = answer.json();
        let token = json["token"].as_str().unwrap();
        assert_eq!(json, json!({"token": token, "access_token": token, "expires_in": 900}));
        let claims = claims(token);
        assert_eq!((&claims["sub"], &claims["access"]), (&json!(USER), &json!([])));
        let issued = claims["iat"].as_u64().unwrap();
        assert!((before..before + 60).contains(&issued), "{claims}");
        assert_eq!(claims["exp"], issued + 900);
        assert_eq!(claims.get("nbf"), None, "clocks differ");
        ask(&server, "GET", "/v2/", token).await.expect(200);
        // Without a scope it opens the lists as well.
        ask(&server, "GET", "/v2/_catalog", token).await.expect(200);
    }
}

#[tokio::test]
async fn token_covers_the_scopes_that_were_asked_for_and_no_others() {
    let server = server().await;
    let token = token(&server, &["repository:a:pull", "nonsense%20repository:b:pull,push"]).await;
    let access = json!([
        {"type": "repository", "name": "a", "actions": ["pull"]},
        {"type": "repository", "name": "b", "actions": ["pull", "push"]},
    ]);
    assert_eq!(claims(&token)["access"], access);
    ask(&server, "GET", "/v2/a/tags/list", &token).await.expect_error(404, ErrorCode::NameUnknown);
    ask(&server, "POST", "/v2/b/blobs/uploads/", &token).await.expect(202);
    for (method, path, scope) in [
        ("POST", "/v2/a/blobs/uploads/", "repository:a:pull,push"),
        ("GET", "/v2/c/tags/list", "repository:c:pull"),
        ("DELETE", "/v2/b/manifests/v1", "repository:b:pull,delete"),
    ] {
        let answer = ask(&server, method, path, &token).await;
        let answer = answer.expect_error(401, ErrorCode::Unauthorized);
        let challenge = answer.header("www-authenticate");
        assert!(challenge.contains(&format!("scope=\"{scope}\"")), "{challenge}");
        assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
        let message = &answer.json()["errors"][0]["message"];
        assert!(message.as_str().unwrap().starts_with("the token does not cover "), "{message}");
    }
}

#[tokio::test]
async fn a_token_dies_with_the_password_that_made_it() {
    let server = server().await;
    let users = server.folder().join("htpasswd");
    let first = token(&server, &[]).await;
    ask(&server, "GET", "/v2/", &first).await.expect(200);
    // The same password with another salt is another line.
    for password in ["new", PASSWORD] {
        write_user(&users, USER, password);
        server.app().reload().await;
        assert_invalid(ask(&server, "GET", "/v2/", &first).await);
    }
    let second = token(&server, &[]).await;
    ask(&server, "GET", "/v2/", &second).await.expect(200);
    write_user(&users, "bob", PASSWORD);
    server.app().reload().await;
    assert_invalid(ask(&server, "GET", "/v2/", &second).await);
}

#[tokio::test]
async fn token_is_over_after_its_time_and_a_minute_of_grace() {
    let server = server().await;
    let token = token(&server, &[]).await;
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for (end, is_valid) in [(now - 30, true), (now - 120, false)] {
        let token = signed_again(&server, &token, |claims| claims["exp"] = end.into());
        let answer = ask(&server, "GET", "/v2/", &token).await;
        if is_valid {
            answer.expect(200);
        } else {
            assert_invalid(answer);
        }
    }
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let server = server().await;
    let token = token(&server, &[]).await;
    let parts: Vec<_> = token.split('.').collect();
    let none = BASE64.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let other = {
        let mut claims = claims(&token);
        claims["sub"] = "root".into();
        BASE64.encode(claims.to_string())
    };
    for forged in [
        "a.b.c".to_owned(),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{other}.{}", parts[0], parts[2]),
        // A key alone makes no token: it takes the line of the password file as well.
        signed_again(&server, &token, |claims| claims["sub"] = "root".into()),
        signed_again(&server, &token, |claims| claims["sub"] = "".into()),
        signed_again(&server, &token, |claims| claims["sub"] = "token:alice".into()),
        signed_again(&server, &token, |claims| claims["aud"] = "other".into()),
        signed_again(&server, &token, |claims| claims["iss"] = "other".into()),
        signed_again(&server, &token, |claims| {
            claims.as_object_mut().unwrap().remove("fp");
        }),
        signed_again(&server, &token, |claims| {
            claims["fp"] = "".into();
        }),
    ] {
        assert_invalid(ask(&server, "GET", "/v2/", &forged).await);
    }
    // No JSON Web Token: registry:2 asks for a password as well.
    let other = ask(&server, "GET", "/v2/", "a").await.expect_error(401, ErrorCode::Unauthorized);
    assert!(other.header("www-authenticate").starts_with("Basic realm="));
}

#[tokio::test]
async fn wrong_credentials_get_no_token() {
    let server = server().await;
    let basic = |user: &str, password: &str| {
        server.anonymous("GET", "/auth/token").basic_auth(user, Some(password)).answer()
    };
    for answer in [
        basic(USER, "wrong").await,
        basic("nobody", PASSWORD).await,
        post(&server, &format!("grant_type=password&username={USER}&password=wrong")).await,
    ] {
        let answer = answer.expect_error(401, ErrorCode::Unauthorized);
        assert_eq!(answer.json()["errors"][0]["message"], "wrong user or password");
        assert!(answer.header("www-authenticate").starts_with("Basic realm="));
    }
    // Without rules for anonymous callers there is no token without credentials.
    let none = server.anonymous("GET", "/auth/token").answer().await;
    none.expect_error(401, ErrorCode::Unauthorized);
    basic("", "").await.expect_error(401, ErrorCode::Unauthorized);
    let bearer = ask(&server, "GET", "/auth/token", "a.b.c").await;
    bearer.expect_error(401, ErrorCode::Unauthorized);
}

#[tokio::test]
async fn form_that_is_no_password_grant_is_refused() {
    let server = server().await;
    for (form, error) in [
        ("grant_type=refresh_token&refresh_token=x", "unsupported_grant_type"),
        ("grant_type=authorization_code&code=x", "unsupported_grant_type"),
        ("", "invalid_request"),
        ("username=alice&password=x", "invalid_request"),
        ("grant_type=password&username=alice", "invalid_request"),
    ] {
        let answer = post(&server, form).await.expect_error(400, ErrorCode::Unsupported);
        assert_eq!(answer.json()["error"], error, "{form}");
    }
    let long = format!("grant_type=password&username={USER}&password={}", "a".repeat(17_000));
    post(&server, &long).await.expect_error(413, ErrorCode::SizeInvalid);
    let put = server.anonymous("PUT", "/auth/token").answer().await;
    let put = put.expect_error(405, ErrorCode::Unsupported);
    assert_eq!(put.header("allow"), "GET, POST");
    server.anonymous("OPTIONS", "/auth/token").answer().await.expect(200);
}

/// docker asks for a token by Basic, containerd by POST; both ask again for each scope.
#[tokio::test]
async fn the_token_endpoint_runs_one_bcrypt() {
    let server = server().await;
    let form = format!("grant_type=password&username={USER}&password=correct+horse");
    let asked = (0..20).map(|n| {
        let (server, form) = (&server, &form);
        async move {
            match n % 2 {
                0 => post(server, form).await,
                _ => server.get("/auth/token?scope=repository:a:pull").await,
            }
        }
    });
    for answer in futures_util::future::join_all(asked).await {
        let token = answer.expect(200).json()["token"].as_str().unwrap().to_owned();
        ask(&server, "GET", "/v2/", &token).await.expect(200);
    }
    // The same password by Basic is remembered as well.
    server.get("/v2/").await.expect(200);
    assert_eq!(server.app().gate().verifications(), 1);
}

/// Three wrong passwords within an hour are the limit.
fn three_failures(options: &mut gate::HtpasswdOptions) {
    options.throttle = ThrottleOptions {
        window: Duration::from_secs(3600),
        failures: 3,
        ..ThrottleOptions::default()
    };
}

#[tokio::test]
async fn wrong_passwords_for_tokens_count_like_all_others() {
    let server = server_with(three_failures).await;
    let issued = token(&server, &[]).await;
    for guess in 0..3 {
        let form = format!("grant_type=password&username={USER}&password=wrong{guess}");
        post(&server, &form).await.expect_error(401, ErrorCode::Unauthorized);
        // The same guess again counts once, whichever way it comes; the third reaches the limit.
        if guess < 2 {
            let again = server.anonymous("GET", "/v2/");
            let again = again.basic_auth(USER, Some(format!("wrong{guess}"))).answer().await;
            again.expect_error(401, ErrorCode::Unauthorized);
        }
    }
    assert_eq!(server.app().gate().verifications(), 4);
    let form = format!("grant_type=password&username={USER}&password=correct+horse");
    let throttled = post(&server, &form).await.expect_error(429, ErrorCode::TooManyRequests);
    assert!(throttled.headers.contains_key("retry-after"));
    // A token proves itself, and guesses of others do not lock it out.
    ask(&server, "GET", "/v2/", &issued).await.expect(200);
}

/// A caller that has a token guesses passwords on connections that its token has opened.
#[tokio::test]
async fn token_on_a_connection_makes_no_password_proven() {
    let server = server_with(three_failures).await;
    let issued = token(&server, &[]).await;
    let mut statuses = Vec::new();
    for guess in 0..5 {
        let client = crate::support::server::client();
        let url = format!("{}/v2/", server.base);
        client.get(&url).bearer_auth(&issued).answer().await.expect(200);
        let request = client.get(&url).basic_auth(USER, Some(format!("wrong {guess}")));
        statuses.push(request.answer().await.status.as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
}

#[tokio::test]
async fn key_file_is_made_with_the_first_token_and_read_again_when_it_changes() {
    let server = server().await;
    let file = server.folder().join("session.key");
    assert!(!file.exists());
    server.anonymous("GET", "/auth/token").answer().await.expect(401);
    assert!(!file.exists(), "no caller was let in");
    let first = token(&server, &[]).await;
    let command = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .env_clear()
            .env("REGISTRY_AUTH_HTPASSWD_SESSIONS_KEYFILE", &file)
            .current_dir(server.folder())
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = command(&["sessions", "rotate"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("a new key signs from now on; the key before it goes on"), "{said}");
    server.app().reload().await;
    ask(&server, "GET", "/v2/", &first).await.expect(200);
    let second = token(&server, &[]).await;
    assert_ne!(first.split('.').next(), second.split('.').next(), "another key");
    let (code, said) = command(&["sessions", "rotate", "--end"]);
    assert_eq!(code, Some(0), "{said}");
    server.app().reload().await;
    for token in [first, second] {
        assert_invalid(ask(&server, "GET", "/v2/", &token).await);
    }
    fs::remove_file(&file).unwrap();
    let (code, said) = command(&["sessions", "rotate"]);
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("there is no key file {}", file.display())), "{said}");
}

#[tokio::test]
async fn servers_with_one_key_file_accept_each_others_tokens() {
    let one = server().await;
    let issued = token(&one, &[]).await;
    let two = TestServer::with(|config| {
        let from = one.folder();
        let options = options(config);
        options.path = from.join("htpasswd");
        options.sessions.keyfile = from.join("session.key");
    })
    .await;
    ask(&two, "GET", "/v2/", &issued).await.expect(200);
    let other = server().await;
    assert_invalid(ask(&other, "GET", "/v2/", &issued).await);
}

#[tokio::test]
async fn no_token_is_issued_where_the_challenge_is_basic() {
    let issued = token(&server().await, &[]).await;
    let server =
        server_with(|options| options.sessions.challenge = gate::tokens::Challenge::Basic).await;
    server.get("/auth/token").await.expect(404);
    let answer = ask(&server, "GET", "/v2/", &issued).await;
    let answer = answer.expect_error(401, ErrorCode::Unauthorized);
    assert!(answer.header("www-authenticate").starts_with("Basic realm="));
}

#[tokio::test]
async fn token_endpoint_is_below_the_prefix() {
    let server = TestServer::with(|config| config.http.api.prefix = "/r/".to_owned()).await;
    server.get("/auth/token").await.expect(404);
    let issued = server.get("/r/auth/token").await.expect(200).json();
    let issued = issued["token"].as_str().unwrap();
    ask(&server, "GET", "/r/v2/", issued).await.expect(200);
    let answer = ask(&server, "GET", "/r/v2/", "a.b.c").await.expect(401);
    assert!(answer.header("www-authenticate").contains("/r/auth/token\""));
}

#[tokio::test]
async fn requests_by_token_are_counted_as_such() {
    let server = server().await;
    let issued = token(&server, &[]).await;
    for _ in 0..3 {
        ask(&server, "GET", "/v2/", &issued).await.expect(200);
    }
    ask(&server, "GET", "/v2/", "a.b.c").await.expect(401);
    let counted =
        |name| server.app().gate().outcomes().find(|(of, _)| *of == name).map(|(_, number)| number);
    assert_eq!(
        (counted("session"), counted("refused"), counted("bcrypt")),
        (Some(3), Some(1), Some(1))
    );
}
