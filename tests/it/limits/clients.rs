//! Which addresses may use the registry (`http.clients`): at accept, behind a proxy of HTTP, behind a proxy of
//! connections.

use portcullis::{app::Change, config::Config, http::Source, oci::ErrorCode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::support::{
    Answered as _, TestServer,
    raw::{self, GUARD},
    server::trusting_this_machine,
};

fn sources(list: &[&str]) -> Vec<Source> {
    list.iter().map(|text| Source::try_from((*text).to_owned()).unwrap()).collect()
}

/// A server whose clients are these, by forwarding headers of proxies on this machine.
async fn server(allow: &[&str], deny: &[&str]) -> TestServer {
    let (allow, deny) = (sources(allow), sources(deny));
    TestServer::with(|config| {
        config.http.api.clients.allow = allow;
        config.http.api.clients.deny = deny;
    })
    .await
}

async fn connect_from(server: &TestServer, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(server.addr()).await.unwrap()
}

/// Whether the server closes a connection before the client sends something.
async fn is_closed(mut stream: TcpStream) -> bool {
    let read = tokio::time::timeout(GUARD, stream.read(&mut [0])).await;
    matches!(read.unwrap(), Ok(0) | Err(_))
}

/// The status of a request with the right password, on a connection that begins with these bytes; `None` where
/// the server closes it.
async fn status(server: &TestServer, mut stream: TcpStream, begin: &[u8]) -> Option<u16> {
    stream.write_all(begin).await.unwrap();
    let stream = raw::secured(stream, &server.authority(), &[]).await;
    let user = raw::authorization();
    let request = format!(
        "GET /v2/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: {user}\r\n\r\n"
    );
    raw::status(&raw::exchange(stream, request.as_bytes()).await)
}

#[tokio::test]
async fn connection_of_a_denied_address_is_closed_at_accept() {
    let server = server(&[], &["127.0.0.2"]).await;
    assert!(is_closed(connect_from(&server, [127, 0, 0, 2]).await).await);
    let other = connect_from(&server, [127, 0, 0, 3]).await;
    assert_eq!(status(&server, other, b"").await, Some(200));
    assert_eq!(server.app().connections().accepted, 1, "the denied one has taken no place");
}

#[tokio::test]
async fn client_behind_a_proxy_is_refused_by_its_own_address() {
    let server = server(&[], &["192.0.2.0/24", "2001:db8::/32"]).await;
    let ask = |path: &'static str, from: &'static str| {
        server.request("GET", path).header("x-forwarded-for", from).answer()
    };
    // Whatever it asks for: with the right password, of an open route, of a path that is not there.
    for path in ["/v2/", "/", "/v1/_ping", "/auth/token", "/v2/a/b/c", "/nothing"] {
        for from in ["192.0.2.7", "2001:db8::7"] {
            let answer = ask(path, from).await.expect_error(403, ErrorCode::Denied);
            let error = json!({
                "code": "DENIED", "message": "this address may not use the registry",
            });
            assert_eq!(answer.json(), json!({ "errors": [error] }), "{path}");
            assert!(answer.headers.get("www-authenticate").is_none());
        }
    }
    ask("/v2/", "198.51.100.7").await.expect(200);
    // Without a header the client is the proxy.
    server.get("/v2/").await.expect(200);
}

#[tokio::test]
async fn address_that_is_not_allowed_is_refused() {
    let server = server(&["192.0.2.0/24", "127.0.0.3"], &["192.0.2.66"]).await;
    for (from, expected) in [("192.0.2.7", 200), ("192.0.2.66", 403), ("198.51.100.7", 403)] {
        let request = server.request("GET", "/v2/").header("x-forwarded-for", from);
        request.answer().await.expect(expected);
    }
    for (from, expected) in [(3, 200), (4, 403)] {
        let stream = connect_from(&server, [127, 0, 0, from]).await;
        assert_eq!(status(&server, stream, b"").await, Some(expected), "127.0.0.{from}");
    }
}

#[tokio::test]
async fn client_that_a_proxy_header_names_is_closed_behind_the_header() {
    let server = TestServer::with(|config| {
        config.http.server.proxyprotocol = trusting_this_machine();
        config.http.api.trustedproxies.clear();
        // The proxy has one of the addresses: its header tells whom the connection is for.
        config.http.api.clients.deny = sources(&["192.0.2.0/24", "127.0.0.2"]);
    })
    .await;
    let header = |client: &str| format!("PROXY TCP4 {client} 10.0.0.1 40000 443\r\n");
    let mut denied = connect_from(&server, [127, 0, 0, 2]).await;
    denied.write_all(header("192.0.2.7").as_bytes()).await.unwrap();
    assert!(is_closed(denied).await);
    let stream = connect_from(&server, [127, 0, 0, 2]).await;
    assert_eq!(status(&server, stream, header("198.51.100.7").as_bytes()).await, Some(200));
    // A proxy that speaks for itself is the client.
    let mut own = connect_from(&server, [127, 0, 0, 2]).await;
    own.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
    assert!(is_closed(own).await);
}

#[tokio::test]
async fn changed_addresses_are_in_force_after_a_reload() {
    let server = server(&[], &[]).await;
    let mut config: Config = server.config().clone();
    let ask = async || {
        let stream = connect_from(&server, [127, 0, 0, 2]).await;
        status(&server, stream, b"").await
    };
    assert_eq!(ask().await, Some(200));
    config.http.api.clients.allow = sources(&["127.0.0.3"]);
    let reloaded = server.app().apply(&config).await;
    assert_eq!(reloaded.change("http.clients.allow[0]"), Change::Applied);
    assert_eq!(ask().await, Some(403));
    config.http.api.clients.deny = sources(&["127.0.0.2"]);
    server.app().apply(&config).await;
    assert!(is_closed(connect_from(&server, [127, 0, 0, 2]).await).await);
    config.http.api.clients = portcullis::http::ClientsOptions::default();
    server.app().apply(&config).await;
    assert_eq!(ask().await, Some(200));
}
