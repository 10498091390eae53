//! Callers without a name.

use std::{collections::BTreeSet, time::Instant};

use portcullis::oci::ErrorCode;
use serde_json::json;

use crate::support::{
    Answer, Answered as _, TestServer,
    access::{NOBODY, by, guarded},
    content::trifle,
    image,
    raw::basic,
    timing::assert_indistinguishable,
};

/// Everything of an answer but the request's id and the date.
fn without_id(answer: &Answer) -> String {
    let headers: BTreeSet<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "x-request-id" | "date"))
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    format!("{} {headers:?} {}", answer.status, answer.text())
}

async fn public_and_secret() -> TestServer {
    let rules = json!([{ "who": "anyone", "repositories": "public/**", "may": "pull" }]);
    let server = guarded(&rules).await;
    trifle(&server, "public/app", "v1").await;
    image(&server, "secret/app", "v1").await;
    server
}

#[tokio::test]
async fn nobody_learns_whether_a_repository_exists() {
    let server = public_and_secret().await;
    let secret = image(&server, "secret/app", "v2").await;
    let upload = server.open_upload("secret/app").await;
    let upload = upload.strip_prefix(&server.base).unwrap();
    let expected = by(&server, NOBODY, "GET", "/v2/secret/app/tags/list").answer().await;
    let expected = expected.expect_error(401, ErrorCode::Unauthorized);
    for (method, target) in [
        ("GET", "/v2/no/such/tags/list".to_owned()),
        ("GET", "/v2/secret/app/manifests/v1".to_owned()),
        ("GET", "/v2/secret/app/manifests/missing".to_owned()),
        ("GET", format!("/v2/secret/app/manifests/{}", secret.digest)),
        ("GET", format!("/v2/secret/app/blobs/{}", secret.layer)),
        ("GET", format!("/v2/no/such/blobs/{}", secret.layer)),
        ("GET", format!("/v2/secret/app/referrers/{}", secret.digest)),
        ("GET", upload.to_owned()),
        ("PATCH", upload.to_owned()),
        ("PUT", format!("{upload}?digest={}", secret.layer)),
        ("DELETE", upload.to_owned()),
        ("POST", "/v2/secret/app/blobs/uploads/".to_owned()),
        ("POST", "/v2/no/such/blobs/uploads/".to_owned()),
        ("PUT", "/v2/public/app/manifests/v2".to_owned()),
        ("DELETE", "/v2/secret/app/manifests/v1".to_owned()),
        ("DELETE", "/v2/public/app/".to_owned()),
        ("GET", "/v2/secret/app/nothing".to_owned()),
        ("GET", "/v2/public/app/nothing".to_owned()),
        ("POST", "/v2/secret/app/tags/list".to_owned()),
        ("OPTIONS", "/v2/secret/app/tags/list".to_owned()),
        ("GET", "/v2/Secret/app/tags/list".to_owned()),
        ("GET", "/v2/secret/app/tags/list?n=x".to_owned()),
        ("GET", "/v1/search?q=app".to_owned()),
    ] {
        let answer = by(&server, NOBODY, method, &target).answer().await;
        assert_eq!(without_id(&answer), without_id(&expected), "{method} {target}");
    }
    // A wrong password is not taken for none.
    for authorization in [basic("ann", "wrong"), "Basic !".to_owned(), "Unknown a".to_owned()] {
        for target in
            ["/v2/secret/app/tags/list", "/v2/public/app/tags/list", "/v2/no/such/tags/list"]
        {
            let request = server.anonymous("GET", target).header("authorization", &authorization);
            let answer = request.answer().await;
            assert_eq!(without_id(&answer), without_id(&expected), "{authorization} {target}");
        }
    }
}

#[tokio::test]
async fn nobody_pulls_what_anyone_may_without_a_token() {
    let server = public_and_secret().await;
    let get = async |target: &str| by(&server, NOBODY, "GET", target).answer().await;
    get("/v2/public/app/manifests/v1").await.expect(200);
    let tags = get("/v2/public/app/tags/list").await.expect(200);
    assert_eq!(tags.json(), json!({ "name": "public/app", "tags": ["v1"] }));
    // What does not exist among what everybody may pull is not there.
    get("/v2/public/other/tags/list").await.expect_error(404, ErrorCode::NameUnknown);
    get("/v2/").await.expect_error(401, ErrorCode::Unauthorized);
}

/// regctl, and pages in browsers, ask without the credentials that they have, and take what they get for all
/// there is.
#[tokio::test]
async fn lists_of_repositories_ask_for_a_login_also_where_nobody_may_pull() {
    let server = public_and_secret().await;
    for target in ["/v2/_catalog", "/v1/search?q=app"] {
        let answer = by(&server, NOBODY, "GET", target).answer().await;
        let answer = answer.expect_error(401, ErrorCode::Unauthorized);
        assert!(answer.header("www-authenticate").starts_with("Basic "), "{target}");
    }
    let token = by(&server, NOBODY, "GET", "/auth/token").answer().await.expect(200).json();
    let token = token["token"].as_str().unwrap();
    let catalog = server.anonymous("GET", "/v2/_catalog").bearer_auth(token).answer().await;
    assert_eq!(catalog.expect(200).json(), json!({ "repositories": ["public/app"] }));
}

#[tokio::test]
async fn empty_basic_is_nobody() {
    let server = public_and_secret().await;
    let ask = async |server: &TestServer, target: &str| {
        let request = server.anonymous("GET", target).header("authorization", "Basic Og==");
        request.answer().await
    };
    for _ in 0..30 {
        ask(&server, "/v2/public/app/manifests/v1").await.expect(200);
        ask(&server, "/v2/secret/app/manifests/v1").await.expect(401);
        ask(&server, "/v2/").await.expect(401);
    }
    assert_eq!(server.app().gate().verifications(), 1, "of the user who pushed");
    // The same without rules: it is not counted as a wrong password.
    let closed = TestServer::start().await;
    for _ in 0..30 {
        ask(&closed, "/v2/").await.expect_error(401, ErrorCode::Unauthorized);
    }
    assert_eq!(closed.app().gate().verifications(), 0);
    closed.get("/v2/").await.expect(200);
}

#[tokio::test]
async fn rule_for_other_addresses_admits_nobody_from_here() {
    let rules = json!([{ "who": "anyone", "from": "192.0.2.0/24", "may": "pull" }]);
    let server = guarded(&rules).await;
    trifle(&server, "app", "v1").await;
    let from = async |address: &str| {
        let request = by(&server, NOBODY, "GET", "/v2/app/manifests/v1");
        request.header("x-forwarded-for", address).answer().await.status.as_u16()
    };
    assert_eq!(from("192.0.2.7").await, 200);
    assert_eq!(from("198.51.100.7").await, 401);
}

#[tokio::test]
async fn timing_does_not_tell_whether_a_repository_exists() {
    let server = public_and_secret().await;
    for (caller, status) in [(NOBODY, 401), ("ann", 403)] {
        let targets =
            ["secret/app/manifests/v1", "secret/app/manifests/v2", "no/such/manifests/v1"];
        assert_indistinguishable(&targets, async |target, _| {
            let request = by(&server, caller, "GET", &format!("/v2/{target}"));
            let begun = Instant::now();
            let answer = request.answer().await;
            let took = begun.elapsed();
            answer.expect(status);
            took
        })
        .await;
    }
}
