//! `Location`, and the headers of all responses.

use portcullis::{http, server::TlsOptions};
use reqwest::header::HeaderMap;

use crate::support::{
    Answer, Answered as _, TestServer,
    content::{OCI_INDEX, closing, empty_index, trifle},
    digest,
    server::{PASSWORD, USER, client_builder},
};

const UPLOADS: &str = "/v2/app/blobs/uploads/";

/// Opens an upload with these headers over HTTP/1.1, where `Host` is a header like others.
async fn post_with(server: &TestServer, headers: &[(&str, &str)]) -> Answer {
    let client = client_builder().http1_only().build().unwrap();
    let mut request =
        client.post(format!("{}{UPLOADS}", server.base)).basic_auth(USER, Some(PASSWORD));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.answer().await
}

async fn location_with(server: &TestServer, headers: &[(&str, &str)]) -> String {
    let answer = post_with(server, headers).await.expect(202);
    answer.header("location").to_owned()
}

#[track_caller]
fn assert_starts(location: &str, start: &str) {
    assert!(location.starts_with(start), "{location} does not start with {start}");
}

#[tokio::test]
async fn locations_are_absolute_and_name_the_host_that_was_asked() {
    let server = TestServer::start().await;
    let here = format!("{}/v2/app/", server.base);
    let upload = server.open_upload("app").await;
    assert_starts(&upload, &here);
    let patched = server.patch(&upload, None, "abc").await.expect(202);
    assert_starts(patched.header("location"), &here);
    let status = server.get(&upload).await.expect(204);
    assert_starts(status.header("location"), &here);
    let blob = server.put(&closing(&upload, &digest("abc")), "").await.expect(201);
    assert_eq!(blob.header("location"), format!("{here}blobs/{}", digest("abc")));
    let body = empty_index("x");
    let manifest = server.push_manifest("app", "latest", OCI_INDEX, body.clone()).await;
    let expected = format!("{here}manifests/{}", digest(body));
    assert_eq!(manifest.expect(201).header("location"), expected);
    let other = location_with(&server, &[("host", "registry.example:8443")]).await;
    assert_starts(&other, "https://registry.example:8443/v2/app/");
}

#[tokio::test]
async fn configured_host_is_used_instead() {
    for (host, start) in [
        ("https://registry.example:8443", "https://registry.example:8443/v2/app/"),
        ("http://registry.example", "http://registry.example/v2/app/"),
        ("registry.example", "https://registry.example/v2/app/"),
    ] {
        let server = TestServer::with(|config| config.http.api.host = Some(host.to_owned())).await;
        assert_starts(&location_with(&server, &[]).await, start);
        assert_starts(&location_with(&server, &[("host", "other.example")]).await, start);
    }
}

#[tokio::test]
async fn prefix_is_before_every_path() {
    let server = TestServer::with(|config| config.http.api.prefix = "/registry/".to_owned()).await;
    server.get("/registry/v2/").await.expect(200);
    let answer = server.anonymous("GET", "/registry/v2/").answer().await;
    assert_eq!(answer.status, 401);
    let answer = server.post("/registry/v2/app/blobs/uploads/").await.expect(202);
    let location = answer.header("location").to_owned();
    assert_starts(&location, &format!("{}/registry/v2/app/blobs/uploads/", server.base));
    let blob = server.put(&closing(&location, &digest("abc")), "abc").await.expect(201);
    let pulled = server.get(blob.header("location")).await.expect(200);
    assert_eq!(pulled.body, "abc");
    for tag in ["a", "b"] {
        let target = format!("/registry/v2/app/manifests/{tag}");
        let request = server.request("PUT", &target).header("content-type", OCI_INDEX);
        let answer = request.body(empty_index(tag)).answer().await.expect(201);
        server.get(answer.header("location")).await.expect(200);
    }
    let page = server.get("/registry/v2/app/tags/list?n=1").await.expect(200);
    let link = page.header("link");
    let target = link.strip_prefix('<').unwrap().split_once('>').unwrap().0;
    let page = server.get(target).await.expect(200);
    assert_eq!(page.json()["tags"], serde_json::json!(["b"]));
}

#[tokio::test]
async fn relative_urls_have_no_host() {
    for prefix in ["/", "/registry/"] {
        let server = TestServer::with(|config| {
            config.http.api.relativeurls = true;
            config.http.api.prefix = prefix.to_owned();
        })
        .await;
        let answer = server.post(&format!("{prefix}v2/app/blobs/uploads/")).await.expect(202);
        let location = answer.header("location").to_owned();
        assert_starts(&location, &format!("{prefix}v2/app/blobs/uploads/"));
        let answer = server.put(&closing(&location, &digest("abc")), "abc").await.expect(201);
        let location = answer.header("location");
        assert_eq!(location, format!("{prefix}v2/app/blobs/{}", digest("abc")));
    }
}

