//! Limits of connections and uploads, and the exhaustion of descriptors.

use std::{fs, net::IpAddr, num::NonZeroU32, time::Duration};

use futures_util::future::join_all;
use portcullis::{config::Config, http, oci::ErrorCode};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, WriteHalf},
    net::{TcpSocket, TcpStream},
};

use crate::support::{
    Answered as _, TestServer,
    content::closing,
    h2,
    process::Process,
    raw::{self, GUARD, Stream, header},
    server::{PASSWORD, USER, client_builder},
};

/// Waits for an event that must happen.
async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let waiting = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(GUARD, waiting).await.is_ok(), "{what}");
}

/// Connects from an address of this machine, which has all of 127.0.0.0/8.
async fn connect_from(server: &TestServer, from: [u8; 4]) -> Stream {
    raw::secured(silent(server, from).await, &server.authority(), &[]).await
}

/// Sends a request and reads the response, whose status it gives; `None` without a response.
async fn ask(stream: &mut Stream, target: &str, headers: &str) -> Option<u16> {
    let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.ok()?);
    }
    let answer = String::from_utf8(answer).unwrap();
    let length = header(&answer, "content-length").unwrap().parse().unwrap();
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    raw::status(&answer)
}

/// The probe of a load balancer, which needs no password.
async fn probe(stream: &mut Stream) -> Option<u16> {
    ask(stream, "/", "").await
}

/// Logs in.
async fn log_in(stream: &mut Stream) -> Option<u16> {
    ask(stream, "/v2/", &format!("Authorization: {}\r\n", raw::authorization())).await
}

/// An authenticated connection.
async fn known(server: &TestServer, from: [u8; 4]) -> Stream {
    let mut stream = connect_from(server, from).await;
    assert_eq!(log_in(&mut stream).await, Some(200));
    stream
}

/// A limit of connections, and no trusted proxy on this machine.
fn limited(limit: u32) -> impl FnOnce(&mut Config) {
    move |config| {
        config.http.server.maxconnections = NonZeroU32::new(limit);
        config.http.api.trustedproxies = Vec::new();
    }
}

#[tokio::test]
async fn client_waits_while_users_have_all_connections() {
    let server = TestServer::with(limited(2)).await;
    let connections = || server.app().connections();
    let first = known(&server, [127, 0, 0, 2]).await;
    let mut second = known(&server, [127, 0, 0, 2]).await;
    assert_eq!((connections().unauthenticated, connections().full), (0, 0));
    let mut third = std::pin::pin!(known(&server, [127, 0, 0, 3]));
    let waiting = async {
        tokio::select! {
            _ = &mut third => panic!("there is no room for it"),
            () = until("the limit is reached", || connections().full == 1) => {}
        }
    };
    waiting.await;
    let now = connections();
    assert_eq!((now.open, now.limit, now.accepted, now.closed_for_room), (2, 2, 2, 0));
    assert_eq!(log_in(&mut second).await, Some(200), "those that there are go on");
    drop(first);
    let third = third.await;
    until("it was counted", || connections().accepted == 3).await;
    drop((second, third));
    server.get("/v2/").await.expect(200);
}

/// Connects from an address of this machine and sends nothing.
async fn silent(server: &TestServer, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(server.addr()).await.unwrap()
}

/// One address opens as many connections as it can, silent ones first, and then ones with a request
/// that needs no password.
#[tokio::test]
async fn unauthenticated_address_has_a_share_and_another_logs_in_and_pulls_at_once() {
    let server = TestServer::with(limited(60)).await;
    let digest = server.push_blob("app", "content").await;
    let connections = || server.app().connections();
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(silent(&server, [127, 0, 0, 2]).await);
    }
    let share = || (connections().unauthenticated, connections().closed_for_room) == (8, 92);
    until("the others were closed for them", share).await;
    assert_eq!(connections().full, 0);
    for closed in &mut held[..92] {
        let read = tokio::time::timeout(GUARD, closed.read(&mut [0])).await;
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
    }
    let mut held = Vec::new();
    for _ in 0..50 {
        let mut stream = connect_from(&server, [127, 0, 0, 2]).await;
        assert_eq!(probe(&mut stream).await, Some(200), "a new one is served");
        assert!(connections().unauthenticated <= 8, "{:?}", connections());
        held.push(stream);
    }
    let client = client_builder().local_address(IpAddr::from([127, 0, 0, 3])).build().unwrap();
    let pull = client.get(format!("{}/v2/app/blobs/{digest}", server.base));
    let pull = pull.basic_auth(USER, Some(PASSWORD)).answer();
    let pulled = tokio::time::timeout(GUARD, pull).await.expect("no client is in the way");
    assert_eq!(pulled.expect(200).text(), "content");
}

