//! The redirect from plain HTTP to HTTPS: `http.redirectaddr`.

use portcullis::{
    app::App,
    config::Config,
    server::{Passthrough, TlsOptions},
};
use tokio::net::TcpStream;

use crate::support::{
    TestServer,
    raw::{self, header},
    server,
};

async fn start(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.http.server.redirectaddr = "127.0.0.1:0".to_owned();
        change(config);
    })
    .await
}

/// Sends a verbatim head, and gives the bytes until the server closes.
async fn ask(server: &TestServer, head: &str) -> String {
    let addr = server.app().redirect_addr().unwrap();
    let stream = TcpStream::connect(addr).await.unwrap();
    raw::exchange(stream, format!("{head}\r\n").as_bytes()).await
}

#[tokio::test]
async fn client_is_redirected_to_the_same_target_by_https() {
    let server = start(|_| {}).await;
    let port = server.addr().port();
    for (head, location) in [
        ("GET / HTTP/1.1\r\nHost: r.example\r\n", format!("https://r.example:{port}/")),
        (
            "GET /v2/?n=1&last=%2f HTTP/1.1\r\nHost: r.example:80\r\n",
            format!("https://r.example:{port}/v2/?n=1&last=%2f"),
        ),
        (
            "HEAD //evil.example/ HTTP/1.1\r\nHost: 127.0.0.1:5080\r\n",
            format!("https://127.0.0.1:{port}//evil.example/"),
        ),
        ("GET /%0d%0a HTTP/1.1\r\nHost: [::1]:80\r\n", format!("https://[::1]:{port}/%0d%0a")),
        ("GET /a HTTP/1.1\r\nHost: [::1]\r\n", format!("https://[::1]:{port}/a")),
        ("GET /a HTTP/1.0\r\nHost: r.example\r\n", format!("https://r.example:{port}/a")),
        (
            "GET http://r.example/a?b HTTP/1.1\r\nHost: other.example\r\n",
            format!("https://r.example:{port}/a?b"),
        ),
        (
            "GET http://r.example HTTP/1.1\r\nHost: r.example\r\n",
            format!("https://r.example:{port}/"),
        ),
        (
            "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: r.example\r\nContent-Length: 9\r\n",
            format!("https://r.example:{port}/v2/a/blobs/uploads/"),
        ),
        ("DELETE /v2/ HTTP/1.1\r\nHost: r.example\r\n", format!("https://r.example:{port}/v2/")),
    ] {
        let answer = ask(&server, head).await;
        assert!(
            answer.starts_with("HTTP/1.1 301 ") || answer.starts_with("HTTP/1.0 301 "),
            "{head}: {answer}"
        );
        assert_eq!(header(&answer, "location"), Some(&*location), "{head}: {answer}");
        assert!(header(&answer, "x-request-id").is_some(), "{answer}");
    }
}

#[tokio::test]
async fn client_without_a_host_is_redirected_nowhere() {
    let server = start(|_| {}).await;
    for (head, status) in [
        ("GET / HTTP/1.1\r\n", "400"),
        ("GET / HTTP/1.0\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost:\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: user@evil.example\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: evil.example/x\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: evil.example:99999\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: evil.example, r.example\r\n", "400"),
        ("GET http://user@evil.example/ HTTP/1.1\r\nHost: r.example\r\n", "400"),
        ("OPTIONS * HTTP/1.1\r\nHost: r.example\r\n", "404"),
    ] {
        let answer = ask(&server, head).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{head}: {answer}");
        assert_eq!(header(&answer, "location"), None, "{answer}");
    }
}

#[tokio::test]
async fn redirect_listener_checks_no_password() {
    let server = start(|config| {
        let hsts = vec!["max-age=1".to_owned()];
        config.http.api.headers.insert("Strict-Transport-Security".to_owned(), hsts);
    })
    .await;
    for authorization in [raw::authorization(), raw::basic(server::USER, "wrong")] {
        let head =
            format!("GET /v2/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n");
        let answer = ask(&server, &head).await;
        assert!(answer.starts_with("HTTP/1.1 301 "), "{answer}");
        assert_eq!(header(&answer, "www-authenticate"), None, "{answer}");
        // Without TLS it has no meaning and must not be sent (RFC 6797 §7.2).
        assert_eq!(header(&answer, "strict-transport-security"), None, "{answer}");
    }
    assert_eq!(server.app().gate().verifications(), 0);
}

#[tokio::test]
async fn clients_are_redirected_to_the_configured_host() {
    for (host, location) in [
        ("https://r.example", "https://r.example/v2/?a"),
        ("r.example:8443/", "https://r.example:8443/v2/?a"),
        ("http://r.example", "https://r.example/v2/?a"),
    ] {
        let server = start(|config| config.http.api.host = Some(host.to_owned())).await;
        for head in ["GET /v2/?a HTTP/1.1\r\nHost: other\r\n", "GET /v2/?a HTTP/1.0\r\n"] {
            let answer = ask(&server, head).await;
            assert_eq!(header(&answer, "location"), Some(location), "{host}: {answer}");
        }
    }
}

#[tokio::test]
async fn connection_ends_after_one_response_and_with_the_server() {
    let server = start(|_| {}).await;
    let two = "GET /a HTTP/1.1\r\nHost: r\r\n\r\nGET /b HTTP/1.1\r\nHost: r\r\n";
    let answer = ask(&server, two).await;
    assert_eq!(answer.matches("HTTP/1.1 301").count(), 1, "{answer}");
    assert_eq!(header(&answer, "connection"), Some("close"), "{answer}");
    let addr = server.app().redirect_addr().unwrap();
    server.stop().await;
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn address_in_use_is_named_with_its_key_and_nothing_is_left_running() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = server::config(folder.path());
    config.http.server.redirectaddr = taken.local_addr().unwrap().to_string();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    config.http.server.addr = free.to_string();
    let error = App::start(&config).unwrap_err().to_string();
    assert!(error.contains("choose another http.redirectaddr"), "{error}");
    assert!(TcpStream::connect(free).await.is_err(), "the registry is listening");
}

#[test]
fn redirect_without_tls_is_refused() {
    let environment = |tls: &str| {
        [("REGISTRY_HTTP_REDIRECTADDR", ":80"), ("REGISTRY_HTTP_TLS", tls)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let error = Config::load(None, environment("off")).unwrap_err().to_string();
    assert!(error.contains("http.redirectaddr") && error.contains("http.tls is off"), "{error}");
    let config = Config::load(None, environment("")).unwrap();
    assert!(!matches!(config.http.server.tls, TlsOptions::Off));
    assert_eq!(config.http.server.redirectaddr, ":80");
}

#[tokio::test]
async fn client_of_another_site_is_redirected_to_that_site() {
    let server = start(|config| {
        config.http.api.host = Some("https://registry.example".to_owned());
        if let TlsOptions::On { passthrough, .. } = &mut config.http.server.tls {
            let names = vec!["*.shop.example".to_owned()];
            let addr = "127.0.0.1:1".to_owned();
            *passthrough = vec![Passthrough { names, addr, proxyprotocol: false }];
        }
    })
    .await;
    let port = server.addr().port();
    for (host, location) in [
        ("a.shop.example", format!("https://a.shop.example:{port}/x")),
        ("other.example", "https://registry.example/x".to_owned()),
    ] {
        let answer = ask(&server, &format!("GET /x HTTP/1.1\r\nHost: {host}\r\n")).await;
        assert_eq!(header(&answer, "location"), Some(&*location), "{answer}");
    }
}