#[tokio::test]
async fn trusted_proxy_decides_the_host_of_locations() {
    let server = TestServer::with(|config| config.http.server.tls = TlsOptions::Off).await;
    assert_starts(&location_with(&server, &[]).await, &format!("{}/v2/app/", server.base));
    let forwarded = [("x-forwarded-proto", "https"), ("x-forwarded-host", "outside.example")];
    let location = location_with(&server, &forwarded).await;
    assert_starts(&location, "https://outside.example/v2/app/");
    let location = location_with(&server, &[("host", "outside.example"), forwarded[0]]).await;
    assert_starts(&location, "https://outside.example/v2/app/");
}

/// An untrusted proxy: `Location` neither repeats its host nor names a wrong one. Every client
/// follows a path.
#[tokio::test]
async fn locations_are_relative_when_an_untrusted_peer_names_the_host() {
    for trusted in [vec!["192.0.2.0/24".parse().unwrap()], http::Options::default().trustedproxies]
    {
        for (own, other) in [("http", "https"), ("https", "http")] {
            let server = TestServer::with(|config| {
                config.http.api.trustedproxies = trusted.clone();
                if own == "http" {
                    config.http.server.tls = TlsOptions::Off;
                }
            })
            .await;
            let here = format!("{}/v2/app/", server.base);
            let elsewhere = format!("for=192.0.2.1;proto={other}");
            for (name, value) in [
                ("x-forwarded-proto", other),
                ("x-forwarded-host", "evil.example"),
                ("forwarded", &elsewhere),
                ("forwarded", "for=192.0.2.1, for=192.0.2.2;host=evil.example"),
            ] {
                let location = location_with(&server, &[(name, value)]).await;
                assert_starts(&location, UPLOADS);
            }
            let same = server.base.split_once("://").unwrap().1;
            for (name, value) in [
                ("x-forwarded-proto", own),
                ("x-forwarded-host", same),
                ("x-forwarded-for", "192.0.2.1"),
                ("x-real-ip", "192.0.2.1"),
                ("forwarded", "for=192.0.2.1"),
                ("x-forwarded-proto", "gopher"),
                ("x-forwarded-host", "evil.example/x"),
            ] {
                let location = location_with(&server, &[(name, value)]).await;
                assert_starts(&location, &here);
            }
        }
    }
}

/// A minimal setup of Traefik and compose: TLS ends at the proxy, and the proxy is not configured
/// here.
#[tokio::test]
async fn push_through_an_untrusted_proxy_works() {
    let server = TestServer::with(|config| {
        config.http.server.tls = TlsOptions::Off;
        config.http.api.trustedproxies.clear();
    })
    .await;
    let proxied = |method: &str, target: &str| {
        let target = target.strip_prefix(&server.base).unwrap_or(target);
        let request = server.request(method, target).header("host", "registry.example");
        request.header("x-forwarded-proto", "https").header("x-forwarded-for", "192.0.2.1")
    };
    let begun = proxied("POST", UPLOADS).answer().await.expect(202);
    let upload = begun.header("location");
    assert_starts(upload, UPLOADS);
    let patched = proxied("PATCH", upload).body("ab").answer().await.expect(202);
    assert_starts(patched.header("location"), UPLOADS);
    let closing = closing(patched.header("location"), &digest("abc"));
    let blob = proxied("PUT", &closing).body("c").answer().await.expect(201);
    assert_eq!(blob.header("location"), format!("/v2/app/blobs/{}", digest("abc")));
    let manifest = proxied("PUT", "/v2/app/manifests/latest").header("content-type", OCI_INDEX);
    let manifest = manifest.body(empty_index("x")).answer().await.expect(201);
    assert_starts(manifest.header("location"), "/v2/app/manifests/sha256:");
}

