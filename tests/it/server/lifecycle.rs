//! Connections: TLS, certificates, idle timeouts, the drain.

use std::{fs, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use portcullis::server::{CertificateSource, TlsOptions, TlsVersion, authority};
use rustls::{
    ALL_VERSIONS, CipherSuite, ClientConfig, HandshakeKind, RootCertStore, ServerConfig,
    SupportedCipherSuite,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{Ticketer, default_provider},
    },
    pki_types::ServerName,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::{
    TestServer, digest,
    server::{Answered as _, PASSWORD, USER, client_builder},
};

fn port(server: &TestServer) -> u16 {
    server.addr().port()
}

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port(server))).await.unwrap()
}

/// A TLS client that trusts the authority of a folder.
fn tls_client(ca: &std::path::Path, alpn: &[&[u8]]) -> TlsConnector {
    tls_client_of(default_provider(), ca, alpn)
}

fn tls_client_of(provider: CryptoProvider, ca: &std::path::Path, alpn: &[&[u8]]) -> TlsConnector {
    let versions: Vec<_> = ALL_VERSIONS
        .iter()
        .filter(|version| provider.cipher_suites.iter().any(|s| s.version() == **version))
        .copied()
        .collect();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

fn ca_of(server: &TestServer) -> std::path::PathBuf {
    match &server.config().http.server.tls {
        TlsOptions::On { source: CertificateSource::Files { certificate, .. }, .. } => {
            certificate.with_file_name("ca.crt")
        }
        _ => panic!("this server has no certificate files"),
    }
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

#[tokio::test]
async fn cipher_suite_is_aes_128_or_chacha20_where_the_client_prefers_it() {
    use rustls::crypto::aws_lc_rs::cipher_suite::*;
    let server = TestServer::start().await;
    let chosen = async |suites: &[SupportedCipherSuite]| {
        let provider = CryptoProvider { cipher_suites: suites.to_vec(), ..default_provider() };
        let client = tls_client_of(provider, &ca_of(&server), &[]);
        let stream = client.connect(localhost(), connect(&server).await).await.unwrap();
        stream.get_ref().1.negotiated_cipher_suite().unwrap().suite()
    };
    let (aes_128, aes_256) = (TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384);
    let chacha20 = TLS13_CHACHA20_POLY1305_SHA256;
    assert_eq!(chosen(&[aes_256, chacha20, aes_128]).await, aes_128.suite());
    assert_eq!(chosen(&[chacha20, aes_128, aes_256]).await, chacha20.suite());
    assert_eq!(chosen(&[aes_256, chacha20]).await, aes_256.suite());

    let aes_128 = TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    let aes_256 = TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
    let chacha20 = TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256;
    assert_eq!(chosen(&[aes_256, chacha20, aes_128]).await, aes_128.suite());
    assert_eq!(chosen(&[chacha20, aes_128]).await, chacha20.suite());
}

#[tokio::test]
async fn tls_1_2_is_spoken_with_the_suites_of_the_list_and_tls_1_3_with_all() {
    use rustls::crypto::aws_lc_rs::cipher_suite::*;
    // The first suite in the list is not the preferred one.
    let names = r#"["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"]"#;
    let server = TestServer::with(|config| {
        let TlsOptions::On { suites, .. } = &mut config.http.server.tls else {
            panic!("TLS is off");
        };
        *suites = serde_json::from_str(names).unwrap();
    })
    .await;
    let chosen = async |suites: &[SupportedCipherSuite]| {
        let provider = CryptoProvider { cipher_suites: suites.to_vec(), ..default_provider() };
        let client = tls_client_of(provider, &ca_of(&server), &[]);
        let stream = client.connect(localhost(), connect(&server).await).await.ok()?;
        Some(stream.get_ref().1.negotiated_cipher_suite().unwrap().suite())
    };
    let aes_128 = TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    let aes_256 = TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
    let chacha20 = TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256;
    assert_eq!(chosen(&[aes_256, aes_128]).await, Some(aes_128.suite()));
    // Its preferred suite is not offered, so the server's order decides.
    assert_eq!(chosen(&[chacha20, aes_256, aes_128]).await, Some(aes_128.suite()));
    assert_eq!(chosen(&[aes_256]).await, Some(aes_256.suite()));
    assert_eq!(chosen(&[chacha20]).await, None);
    for suite in
        [TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256]
    {
        assert_eq!(chosen(&[suite]).await, Some(suite.suite()));
    }
}

#[tokio::test]
async fn plain_http_on_the_tls_port_gets_400_and_json_below_v2() {
    const GO: &str = "client sent an HTTP request to an HTTPS server";
    let server = TestServer::start().await;
    for (pieces, is_json) in [
        (vec!["GET / HTTP/1.1\r\nHost: localhost:5000\r\n\r\n"], false),
        (vec!["GET /v2x HTTP/1.1\r\nHost: localhost:5000\r\n\r\n"], false),
        (vec!["GET /v2/ HTTP/1.1\r\nHost: localhost:5000\r\n\r\n"], true),
        (
            vec![
                "HEAD /v2/a/manifests/b HTTP/1.1\r\nAccept: a\r\n",
                "host: localhost:5000\r\n\r\n",
            ],
            true,
        ),
    ] {
        let mut stream = connect(&server).await;
        for piece in &pieces {
            stream.write_all(piece.as_bytes()).await.unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{answer}");
        if !is_json {
            assert!(head.contains("Content-Type: text/plain"), "{answer}");
            assert_eq!(body, format!("{GO}: use https://localhost:5000\n"));
        } else if pieces[0].starts_with("HEAD") {
            assert!(head.contains("Content-Type: application/json"), "{answer}");
            assert_eq!(body, "");
        } else {
            let json: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(json["errors"][0]["code"], "UNSUPPORTED");
            let message = json["errors"][0]["message"].as_str().unwrap();
            assert!(message.starts_with(GO), "{message}");
            assert!(message.contains("`docker login localhost:5000`"), "{message}");
        }
    }
}

/// One test, because each case takes the server's idle timeout.
#[tokio::test]
async fn connections_on_which_nothing_comes_are_closed() {
    let server = TestServer::start().await;
    let hello_cut_off = [0x16, 3, 1, 2, 0, 1, 0, 1];
    let closed = |start: &'static [u8], tls: bool| {
        let (server, ca) = (&server, ca_of(&server));
        async move {
            let stream = connect(server).await;
            let mut rest = Vec::new();
            if tls {
                let client = tls_client(&ca, &[b"h2", b"http/1.1"]);
                let mut stream = client.connect(localhost(), stream).await.unwrap();
                stream.write_all(start).await.unwrap();
                let _ = stream.read_to_end(&mut rest).await;
            } else {
                let mut stream = stream;
                stream.write_all(start).await.unwrap();
                let _ = stream.read_to_end(&mut rest).await;
            }
        }
    };
    let all = async {
        tokio::join!(
            closed(b"", false),
            closed(Box::leak(Box::new(hello_cut_off)), false),
            closed(b"", true),
            closed(b"PRI * HTTP/2.0\r\n\r\nS", true),
        )
    };
    tokio::time::timeout(Duration::from_secs(120), all).await.expect("all of them are closed");
    server.get("/v2/").await.expect(200);
}

#[tokio::test]
async fn http_1_and_http_2_are_offered_and_http_2_can_be_disabled() {
    for (disabled, expected) in [(false, &b"h2"[..]), (true, b"http/1.1")] {
        let server = TestServer::with(|config| config.http.server.http2.disabled = disabled).await;
        let client = tls_client(&ca_of(&server), &[b"h2", b"http/1.1"]);
        let stream = client.connect(localhost(), connect(&server).await).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(expected));
        for client in [client_builder().build(), client_builder().http1_only().build()] {
            let request = client.unwrap().get(format!("{}/v2/", server.base));
            request.basic_auth(USER, Some(PASSWORD)).answer().await.expect(200);
        }
    }
}

#[tokio::test]
async fn session_is_resumed() {
    let server = TestServer::start().await;
    let client = tls_client(&ca_of(&server), &[b"http/1.1"]);
    let kind = async || {
        let mut stream = client.connect(localhost(), connect(&server).await).await.unwrap();
        // The ticket comes with the first response.
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        stream.get_ref().1.handshake_kind().unwrap()
    };
    assert_eq!(kind().await, HandshakeKind::Full);
    assert_eq!(kind().await, HandshakeKind::Resumed);
}

/// Clients of an earlier server have tickets with another cipher suite.
#[tokio::test]
async fn ticket_of_another_server_leads_to_a_full_handshake() {
    let server = TestServer::start().await;
    let ca = ca_of(&server);
    let certificates: Vec<_> = CertificateDer::pem_file_iter(ca.with_file_name("server.crt"))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(ca.with_file_name("server.key")).unwrap();
    let mut before = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    before.ticketer = Ticketer::new().unwrap();
    let before = TlsAcceptor::from(Arc::new(before));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::task::spawn(async move {
        let mut stream = before.accept(listener.accept().await.unwrap().0).await.unwrap();
        stream.write_all(b"bye").await.unwrap();
        let _ = stream.shutdown().await;
    });
    let client = tls_client(&ca, &[b"http/1.1"]);
    let stream = TcpStream::connect(addr).await.unwrap();
    let mut stream = client.connect(localhost(), stream).await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    let suite = stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, CipherSuite::TLS13_AES_256_GCM_SHA384);

    let stream = client.connect(localhost(), connect(&server).await).await.unwrap();
    assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
}

