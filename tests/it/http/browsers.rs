//! Browsers and load balancers: `OPTIONS`, requests from pages of other origins, and the headers
//! that instruct a browser.

use portcullis::{config::Config, oci::ErrorCode};
use reqwest::header::HeaderMap;

use crate::support::{Answered as _, TestServer, content::trifle, digest, h2, raw};

/// The probes of load balancers, also without a host.
#[tokio::test]
async fn options_of_the_server_needs_no_password() {
    let server = TestServer::start().await;
    for line in [
        "OPTIONS / HTTP/1.0\r\n",
        "OPTIONS * HTTP/1.0\r\n",
        "OPTIONS / HTTP/1.1\r\nhost: a\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: a\r\n",
        "OPTIONS /v1/_ping HTTP/1.1\r\nhost: a\r\n",
    ] {
        let head = format!("{line}connection: close\r\n\r\n");
        let answer = raw::exchange(server.connect(&[]).await, head.as_bytes()).await;
        let (status, rest) = answer.split_once("\r\n").unwrap();
        assert!(status.ends_with(" 200 OK"), "{line}: {answer}");
        let allow = rest.lines().find_map(|line| line.strip_prefix("allow: ")).unwrap();
        let all =
            if line.contains('*') { "GET, HEAD, POST, PUT, PATCH, DELETE" } else { "GET, HEAD" };
        assert_eq!(allow, all, "{line}");
        assert!(rest.contains("content-length: 0\r\n") && rest.ends_with("\r\n\r\n"), "{answer}");
    }
    let settings = h2::frame(h2::SETTINGS, 0, 0, &[]);
    let mut http2 = h2::Connection::open(server.addr(), &server.authority(), &settings).await;
    http2.send(&h2::request(1, "OPTIONS", "*")).await;
    let answer = http2.until(|frame| frame.stream == 1).await;
    assert!(answer.last().is_some_and(|frame| frame.is_status(8)), "{answer:?}");
    // It does for an endpoint; an unknown path gets 404.
    for (method, target, status) in [
        ("OPTIONS", "/v2/", 401),
        ("OPTIONS", "/v2/app/tags/list", 401),
        ("OPTIONS", "/nothing", 404),
        ("POST", "/", 405),
    ] {
        let answer = server.anonymous(method, target).answer().await.expect(status);
        assert_eq!(answer.headers.get("allow").is_some(), status == 405, "{method} {target}");
    }
    server.request("OPTIONS", "/v2/app/tags/list").answer().await.expect(200);
}

/// The origin of a page that shows a registry.
const PAGE: &str = "https://ui.example.com";