#[tokio::test]
async fn locations_ignore_headers_that_a_trusted_proxy_only_passes_on() {
    let server = TestServer::with(|config| config.http.server.tls = TlsOptions::Off).await;
    let inside = [("host", "inside.example")];
    let with =
        async |more: &[(&str, &str)]| location_with(&server, &[&inside, more].concat()).await;
    let forwarded = ("forwarded", "for=192.0.2.1;proto=https;host=\"outside.example:443\"");
    assert_starts(&with(&[forwarded]).await, "https://outside.example:443/v2/app/");
    assert_starts(&with(&[("forwarded", "for=192.0.2.1")]).await, "http://inside.example/v2/app/");
    // The last element is the last proxy's; the elements before it come from its client.
    let added = ("forwarded", "for=x;host=evil.example, for=192.0.2.1;proto=https");
    assert_starts(&with(&[added]).await, "https://inside.example/v2/app/");
    // One of the two comes from the client.
    let (proto, host) = (("x-forwarded-proto", "https"), ("x-forwarded-host", "evil.example"));
    for headers in [
        &[forwarded, host][..],
        &[proto, ("forwarded", "for=192.0.2.1;host=evil.example")],
        &[("x-real-ip", "192.0.2.1"), ("forwarded", "for=192.0.2.1;host=evil.example")],
        &[("x-forwarded-for", "192.0.2.1"), ("forwarded", "host=evil.example")],
    ] {
        assert_starts(&with(headers).await, UPLOADS);
    }
}

#[tokio::test]
async fn malformed_host_is_not_reflected() {
    let server = TestServer::start().await;
    for bad in [
        "evil.example/path",
        "evil.example?x=",
        "evil.example#x",
        "user@evil.example",
        "evil.example\"><x",
        "evil.example:port",
        "evil example",
    ] {
        for name in ["host", "x-forwarded-host"] {
            let answer = post_with(&server, &[(name, bad)]).await;
            if answer.status == 202 {
                let location = answer.header("location");
                assert!(!location.contains("evil"), "{name}: {bad}: {location}");
            } else {
                assert_eq!(answer.status, 400, "{name}: {bad}");
            }
        }
    }
    for bad in ["javascript", "ftp", "https://x", "\"", ""] {
        let answer = post_with(&server, &[("x-forwarded-proto", bad)]).await.expect(202);
        let location = answer.header("location");
        let start = location.split_once("://").unwrap().0;
        assert!(matches!(start, "http" | "https"), "{bad}: {location}");
    }
}

#[tokio::test]
async fn every_response_has_the_version_of_the_interface() {
    let server = TestServer::start().await;
    let digest = server.push_blob("app", "content").await;
    trifle(&server, "app", "latest").await;
    let blob = format!("/v2/app/blobs/{digest}");
    let part = server.request("GET", &blob).header("range", "bytes=0-1");
    let beyond = server.request("GET", &blob).header("range", "bytes=99-");
    let same = server.request("GET", &blob).header("if-none-match", "*");
    for (status, answer) in [
        (200, server.get("/v2/").await),
        (200, server.get("/v2/_catalog").await),
        (200, server.get("/v2/app/tags/list").await),
        (200, server.get("/v2/app/manifests/latest").await),
        (200, server.get(&format!("/v2/app/referrers/{digest}")).await),
        (200, server.get(&blob).await),
        (206, part.answer().await),
        (304, same.answer().await),
        (416, beyond.answer().await),
        (202, server.post(UPLOADS).await),
        (404, server.get("/v2/app/manifests/other").await),
        (404, server.head("/v2/app/manifests/other").await),
        (400, server.get("/v2/app/tags/list?n=x").await),
        (405, server.post("/v2/app/tags/list").await),
        (401, server.anonymous("GET", "/v2/").answer().await),
        (401, server.anonymous("PUT", UPLOADS).body("x").answer().await),
        (401, server.anonymous("GET", "/v1/search?q=x").answer().await),
        (202, server.delete(&blob).await),
    ] {
        let answer = answer.expect(status);
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    }
}

#[tokio::test]
async fn base_is_an_empty_object() {
    let server = TestServer::start().await;
    let answer = server.get("/v2/").await.expect(200);
    assert_eq!(answer.json(), serde_json::json!({}));
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
}

#[tokio::test]
async fn configured_headers_are_in_every_answer() {
    let server = TestServer::with(|config| {
        let headers = &mut config.http.api.headers;
        headers.insert("X-Frame-Options".to_owned(), vec!["deny".to_owned()]);
        headers.insert("X-Two".to_owned(), vec!["one".to_owned(), "two".to_owned()]);
    })
    .await;
    trifle(&server, "app", "latest").await;
    for answer in [
        server.get("/v2/").await.expect(200),
        server.get("/v2/app/manifests/latest").await.expect(200),
        server.get("/v2/app/manifests/other").await.expect(404),
        server.post(UPLOADS).await.expect(202),
    ] {
        assert_eq!(answer.header("x-frame-options"), "deny");
        let both: Vec<_> = all(&answer.headers, "x-two");
        assert_eq!(both, ["one", "two"]);
    }
}

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values.flat_map(|value| value.to_str().unwrap().split(", ").map(str::to_owned)).collect()
}