#[tokio::test]
async fn version_below_the_minimum_is_refused() {
    let old = || client_builder().tls_version_max(reqwest::tls::Version::TLS_1_2).build().unwrap();
    let server = TestServer::start().await;
    old().get(format!("{}/v2/", server.base)).answer().await.expect(401);
    let server = TestServer::with(|config| {
        if let TlsOptions::On { minimum, .. } = &mut config.http.server.tls {
            *minimum = TlsVersion::Tls13;
        }
    })
    .await;
    assert!(old().get(format!("{}/v2/", server.base)).send().await.is_err());
    server.get("/v2/").await.expect(200);
}

#[tokio::test]
async fn changed_certificate_is_put_in_force_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    authority::ensure(folder.path(), &authority::Hosts::default()).unwrap();
    let (certificate, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
    let server = TestServer::with(|config| {
        let (certificate, key) = (certificate.clone(), key.clone());
        config.http.server.tls = TlsOptions::with(CertificateSource::Files { certificate, key });
    })
    .await;
    let client = tls_client(&folder.path().join("ca.crt"), &[b"http/1.1"]);
    let served = async || {
        let stream = client.connect(localhost(), connect(&server).await).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let first = served().await;
    let hosts = authority::Hosts::default();
    let renew = || authority::renew(folder.path(), &hosts, 30, authority::Renew::Certificate);
    renew().unwrap();
    server.app().reload().await;
    let second = served().await;
    assert_ne!(first, second);

    fs::write(&key, "no key").unwrap();
    server.app().reload().await;
    assert_eq!(served().await, second);

    // And without SIGHUP.
    renew().unwrap();
    let noticed = async {
        while served().await == second {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), noticed).await.expect("it is noticed");
}

/// Every form in which tools write keys.
#[tokio::test]
async fn keys_of_every_pem_format_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |arguments: &str| {
        let mut command = std::process::Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(folder.path());
        command.output().is_ok_and(|output| output.status.success())
    };
    if !openssl("version") {
        assert!(std::env::var_os("CI").is_none(), "openssl is not installed");
        println!("skipped: PEM forms: openssl is not installed");
        return;
    }
    for (form, make) in [
        ("BEGIN RSA PRIVATE KEY", "genrsa -traditional -out key 2048"),
        ("BEGIN EC PRIVATE KEY", "ecparam -name prime256v1 -genkey -noout -out key"),
        ("BEGIN PRIVATE KEY", "genpkey -algorithm ed25519 -out key"),
    ] {
        assert!(openssl(make), "{make}");
        assert!(fs::read_to_string(folder.path().join("key")).unwrap().contains(form), "{form}");
        assert!(openssl("req -x509 -key key -out crt -subj /CN=localhost -days 2"), "{form}");
        let server = TestServer::with(|config| {
            config.http.server.tls = TlsOptions::with(CertificateSource::Files {
                certificate: folder.path().join("crt"),
                key: folder.path().join("key"),
            });
        })
        .await;
        let client = reqwest::Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .no_proxy()
            .build()
            .unwrap();
        client.get(format!("{}/v2/", server.base)).answer().await.expect(401);
    }
}