/// Many addresses use up their share; authenticated connections stay.
#[tokio::test]
async fn connections_of_users_are_never_closed_for_strangers() {
    let server = TestServer::with(limited(40)).await;
    let connections = || server.app().connections();
    let mut users = Vec::new();
    for _ in 0..10 {
        users.push(known(&server, [127, 0, 0, 2]).await);
    }
    let mut strangers = Vec::new();
    for nth in 0..100 {
        strangers.push(silent(&server, [127, 0, 1, nth % 20]).await);
    }
    let three_quarters = || (connections().unauthenticated, connections().closed_for_room);
    until("three quarters are theirs", || three_quarters() == (30, 70)).await;
    assert_eq!(connections().open, 40);
    // New users take the places of unauthenticated connections, even beyond the quarter.
    for _ in 0..5 {
        users.push(known(&server, [127, 0, 0, 3]).await);
    }
    for _ in 0..50 {
        strangers.push(silent(&server, [127, 0, 2, 1]).await);
    }
    until("all have come", || connections().accepted == 165).await;
    for stream in &mut users {
        assert_eq!(log_in(stream).await, Some(200), "it is the same connection");
    }
    assert!(connections().open <= 40, "{:?}", connections());
}

#[tokio::test]
async fn trusted_proxy_has_more_connections_than_an_address_and_at_most_all() {
    let server = TestServer::with(|config| {
        limited(60)(config);
        config.http.server.maxconnectionsperaddress = NonZeroU32::new(3);
        config.http.api.trustedproxies = vec!["127.0.0.5/32".parse().unwrap()];
    })
    .await;
    let connections = || server.app().connections();
    let mut held = Vec::new();
    for (from, expected) in [([127, 0, 0, 2], 3), ([127, 0, 0, 5], 33)] {
        for _ in 0..30 {
            held.push(silent(&server, from).await);
        }
        until("each has its own", || connections().unauthenticated == expected).await;
    }
    for _ in 0..30 {
        held.push(silent(&server, [127, 0, 0, 5]).await);
    }
    until("all have a limit", || connections().unauthenticated == 45).await;
}