/// A server that admits the page as docs/MIGRATING.md describes.
async fn with_a_page() -> TestServer {
    let guide = include_str!("../../../docs/MIGRATING.md");
    let (_, block) = guide.split_once("```yaml cors\n").unwrap();
    let file = format!("version: 0.1\n{}", block.split_once("```").unwrap().0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yml");
    std::fs::write(&path, file).unwrap();
    let config = Config::load(Some(&path), []).unwrap();
    TestServer::with(|server| server.http.api.headers = config.http.api.headers).await
}

#[tokio::test]
async fn preflight_is_answered_without_a_password() {
    let server = with_a_page().await;
    for target in ["/v2/", "/v2/app/tags/list", "/v2/app/manifests/latest", "/nothing", "/"] {
        for method in ["GET", "DELETE"] {
            let request = server.anonymous("OPTIONS", target);
            let request = request.header("origin", PAGE).header("sec-fetch-site", "cross-site");
            let request = request.header("access-control-request-headers", "authorization");
            let request = request.header("access-control-request-method", method);
            let answer = request.answer().await.expect(204);
            assert_eq!(answer.header("access-control-allow-origin"), PAGE);
            let methods = all(&answer.headers, "access-control-allow-methods");
            assert!(methods.iter().any(|allowed| allowed == method), "{methods:?}");
            let headers = all(&answer.headers, "access-control-allow-headers");
            assert!(headers.iter().any(|name| name.eq_ignore_ascii_case("authorization")));
            assert_eq!(answer.header("access-control-allow-credentials"), "true");
            assert!(answer.body.is_empty() && answer.headers.get("content-length").is_none());
        }
    }
    // Half of the headers make no preflight request.
    let half = server.anonymous("OPTIONS", "/v2/").header("origin", PAGE).answer().await;
    half.expect(401);
    let half = server.anonymous("OPTIONS", "/v2/").header("access-control-request-method", "GET");
    half.answer().await.expect(401);
    // A wrong password is not checked: a preflight request should have none.
    let wrong = server.anonymous("OPTIONS", "/v2/").basic_auth("eve", Some("wrong"));
    let wrong = wrong.header("origin", PAGE).header("access-control-request-method", "GET");
    wrong.answer().await.expect(204);
    assert_eq!(server.app().gate().verifications(), 0);
}

#[tokio::test]
async fn allowed_origin_reads_and_deletes() {
    let server = with_a_page().await;
    let digest = trifle(&server, "app", "latest").await;
    for (method, target, status) in [
        ("GET", "/v2/_catalog".to_owned(), 200),
        ("HEAD", "/v2/app/manifests/latest".to_owned(), 200),
        ("DELETE", format!("/v2/app/manifests/{digest}"), 202),
    ] {
        let request = server.request(method, &target).header("origin", PAGE);
        let answer = request.header("sec-fetch-site", "cross-site").answer().await.expect(status);
        assert_eq!(answer.header("access-control-allow-origin"), PAGE);
    }
}

#[tokio::test]
async fn cross_site_requests_that_change_something_are_refused() {
    let any = ("Access-Control-Allow-Origin", "*");
    let page = ("Access-Control-Allow-Origin", PAGE);
    for (allowed, origin, refused) in [
        (None, Some("https://evil.example"), ["POST", "PUT", "PATCH", "DELETE"].as_slice()),
        (None, None, &["POST", "PUT", "PATCH", "DELETE"]),
        (Some(page), Some("https://evil.example"), &["POST", "PUT", "PATCH", "DELETE"]),
        (Some(page), Some(PAGE), &[]),
        // `*` admits pages without the browser's password, and a `POST` may need no preflight
        // request.
        (Some(any), Some("https://evil.example"), &["POST"]),
    ] {
        let server = TestServer::with(|config| {
            if let Some((name, value)) = allowed {
                config.http.api.headers.insert(name.to_owned(), vec![value.to_owned()]);
            }
        })
        .await;
        for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] {
            for site in ["cross-site", "same-site", "same-origin", "none"] {
                let target = format!("/v2/app/manifests/{}", digest("x"));
                let request = server.request(method, &target).header("sec-fetch-site", site);
                let request = match origin {
                    Some(origin) => request.header("origin", origin),
                    None => request,
                };
                let answer = request.answer().await;
                let is_refused = refused.contains(&method) && site == "cross-site";
                assert_eq!(answer.status == 403, is_refused, "{allowed:?} {method} {site}");
                if is_refused {
                    answer.expect_error(403, ErrorCode::Denied);
                }
            }
        }
    }
    // No password is checked for it.
    let server = TestServer::start().await;
    let request =
        server.anonymous("POST", "/v2/app/blobs/uploads/").basic_auth("eve", Some("wrong"));
    request.header("sec-fetch-site", "cross-site").answer().await.expect(403);
    assert_eq!(server.app().gate().verifications(), 0);
    server.post("/v2/app/blobs/uploads/").await.expect(202);
}

#[tokio::test]
async fn responses_are_sandboxed_and_of_the_same_origin() {
    let server = TestServer::start().await;
    let digest = server.push_blob("app", "<script>alert(1)</script>").await;
    trifle(&server, "app", "latest").await;
    let blob = format!("/v2/app/blobs/{digest}");
    for (target, status) in [
        ("/v2/", 200),
        ("/v2/_catalog", 200),
        ("/v2/app/manifests/latest", 200),
        (&*blob, 200),
        ("/v2/app/manifests/other", 404),
        ("/", 200),
        ("/nothing", 404),
    ] {
        let answer = server.get(target).await.expect(status);
        let policy = all(&answer.headers, "content-security-policy");
        assert_eq!(policy, ["sandbox; default-src 'none'"], "{target}");
        let policy = all(&answer.headers, "cross-origin-resource-policy");
        assert_eq!(policy, ["same-origin"], "{target}");
    }
    let server = TestServer::with(|config| {
        let headers = &mut config.http.api.headers;
        headers.insert("content-security-policy".to_owned(), vec!["sandbox".to_owned()]);
        headers.insert("Cross-Origin-Resource-Policy".to_owned(), Vec::new());
    })
    .await;
    let answer = server.get("/v2/").await.expect(200);
    assert_eq!(all(&answer.headers, "content-security-policy"), ["sandbox"]);
    assert_eq!(answer.headers.get("cross-origin-resource-policy"), None);
}

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values.flat_map(|value| value.to_str().unwrap().split(", ").map(str::to_owned)).collect()
}
