//! How many connections and uploads there may be, and what happens when descriptors run out.

use std::{fs, num::NonZeroU32, time::Duration};

use portcullis::{http, oci::ErrorCode};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::net::TcpStream;

use crate::support::{
    Answered as _, TestServer, content::closing, process::Process, raw::GUARD, server::PASSWORD,
};

/// Waits for something that must happen.
async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let waiting = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(GUARD, waiting).await.is_ok(), "{what}");
}

#[tokio::test]
async fn a_client_waits_until_there_is_room_for_its_connection() {
    let server = TestServer::with(|config| {
        config.http.server.maxconnections = NonZeroU32::new(2);
    })
    .await;
    let connections = || server.app().connections();
    let first = server.connect(&[]).await;
    let second = server.connect(&[]).await;
    until("the limit is reached", || connections().full == 1).await;
    let mut third = std::pin::pin!(server.connect(&[]));
    assert!(futures_util::poll!(third.as_mut()).is_pending());
    let now = connections();
    assert_eq!((now.open, now.limit, now.accepted), (2, 2, 2));
    drop(first);
    let third = third.await;
    until("it was counted", || connections().accepted == 3).await;
    drop((second, third));
    server.get("/v2/").await.expect(200);
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
async fn without_a_limit_in_words_there_is_one_that_descriptors_allow() {
    let server = TestServer::start().await;
    let limit = server.app().connections().limit;
    assert!((1..=10_000).contains(&limit), "{limit}");
}

/// How long a process has computed, in hundredths of a second.
fn computed(process: &Process) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    // Behind the name of the program; user and system time are fields 14 and 15 (proc(5)).
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn a_server_without_descriptors_rests_says_so_once_and_goes_on_when_there_are_some() {
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
    until("it has none left", || server.descriptors() >= limit).await;
    let before = computed(&server);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let busy = computed(&server) - before;
    // Trying again and again without a rest would take 200.
    assert!(busy < 60, "{busy} hundredths of a second in two seconds");
    drop(clients);
    server.request("GET", "/v2/").header("connection", "close").answer().await.expect(200);
    let log = server.end().await;
    assert_eq!(log.matches("cannot accept connections").count(), 1, "{log}");
    assert!(log.contains("ulimit -n"), "{log}");
}

#[tokio::test]
async fn a_user_has_so_many_uploads_open_and_no_more() {
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
    // A blob in one request is one more for as long as the request lasts.
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
    // One that ended in a wrong digest is over as well.
    server.put(&closing(&open[2], &digest), "other").await.expect(400);
    server.open_upload("a").await;
}

#[tokio::test]
async fn an_idle_time_of_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::support::server::config(folder.path());
    config.http.api.idletimeout = Duration::ZERO;
    let error = portcullis::app::App::start(&config).unwrap_err().to_string();
    assert!(error.contains("http.idletimeout"), "{error}");
}