#[tokio::test]
async fn requests_in_flight_are_finished_when_the_server_stops() {
    let server = TestServer::start().await;
    let bytes = vec![7; 3_000_000];
    let target = format!("/v2/a/blobs/uploads/?digest={}", digest(&bytes));
    let (first, rest) = (bytes[..1_000_000].to_vec(), bytes[1_000_000..].to_vec());
    let (started, has_started) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = tokio::sync::oneshot::channel::<()>();
    let pieces = futures_util::stream::once(async move {
        started.send(()).unwrap();
        Ok::<_, std::io::Error>(first)
    })
    .chain(futures_util::stream::once(async move {
        may_go_on.await.unwrap();
        Ok(rest)
    }));
    let body = reqwest::Body::wrap_stream(pieces);
    let upload = tokio::spawn(server.request("POST", &target).body(body).answer());
    has_started.await.unwrap();

    let addr = server.addr();
    let stopping = tokio::spawn(server.stop());
    // The listener is closed before anything else ends.
    let refused = async { while TcpStream::connect(addr).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), refused).await.expect("it stops to listen");
    go_on.send(()).unwrap();
    upload.await.unwrap().expect(201);
    let folder = stopping.await.unwrap();
    let hex = digest(&bytes).replace("sha256:", "");
    let data = format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    assert_eq!(fs::read(folder.path().join(data)).unwrap(), bytes);
}

#[tokio::test]
async fn silent_connection_has_tcp_keepalive() {
    let server = TestServer::start().await;
    let client = tls_client(&ca_of(&server), &[b"h2"]);
    let stream = client.connect(localhost(), connect(&server).await).await.unwrap();
    let from = stream.get_ref().0.local_addr().unwrap().port();
    let ends = [format!("0100007F:{:04X}", port(&server)), format!("0100007F:{from:04X}")];
    // The kind of the socket's timer: 1 waits for an acknowledgement, 2 is keepalive.
    let timer = || {
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
        let socket = sockets.lines().find(|line| line.contains(&ends.join(" "))).unwrap();
        socket.split_whitespace().nth(5).unwrap()[..2].to_owned()
    };
    let kind = loop {
        match timer() {
            kind if kind == "01" => tokio::time::sleep(Duration::from_millis(10)).await,
            kind => break kind,
        }
    };
    assert_eq!(kind, "02");
}

#[tokio::test]
async fn plain_http_is_served_where_the_configuration_says_so() {
    let server = TestServer::with(|config| config.http.server.tls = TlsOptions::Off).await;
    let answer = server.post("/v2/a/blobs/uploads/").await.expect(202);
    assert!(answer.header("location").starts_with("http://localhost:"), "{answer:?}");
}
