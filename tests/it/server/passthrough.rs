//! TLS passthrough (`http.tls.passthrough`): another site on the registry's port, served by nginx.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use portcullis::server::{Passthrough, TlsOptions};
use tokio::net::TcpStream;

use crate::support::{TestServer, content::noise, process, raw};

struct Nginx {
    child: Child,
    addr: SocketAddr,
    certificate: reqwest::Certificate,
}

impl Nginx {
    /// nginx with a certificate for `www.example` and `a.shop.example`, which says what it sees.
    async fn start(folder: &Path) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["www.example", "a.shop.example"].map(str::to_owned);
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        fs::write(folder.join("site.crt"), certificate.pem()).unwrap();
        fs::write(folder.join("site.key"), key.serialize_pem()).unwrap();
        fs::write(folder.join("large"), noise(7, 3_000_000)).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let at = folder.display();
        let configuration = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\n\
             events {{}}\n\
             http {{\n\
             access_log off;\n\
             client_body_temp_path {at}/1; proxy_temp_path {at}/2; fastcgi_temp_path {at}/3;\n\
             uwsgi_temp_path {at}/4; scgi_temp_path {at}/5;\n\
             server {{\n\
             listen {addr} ssl http2 proxy_protocol;\n\
             ssl_certificate {at}/site.crt; ssl_certificate_key {at}/site.key;\n\
             location / {{ return 200 \"$proxy_protocol_addr $server_protocol $ssl_server_name\"; }}\n\
             location /large {{ root {at}; }}\n\
             }} }}\n"
        );
        fs::write(folder.join("nginx.conf"), configuration).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let listens = async {
            while TcpStream::connect(addr).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(raw::GUARD, listens).await.unwrap();
        let certificate = reqwest::Certificate::from_der(certificate.der()).unwrap();
        Self { child, addr, certificate }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn before(sites: Vec<Passthrough>) -> TestServer {
    TestServer::with(|config| {
        if let TlsOptions::On { passthrough, .. } = &mut config.http.server.tls {
            *passthrough = sites;
        }
    })
    .await
}

#[tokio::test]
async fn other_site_keeps_its_certificate_and_its_http_on_the_registrys_port() {
    if !process::is_there("nginx", "nginx") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let nginx = Nginx::start(folder.path()).await;
    let site = Passthrough {
        names: vec!["www.example".to_owned(), "*.shop.example".to_owned()],
        addr: nginx.addr.to_string(),
        proxyprotocol: true,
    };
    let server = before(vec![site]).await;
    let client = reqwest::Client::builder()
        .tls_certs_only([nginx.certificate.clone()])
        .resolve("www.example", server.addr())
        .resolve("a.shop.example", server.addr())
        .no_proxy()
        .build()
        .unwrap();
    let port = server.addr().port();
    for name in ["www.example", "a.shop.example"] {
        let answer = client.get(format!("https://{name}:{port}/")).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), format!("127.0.0.1 HTTP/2.0 {name}"));
    }
    let large = client.get(format!("https://www.example:{port}/large")).send().await.unwrap();
    assert!(large.bytes().await.unwrap() == noise(7, 3_000_000), "the file arrives whole");
    // The registry beside it, over the same port.
    server.get("/v2/").await.expect(200);
    let connections = server.app().connections();
    assert!(connections.unauthenticated >= 2, "{connections:?}");
    drop(client);
    let closed = async {
        while server.app().connections().unauthenticated > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(raw::GUARD, closed).await.expect("the connections are given back");
}

#[tokio::test]
async fn site_whose_server_is_down_is_disconnected_and_the_registry_goes_on() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap().to_string();
    drop(free);
    let names = vec!["www.example".to_owned()];
    let server = before(vec![Passthrough { names, addr, proxyprotocol: false }]).await;
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .resolve("www.example", server.addr())
        .no_proxy()
        .build()
        .unwrap();
    let url = format!("https://www.example:{}/", server.addr().port());
    assert!(client.get(url).send().await.unwrap_err().is_connect());
    server.get("/v2/").await.expect(200);
}

/// A connection that is passed through does not keep the server from stopping.
#[tokio::test]
async fn idle_connection_of_another_site_ends_when_the_server_stops() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let names = vec!["localhost".to_owned()];
    let server = before(vec![Passthrough { names, addr, proxyprotocol: false }]).await;
    let ca = server.authority();
    let client = tokio::spawn({
        let addr = server.addr();
        async move { raw::connect(addr, &ca, &[]).await }
    });
    let (mut site, _) = listener.accept().await.unwrap();
    let mut first = [0];
    tokio::io::AsyncReadExt::read_exact(&mut site, &mut first).await.unwrap();
    assert_eq!(first, [22], "a TLS record");
    server.stop().await;
    // The client has never got a handshake.
    assert!(client.await.is_err());
}
