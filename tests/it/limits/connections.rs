//! The connections of one address (`http.limits.connections`), with and without a login.

use std::num::NonZeroU32;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
};

use crate::support::{
    TestServer,
    raw::{self, GUARD, Stream},
};

async fn connect_from(server: &TestServer, from: [u8; 4]) -> Stream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let stream = socket.connect(server.addr()).await.unwrap();
    raw::secured(stream, &server.authority(), &[]).await
}

/// Logs in, and reads the response, which has a body of two bytes.
async fn log_in(stream: &mut Stream) {
    let user = raw::authorization();
    let request = format!("GET /v2/ HTTP/1.1\r\nhost: localhost\r\nauthorization: {user}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n{}") {
        let byte = tokio::time::timeout(GUARD, stream.read_u8()).await.unwrap();
        answer.push(byte.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn address_with_all_its_connections_logged_in_gets_no_more_and_others_do() {
    let server = TestServer::with(|config| {
        config.http.api.trustedproxies.clear();
        config.http.api.limits.connections = NonZeroU32::new(3);
    })
    .await;
    let here = [127, 0, 0, 2];
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = connect_from(&server, here).await;
        log_in(&mut stream).await;
        held.push(stream);
    }
    // The longest idle one that has not logged in makes room.
    let mut idle = connect_from(&server, here).await;
    let mut third = connect_from(&server, here).await;
    assert_eq!(raw::rest(&mut idle).await, "");
    log_in(&mut third).await;

    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((here, 0).into()).unwrap();
    let mut refused = socket.connect(server.addr()).await.unwrap();
    let read = tokio::time::timeout(GUARD, refused.read(&mut [0])).await;
    assert!(matches!(read.expect("it is closed"), Ok(0) | Err(_)));
    assert_eq!(server.app().connections().refused, 1);

    let mut other = connect_from(&server, [127, 0, 0, 3]).await;
    log_in(&mut other).await;
    for stream in held.iter_mut().chain([&mut third]) {
        log_in(stream).await;
    }
    // A connection that ends leaves its place.
    drop(held.pop());
    let open = || server.app().connections().open;
    let leaving = async {
        while open() > 3 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(GUARD, leaving).await.unwrap();
    log_in(&mut connect_from(&server, here).await).await;
}
