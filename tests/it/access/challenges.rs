//! The challenge of a refusal.

use portcullis::oci::ErrorCode;
use serde_json::json;

use crate::support::{
    Answer, Answered as _, TestServer,
    access::{guarded, guarded_with},
    raw::basic,
    server::client_builder,
};

/// The only challenge of an answer.
#[track_caller]
fn challenge(answer: &Answer) -> String {
    let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
    let [challenge] = challenges[..] else { panic!("{challenges:?}") };
    challenge.to_str().unwrap().to_owned()
}

fn rules() -> serde_json::Value {
    json!([{ "who": "anyone", "repositories": "public/**", "may": "pull" }])
}

const BASIC: &str = "Basic realm=\"Portcullis\", charset=\"UTF-8\"";

#[tokio::test]
async fn one_challenge_in_one_header() {
    let open = guarded(&rules()).await;
    let elsewhere = json!([{ "who": "anyone", "from": "192.0.2.0/24", "may": "pull" }]);
    let closed = guarded(&elsewhere).await;
    let without_rules = TestServer::start().await;
    for (server, offers_tokens) in [(&open, true), (&closed, false), (&without_rules, false)] {
        let bearer = format!("Bearer realm=\"{}/auth/token\",service=\"portcullis\"", server.base);
        for authorization in [None, Some("Basic Og==".to_owned()), Some(basic("ann", "wrong"))] {
            for path in ["/v2/", "/v2/secret/app/tags/list", "/v2/_nothing", "/v1/search?q=a"] {
                let request = server.anonymous("GET", path);
                let request = match &authorization {
                    None => request,
                    Some(authorization) => request.header("authorization", authorization),
                };
                let answer = request.answer().await.expect_error(401, ErrorCode::Unauthorized);
                let expected = if offers_tokens && path == "/v2/" { &*bearer } else { BASIC };
                assert_eq!(challenge(&answer), expected, "{path} {authorization:?}");
            }
        }
    }
    // The rule is for other addresses: the challenge depends on where the client is.
    let there = closed.anonymous("GET", "/v2/").header("x-forwarded-for", "192.0.2.7");
    let told = challenge(&there.answer().await.expect(401));
    assert!(told.starts_with("Bearer "), "{told}");
}

#[tokio::test]
async fn realm_is_the_address_that_was_asked() {
    let server = guarded(&rules()).await;
    let realm = |challenge: &str| {
        let rest = challenge.strip_prefix("Bearer realm=\"")?;
        Some(rest.split_once('"').unwrap().0.to_owned())
    };
    // HTTP/2 has the authority of the URL in place of a Host header.
    let client = client_builder().http1_only().build().unwrap();
    let asked = async |server: &TestServer, headers: &[(&str, &str)]| {
        let mut request = client.get(format!("{}/v2/", server.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        realm(&challenge(&request.answer().await.expect(401)))
    };
    for (host, expected) in [
        ("registry.example", "https://registry.example/auth/token"),
        ("registry.example:5000", "https://registry.example:5000/auth/token"),
        ("[::1]:5000", "https://[::1]:5000/auth/token"),
    ] {
        assert_eq!(asked(&server, &[("host", host)]).await.as_deref(), Some(expected), "{host}");
    }
    assert_eq!(
        asked(&server, &[("host", "")]).await,
        None,
        "a client cannot resolve a relative realm"
    );
    // A trusted proxy tells what its client asked for.
    let forwarded = [("x-forwarded-proto", "http"), ("x-forwarded-host", "front.example:8080")];
    assert_eq!(asked(&server, &forwarded).await.unwrap(), "http://front.example:8080/auth/token");

    let untrusting = guarded_with(&rules(), |config| config.http.api.trustedproxies.clear()).await;
    assert_eq!(
        asked(&untrusting, &forwarded).await,
        None,
        "docker cannot resolve a relative realm"
    );

    let configured = guarded_with(&rules(), |config| {
        config.http.api.host = Some("https://public.example".to_owned());
        config.http.api.relativeurls = true;
        config.http.api.prefix = "/below/".to_owned();
    })
    .await;
    let answer = configured.anonymous("GET", "/below/v2/").answer().await.expect(401);
    assert_eq!(realm(&challenge(&answer)).unwrap(), "https://public.example/below/auth/token");
}
