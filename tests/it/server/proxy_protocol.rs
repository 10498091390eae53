//! The PROXY protocol (`http.proxyprotocol`): the client that a proxy of TCP connections names.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use portcullis::{
    config::Config,
    server::{Net, TlsOptions},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream, UnixStream},
};

use crate::support::{TestServer, process, raw, server::USER};

/// The wrong passwords of one user from one address after which no further one is checked.
const LIMIT: usize = 10;

/// A server to which this machine's addresses and Unix sockets send headers. No forwarding header counts.
fn announced(config: &mut Config) {
    config.http.server.proxyprotocol = crate::support::server::trusting_this_machine();
    config.http.api.trustedproxies.clear();
}

fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 10.0.0.1 40000 443\r\n").into_bytes()
}

fn v2(client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[10, 0, 0, 1, 0x9c, 0x40, 1, 0xbb]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &addresses[..]].concat()
}

/// The status of a request with this password, on a connection that begins with these bytes.
async fn status(server: &TestServer, mut stream: TcpStream, begin: &[u8], password: &str) -> u16 {
    stream.write_all(begin).await.unwrap();
    let stream = raw::secured(stream, &server.authority(), &[]).await;
    let user = raw::basic(USER, password);
    let request = format!(
        "GET /v2/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: {user}\r\n\r\n"
    );
    raw::status(&raw::exchange(stream, request.as_bytes()).await).unwrap()
}

async fn connect(addr: SocketAddr) -> TcpStream {
    TcpStream::connect(addr).await.unwrap()
}

/// Sends wrong passwords until none is checked any more.
async fn exhaust(server: &TestServer, connect: impl AsyncFn() -> TcpStream, begin: &[u8]) {
    for number in 0..LIMIT {
        let password = format!("wrong {number}");
        assert_eq!(status(server, connect().await, begin, &password).await, 401);
    }
    assert_eq!(status(server, connect().await, begin, "wrong").await, 429);
}

#[tokio::test]
async fn wrong_passwords_count_for_the_client_that_the_header_names() {
    let server = TestServer::with(announced).await;
    let to_server = || connect(server.addr());
    exhaust(&server, to_server, &v1("192.0.2.7")).await;
    assert_eq!(status(&server, to_server().await, &v2([192, 0, 2, 7]), "wrong").await, 429);
    assert_eq!(status(&server, to_server().await, &v2([192, 0, 2, 8]), "wrong").await, 401);
    // The proxy itself, as in its health checks.
    for begin in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        assert_eq!(
            status(&server, to_server().await, begin, crate::support::server::PASSWORD).await,
            200
        );
    }
}

#[tokio::test]
async fn listed_peer_without_a_header_is_closed() {
    let server = TestServer::with(announced).await;
    for bytes in
        [&b"GET /v2/ HTTP/1.1\r\nhost: a\r\n\r\n"[..], &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0, 0, 0]]
    {
        let mut stream = connect(server.addr()).await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A reset, where the server has not read everything.
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, b"");
    }
    assert_eq!(status(&server, connect(server.addr()).await, &v1("192.0.2.7"), "wrong").await, 401);
}

#[tokio::test]
async fn header_of_an_unlisted_peer_is_not_read() {
    let server = TestServer::with(|config| {
        announced(config);
        config.http.server.proxyprotocol = vec!["192.0.2.0/24".parse().unwrap()];
    })
    .await;
    let mut stream = connect(server.addr()).await;
    stream.write_all(&v1("192.0.2.7")).await.unwrap();
    let answer = raw::exchange(stream, b"\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
    assert_eq!(status(&server, connect(server.addr()).await, b"", "wrong").await, 401);
}

#[tokio::test]
async fn header_may_precede_plain_http_on_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let server = TestServer::with(|config| {
        announced(config);
        config.http.server.net = Net::Unix;
        config.http.server.addr = socket.to_str().unwrap().to_owned();
        config.http.server.tls = TlsOptions::Off;
    })
    .await;
    let ask = async |begin: &[u8], password: &str| {
        let stream = UnixStream::connect(&socket).await.unwrap();
        let user = raw::basic(USER, password);
        let request = format!(
            "GET /v2/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: {user}\r\n\r\n"
        );
        let bytes = [begin, request.as_bytes()].concat();
        raw::status(&raw::exchange(stream, &bytes).await)
    };
    for number in 0..LIMIT {
        assert_eq!(ask(&v1("192.0.2.7"), &format!("wrong {number}")).await, Some(401));
    }
    assert_eq!(ask(&v1("192.0.2.7"), "wrong").await, Some(429));
    assert_eq!(ask(&v1("192.0.2.8"), "wrong").await, Some(401));
    assert_eq!(ask(b"", "wrong").await, None);
    drop(server);
}

/// A connection counts for its client: one client behind the proxy does not take the connections of others.
#[tokio::test]
async fn limit_of_one_address_is_that_of_the_client_in_the_header() {
    let server = TestServer::with(|config| {
        announced(config);
        config.http.server.maxconnectionsperaddress = std::num::NonZeroU32::new(4);
    })
    .await;
    let open = async |client: &str| {
        let mut stream = connect(server.addr()).await;
        stream.write_all(&v1(client)).await.unwrap();
        raw::secured(stream, &server.authority(), &[]).await
    };
    let mut other = open("192.0.2.8").await;
    let mut first = open("192.0.2.7").await;
    let mut more = Vec::new();
    for _ in 0..4 {
        more.push(open("192.0.2.7").await);
    }
    assert_eq!(raw::rest(&mut first).await, "", "the longest idle one made room");
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    other.write_all(request).await.unwrap();
    assert!(raw::rest(&mut other).await.starts_with("HTTP/1.1 200"));
}

struct HaProxy(Child);

impl HaProxy {
    /// `HAProxy` in TCP mode before this address, with health checks.
    fn start(folder: &Path, port: u16, server: SocketAddr) -> Self {
        let file = folder.join("haproxy.cfg");
        let configuration = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             listen registry\n bind 127.0.0.1:{port}\n \
             server one {server} send-proxy-v2 check check-send-proxy inter 200\n"
        );
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-f").arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn clients_behind_haproxy_are_told_apart() {
    if !process::is_there("haproxy", "haproxy") {
        return;
    }
    let server = TestServer::with(announced).await;
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let before = free.local_addr().unwrap();
    drop(free);
    let _haproxy = HaProxy::start(folder.path(), before.port(), server.addr());
    let from = async |client: &str| {
        let client: SocketAddr = client.parse().unwrap();
        let connecting = async {
            loop {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(client).unwrap();
                match socket.connect(before).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(raw::GUARD, connecting).await.expect("HAProxy listens")
    };
    exhaust(&server, || from("127.0.0.7:0"), b"").await;
    assert_eq!(status(&server, from("127.0.0.8:0").await, b"", "wrong").await, 401);
}