/// Sends part of a request over HTTP/1.1, and the rest bit by bit, until the server closes.
async fn hold_http1(server: &TestServer, name: &str, said: &str, more: &[u8]) {
    let mut stream = server.connect(&[]).await;
    stream.write_all(said.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let (mut reader, writer) = tokio::io::split(stream);
    let mut answers = Vec::new();
    let closed = async {
        let _ = reader.read_to_end(&mut answers).await;
    };
    until_closed(name, closed, say_now_and_then(writer, more)).await;
}

/// As [`hold_http1`], over HTTP/2.
async fn hold_http2(server: &TestServer, name: &str, said: &[u8], more: &[u8]) {
    let (addr, ca) = (server.addr(), server.authority());
    let connection = h2::Connection::open(addr, &ca, said).await;
    let h2::Connection { mut reader, writer } = connection;
    let closed = async { while reader.next().await.is_some() {} };
    until_closed(name, closed, say_now_and_then(writer, more)).await;
}

async fn say_now_and_then(mut writer: WriteHalf<Stream>, more: &[u8]) {
    while writer.write_all(more).await.is_ok() && writer.flush().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    std::future::pending().await
}

async fn until_closed(name: &str, closed: impl Future<Output = ()>, saying: impl Future) {
    tokio::select! {
        closed = tokio::time::timeout(GUARD, closed) => {
            assert!(closed.is_ok(), "held by: {name}");
        }
        _ = saying => {}
    }
}

/// Ways to hold a connection without a password, all at once because each takes the idle timeout of
/// an unauthenticated connection; and a user and a load balancer's probe, whose connections stay.
#[tokio::test]
async fn unauthenticated_connections_are_closed_after_seconds_and_those_of_users_and_probes_are_not()
 {
    let server = TestServer::with(|config| {
        let patience = 10 * GUARD;
        (config.http.server.idletimeout, config.http.api.idletimeout) = (patience, patience);
        config.http.api.trustedproxies = Vec::new();
    })
    .await;
    let mut user = known(&server, [127, 0, 0, 1]).await;
    let server = &server;
    let get = "GET / HTTP/1.1\r\nHost: a\r\n";
    let post = "POST /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n";
    let over_http1 = [
        ("silence", String::new(), ""),
        ("half a head", get.to_owned(), ""),
        ("a head that never ends", format!("{get}X: "), "x"),
        ("nothing behind a request", format!("{get}\r\n"), ""),
        ("half a head behind a request", format!("{get}\r\nGET"), "x"),
        ("a body that is not wanted", post.to_owned(), "x"),
    ];
    // The path is unknown, so that no password is checked.
    let head = |method, flags| {
        let block = h2::block(method, "/nowhere", &[]);
        h2::frame(h2::HEADERS, h2::END_HEADERS | flags, 1, &block)
    };
    let get = head("GET", h2::END_STREAM);
    let settings = h2::frame(h2::SETTINGS, 0, 0, &[]);
    let ping = h2::frame(h2::PING, 0, 0, b"whatever");
    let data = h2::frame(h2::DATA, 0, 1, b"x");
    let untaken = [h2::setting(4, 0), get.clone()].concat();
    let over_http2 = [
        ("the preface alone", settings.clone(), Vec::new()),
        ("PING now and then", settings.clone(), ping.clone()),
        ("SETTINGS now and then", [settings.clone(), get].concat(), settings.clone()),
        ("data of a refused stream", [settings, head("POST", 0)].concat(), data),
        ("an answer that is not taken", untaken.clone(), Vec::new()),
        ("an answer that is not taken, and PING", untaken, ping),
    ];
    let over_http1 =
        over_http1.iter().map(|(name, said, more)| hold_http1(server, name, said, more.as_bytes()));
    let over_http2 =
        over_http2.iter().map(|(name, said, more)| hold_http2(server, name, said, more));
    let probing = async {
        let mut stream = server.connect(&[]).await;
        for _ in 0..5 {
            assert_eq!(probe(&mut stream).await, Some(200), "it is the same connection");
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
    };
    tokio::join!(join_all(over_http1), join_all(over_http2), probing);
    assert_eq!(log_in(&mut user).await, Some(200), "it is the same connection");
}

#[tokio::test]
async fn metrics_say_how_many_connections_there_are_and_how_many_passwords_were_refused() {
    let server = TestServer::with(|config| {
        config.http.server.maxconnections = NonZeroU32::new(7);
        config.http.api.debug = http::DebugOptions {
            addr: "127.0.0.1:0".to_owned(),
            prometheus: http::PrometheusOptions { enabled: true, path: "/numbers".to_owned() },
        };
    })
    .await;
    server.open_upload("a").await;
    for guess in 0..12 {
        let request = server.anonymous("GET", "/v2/").basic_auth("eve", Some(guess));
        request.header("x-forwarded-for", "192.0.2.1").answer().await;
    }
    let addr = server.app().debug_addr().unwrap();
    let get = async |path: &str| {
        let url = format!("http://{addr}{path}");
        server.client.get(url).send().await.unwrap()
    };
    let answer = get("/numbers").await;
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = answer.text().await.unwrap();
    for line in [
        "portcullis_connections 1",
        "portcullis_connections_unauthenticated 0",
        "portcullis_connections_closed_for_room_total 0",
        "portcullis_connections_limit 7",
        "portcullis_connections_accepted_total 1",
        "portcullis_connections_full_total 0",
        "portcullis_bcrypt_runs_total 11",
        "portcullis_auth_total{outcome=\"throttled\"} 2",
        "portcullis_uploads_open 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}: {text}");
    }
    for path in ["/", "/metrics", "/v2/", "/v2/_catalog"] {
        assert_eq!(get(path).await.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn default_connection_limit_follows_from_the_descriptor_limit() {
    let server = TestServer::start().await;
    let limit = server.app().connections().limit;
    assert!((1..=10_000).contains(&limit), "{limit}");
}

/// The processor time of a process, in hundredths of a second.
fn computed(process: &Process) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    // After the name of the program; user and system time are fields 14 and 15 (proc(5)).
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn server_without_descriptors_logs_it_once_and_accepts_again_later() {
    let server = Process::start(&[("REGISTRY_HTTP_MAXCONNECTIONS", "1000")]);
    server.request("GET", "/v2/").answer().await.expect(200);
    let pid = Pid::from_raw(server.id().try_into().unwrap());
    let limit = server.descriptors() + 4;
    let few = Some(limit as u64);
    prlimit(pid, Resource::Nofile, Rlimit { current: few, maximum: few }).unwrap();
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(TcpStream::connect(server.addr).await.unwrap());
    }
    // The server closes a silent connection for each failed accept: it is without descriptors for
    // moments only, and the log keeps the first of them.
    let has_failed = || server.log_so_far().contains("cannot accept connections");
    until("an accept fails", has_failed).await;
    let before = computed(&server);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let busy = computed(&server) - before;
    // Retrying without a pause would take 200.
    assert!(busy < 60, "{busy} hundredths of a second in two seconds");
    drop(clients);
    server.request("GET", "/v2/").header("connection", "close").answer().await.expect(200);
    let log = server.end().await;
    assert_eq!(log.matches("cannot accept connections").count(), 1, "{log}");
    assert!(log.contains("ulimit -n"), "{log}");
}

#[tokio::test]
async fn open_uploads_of_a_user_are_limited() {
    let server = TestServer::with(|config| {
        config.uploads = http::UploadsOptions { maxopen: 3, ..http::UploadsOptions::default() };
        let portcullis::gate::Options::Htpasswd(options) = &config.auth else { unreachable!() };
        let mut users = fs::read_to_string(&options.path).unwrap();
        let bob = portcullis::gate::htpasswd::BcryptHash::new(PASSWORD, 4).unwrap();
        users.push_str(&format!("bob:{}\n", bob.as_str()));
        fs::write(&options.path, users).unwrap();
    })
    .await;
    let digest = server.push_blob("a", "whole").await;
    let mut open = Vec::new();
    for name in ["a", "b", "a"] {
        open.push(server.open_upload(name).await);
    }
    let too_many = async || {
        let answer = server.post("/v2/c/blobs/uploads/").await;
        let answer = answer.expect_error(429, ErrorCode::TooManyRequests);
        assert!(answer.text().contains("finish or cancel"), "{}", answer.text());
    };
    too_many().await;
    assert!(!server.tree().join("repositories/c").exists());
    // A blob in one request counts until the request ends.
    let whole = format!("/v2/c/blobs/uploads/?digest={digest}");
    let answer = server.request("POST", &whole).body("whole").answer().await;
    answer.expect_error(429, ErrorCode::TooManyRequests);
    assert!(!server.tree().join("repositories/c").exists());
    let bob = server.anonymous("POST", "/v2/c/blobs/uploads/").basic_auth("bob", Some(PASSWORD));
    bob.answer().await.expect(202);
    server.delete(&open[0]).await.expect(204);
    open[0] = server.open_upload("a").await;
    too_many().await;
    let closed = closing(&open[1], &digest);
    server.put(&closed, "whole").await.expect(201);
    open[1] = server.open_upload("a").await;
    too_many().await;
    // An upload that ended with a wrong digest is over as well.
    server.put(&closing(&open[2], &digest), "other").await.expect(400);
    server.open_upload("a").await;
}

#[tokio::test]
async fn idle_timeout_of_zero_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::support::server::config(folder.path());
    config.http.api.idletimeout = Duration::ZERO;
    let error = portcullis::app::App::start(&config).unwrap_err().to_string();
    assert!(error.contains("http.idletimeout"), "{error}");
}
