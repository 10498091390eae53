//! Authentication, and its cost.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

use axum::{body::Body, http::Request};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use hyper::service::Service as _;
use portcullis::{
    gate::{
        self, Access, Gate, Policy,
        access::{Groups, Rule},
    },
    http::{Api, ApiParts, Connection, Limits, Options, Peer},
    oci::ErrorCode,
    registry::{self, Registry, SystemClock},
    storage::memory::Memory,
};

use crate::support::{
    TestServer,
    raw::basic,
    server::{self, Answered as _, PASSWORD, USER, write_user},
};

const CHALLENGE: &str = "Basic realm=\"Portcullis\", charset=\"UTF-8\"";

#[tokio::test]
async fn requests_below_v2_are_authenticated_before_they_are_parsed() {
    let server = TestServer::start().await;
    for (method, path) in [
        ("GET", "/v2/"),
        ("HEAD", "/v2/"),
        ("POST", "/v2/"),
        ("GET", "/v2/_catalog"),
        ("GET", "/v2/_catalog?n=nonsense"),
        ("GET", "/v2/a/tags/list"),
        ("GET", "/v2/NOT/A/NAME/tags/list"),
        ("GET", "/v2/a/manifests/latest"),
        ("PUT", "/v2/a/manifests/latest"),
        ("GET", "/v2/a/blobs/not-a-digest"),
        ("POST", "/v2/a/blobs/uploads/"),
        ("PATCH", "/v2/a/blobs/uploads/nothing"),
        ("DELETE", "/v2/a/manifests/latest"),
        ("GET", "/v2/no/such/endpoint"),
        ("GET", "/v2/a%2f%2e%2e/%00"),
        ("OPTIONS", "/v2/a/manifests/latest"),
        ("BREW", "/v2/"),
        ("GET", "/v1/search?q=a"),
        ("GET", "/v1/search/?q=a"),
    ] {
        let answer = server.anonymous(method, path).answer().await.expect(401);
        assert_eq!(answer.header("www-authenticate"), CHALLENGE, "{method} {path}");
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
        if method != "HEAD" {
            answer.expect_error(401, ErrorCode::Unauthorized);
        }
    }
}

#[tokio::test]
async fn body_without_credentials_is_not_read() {
    let server = TestServer::start().await;
    // A body that never ends: a response arrives only if the server does not read it.
    let endless = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    server
        .anonymous("PUT", "/v2/a/manifests/latest")
        .body(reqwest::Body::wrap_stream(endless))
        .answer()
        .await
        .expect_error(401, ErrorCode::Unauthorized);
}

#[tokio::test]
async fn credentials_that_cannot_be_read_are_no_credentials() {
    let server = TestServer::start().await;
    let encoded = |bytes: &[u8]| format!("Basic {}", STANDARD.encode(bytes));
    for value in [
        String::new(),
        "Basic".to_owned(),
        "Basic ".to_owned(),
        "Basic !!!".to_owned(),
        "Bearer abc".to_owned(),
        "Digest username=\"a\"".to_owned(),
        encoded(b"no colon"),
        encoded(b":"),
        encoded(b"\xff\xfe:x"),
        encoded(b"alice:correct\0horse"),
        encoded(b"alice:correct horse\n"),
        encoded(&[b'a'; 8000]),
    ] {
        let request = server.anonymous("GET", "/v2/").header("authorization", &value);
        request.answer().await.expect_error(401, ErrorCode::Unauthorized);
    }
    let raw = reqwest::header::HeaderValue::from_bytes(b"Basic \xff").unwrap();
    server.anonymous("GET", "/v2/").header("authorization", raw).answer().await.expect(401);
}

/// Latin-1, which some clients and some files use; and a tab, which registry:2 accepts.
#[tokio::test]
async fn password_that_is_not_utf_8_or_has_a_tab_is_compared_as_bytes() {
    let server = TestServer::start().await;
    for password in [&b"gr\xfc\xdfe"[..], b"a\tb"] {
        let hash = gate::htpasswd::BcryptHash::new(password, 4).unwrap();
        fs::write(server.folder().join("htpasswd"), format!("{USER}:{}\n", hash.as_str())).unwrap();
        server.app().reload().await;
        let ask = async |password: &[u8]| {
            let pair = [USER.as_bytes(), b":", password].concat();
            let value = format!("Basic {}", STANDARD.encode(pair));
            server.anonymous("GET", "/v2/").header("authorization", value).answer().await
        };
        ask(password).await.expect(200);
        ask("grüße".as_bytes()).await.expect_error(401, ErrorCode::Unauthorized);
        ask(b"a b").await.expect_error(401, ErrorCode::Unauthorized);
    }
}

/// RFC 9110 §11.6.2 and §5.3: only one is allowed. A proxy in front may have used another one.
#[tokio::test]
async fn several_authorization_headers_are_refused() {
    let server = TestServer::start().await;
    let (right, wrong) = (basic(USER, PASSWORD), basic(USER, "wrong"));
    for pair in [[&right, &right], [&right, &wrong], [&wrong, &right]] {
        let request = server.anonymous("GET", "/v2/");
        let request = request.header("authorization", pair[0]).header("authorization", pair[1]);
        let answer = request.answer().await.expect_error(401, ErrorCode::Unauthorized);
        assert_eq!(answer.header("www-authenticate"), CHALLENGE);
    }
    assert_eq!(server.app().gate().verifications(), 0);
}

#[tokio::test]
async fn ping_and_the_root_are_open_and_nothing_else_is() {
    let server = TestServer::start().await;
    let ping = server.anonymous("GET", "/v1/_ping").answer().await.expect(200);
    assert_eq!(ping.header("x-docker-registry-standalone"), "true");
    let root = server.anonymous("GET", "/").answer().await.expect(200);
    assert_eq!(root.header("content-type"), "text/plain; charset=utf-8");
    let text = root.text();
    assert!(text.contains("container registry") && text.contains("docker login"), "{text}");
    assert_eq!(text.lines().count(), 1);
    let head = server.anonymous("HEAD", "/").answer().await.expect(200);
    assert_eq!(head.header("content-length"), text.len().to_string());
    server.anonymous("GET", "/v1/repositories/a/images").answer().await.expect(404);
    server.anonymous("GET", "/metrics").answer().await.expect(404);
}

#[tokio::test]
async fn password_costs_one_bcrypt_and_not_one_per_request() {
    let server = TestServer::start().await;
    for _ in 0..50 {
        server.get("/v2/").await.expect(200);
    }
    assert_eq!(server.app().gate().verifications(), 1);
}

#[tokio::test]
async fn same_new_credentials_at_once_are_checked_once() {
    let server = TestServer::start().await;
    // A cost at which the first check still runs when the last request arrives.
    let hash = gate::htpasswd::BcryptHash::new(PASSWORD, 10).unwrap();
    fs::write(server.folder().join("htpasswd"), format!("{USER}:{}\n", hash.as_str())).unwrap();
    server.app().reload().await;
    // Connections of their own: on an unauthenticated one only few requests may wait.
    let each = (0..40).map(|_| async {
        let request = server::client().get(format!("{}/v2/", server.base));
        request.basic_auth(USER, Some(PASSWORD)).answer().await
    });
    let answers = join_all(each).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(server.app().gate().verifications(), 1);
}

#[tokio::test]
async fn unknown_user_costs_as_much_as_a_known_one() {
    let server = TestServer::start().await;
    for user in [USER, "nobody"] {
        let before = server.app().gate().verifications();
        let request = server.anonymous("GET", "/v2/").basic_auth(user, Some("wrong"));
        request.answer().await.expect_error(401, ErrorCode::Unauthorized);
        assert_eq!(server.app().gate().verifications(), before + 1, "{user}");
    }
}

/// Otherwise working users would wait, every few minutes, behind clients that guess passwords.
#[tokio::test]
async fn cached_password_is_kept_while_it_is_used_and_then_expires() {
    let server = 'steady: loop {
        let server = TestServer::with(|config| {
            if let gate::Options::Htpasswd(options) = &mut config.auth {
                options.cachettl = Duration::from_secs(2);
            }
        })
        .await;
        server.get("/v2/").await.expect(200);
        for _ in 0..12 {
            let last = Instant::now();
            tokio::time::sleep(Duration::from_millis(250)).await;
            server.get("/v2/").await.expect(200);
            // A machine that hung for that long proves nothing.
            if last.elapsed() > Duration::from_secs(1) {
                continue 'steady;
            }
        }
        break server;
    };
    assert_eq!(server.app().gate().verifications(), 1);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    server.get("/v2/").await.expect(200);
    assert_eq!(server.app().gate().verifications(), 2);
}

#[tokio::test]
async fn password_cache_off_checks_each_request() {
    let server = TestServer::with(|config| {
        if let gate::Options::Htpasswd(options) = &mut config.auth {
            options.cachettl = Duration::ZERO;
        }
    })
    .await;
    for _ in 0..3 {
        server.get("/v2/").await.expect(200);
    }
    assert_eq!(server.app().gate().verifications(), 3);
}

#[tokio::test]
async fn new_password_replaces_the_old_one_at_once() {
    let server = TestServer::start().await;
    let path = server.folder().join("htpasswd");
    let status = async |user: &str, password: &str| {
        let request = server.anonymous("GET", "/v2/").basic_auth(user, Some(password));
        request.answer().await.status
    };
    assert_eq!(status(USER, PASSWORD).await, 200);
    let other = gate::htpasswd::BcryptHash::new("other", 4).unwrap();
    let line = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{line}bob:{}\n", other.as_str())).unwrap();
    server.app().reload().await;
    assert_eq!(status("bob", "other").await, 200);
    let runs = server.app().gate().verifications();
    assert_eq!(status(USER, PASSWORD).await, 200);
    assert_eq!(server.app().gate().verifications(), runs, "alice's line did not change");

    write_user(&path, USER, "new");
    server.app().reload().await;
    assert_eq!(status(USER, PASSWORD).await, 401);
    assert_eq!(status(USER, "new").await, 200);
    assert_eq!(status("bob", "other").await, 401, "bob's line is gone");
}

#[tokio::test]
async fn changed_password_file_is_read_without_a_signal() {
    let server = TestServer::start().await;
    write_user(&server.folder().join("htpasswd"), USER, "new");
    let new = async || {
        let request = server.anonymous("GET", "/v2/").basic_auth(USER, Some("new"));
        request.answer().await.status == 200
    };
    let noticed = async {
        while !new().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), noticed).await.expect("it is noticed");
    server.get("/v2/").await.expect(401);
}

#[tokio::test]
async fn unreadable_password_file_leaves_the_old_users_in_force() {
    let server = TestServer::start().await;
    let path = server.folder().join("htpasswd");
    fs::remove_file(&path).unwrap();
    server.app().reload().await;
    server.get("/v2/").await.expect(200);
    fs::create_dir(&path).unwrap();
    server.app().reload().await;
    server.get("/v2/").await.expect(200);
}

#[tokio::test]
async fn unusable_line_locks_out_its_user_only() {
    let server = TestServer::start().await;
    let path = server.folder().join("htpasswd");
    let good = fs::read_to_string(&path).unwrap();
    let sha1 = "carol:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=";
    let dear = format!("dave:$2y$31${}", ".".repeat(53));
    fs::write(&path, format!("# users\r\n\r\n{sha1}\r\nno colon\r\n{dear}\r\n{good}")).unwrap();
    server.app().reload().await;
    server.get("/v2/").await.expect(200);
    for user in ["carol", "dave", "no colon"] {
        let request = server.anonymous("GET", "/v2/").basic_auth(user, Some("password"));
        request.answer().await.expect(401);
    }
}

#[tokio::test]
async fn hashes_of_all_three_names_are_accepted() {
    let server = TestServer::start().await;
    let path = server.folder().join("htpasswd");
    let line = fs::read_to_string(&path).unwrap();
    for name in ["$2a$", "$2b$", "$2y$"] {
        fs::write(&path, line.replace("$2y$", name)).unwrap();
        server.app().reload().await;
        server.get("/v2/").await.expect(200);
    }
}

#[tokio::test]
async fn too_many_waiting_passwords_get_429_with_retry_after() {
    let server = TestServer::start().await;
    let hash = gate::htpasswd::BcryptHash::new(PASSWORD, 10).unwrap();
    fs::write(server.folder().join("htpasswd"), format!("{USER}:{}\n", hash.as_str())).unwrap();
    server.app().reload().await;
    let attempts = (0..150).map(|n| {
        let request = server.anonymous("GET", "/v2/").basic_auth(USER, Some(format!("wrong {n}")));
        request.answer()
    });
    let answers = join_all(attempts).await;
    let (busy, wrong): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 429);
    assert!(!busy.is_empty(), "150 callers fit into a queue that is shorter");
    let numbers: HashMap<_, _> = server.app().gate().outcomes().collect();
    assert_eq!(numbers["busy"] + numbers["throttled"], busy.len() as u64);
    assert_eq!(numbers["refused"], wrong.len() as u64);
    for answer in busy {
        assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
        answer.expect_error(429, ErrorCode::TooManyRequests);
    }
    for answer in wrong {
        answer.expect_error(401, ErrorCode::Unauthorized);
    }
}

#[tokio::test]
async fn auth_none_accepts_every_request() {
    let server = TestServer::with(|config| config.auth = gate::Options::None).await;
    let answer = server.anonymous("GET", "/v2/").answer().await.expect(200);
    assert!(!answer.headers.contains_key("www-authenticate"));
}

/// Lets every caller read, and nothing else.
fn read_only() -> Policy {
    let rule = serde_json::json!({ "who": ["anyone"], "may": ["pull"] });
    let rule: Rule = serde_json::from_value(rule).unwrap();
    Policy::rules(Access::new([rule], Groups::default()))
}

#[tokio::test]
async fn policy_denies_what_it_does_not_allow() {
    let registry = Registry::new(
        std::sync::Arc::new(Memory::default()),
        std::sync::Arc::new(SystemClock),
        registry::Options::default(),
    );
    let gate = std::sync::Arc::new(Gate::open(read_only()));
    let parts = ApiParts { registry, gate, health: std::sync::Arc::default() };
    let api = Api::new(parts, &Options::default(), Limits::default(), true).unwrap();
    let peer = Peer::Tcp(([127, 0, 0, 1], 40_000).into());
    let service = api.service(Connection::new(peer, || {}));
    for (method, path, status) in [
        ("GET", "/v2/", 200),
        ("GET", "/v2/_catalog", 200),
        ("GET", "/v2/a/tags/list", 404),
        ("POST", "/v2/a/blobs/uploads/", 403),
        ("PUT", "/v2/a/manifests/latest", 403),
        ("DELETE", "/v2/a/manifests/latest", 403),
    ] {
        let request = Request::builder().method(method).uri(path).header("host", "a");
        let request = request.body(Body::empty()).unwrap();
        let response = service.call(request).await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        if status == 403 {
            let body = axum::body::to_bytes(Body::new(response.into_body()), 4096).await.unwrap();
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(json["errors"][0]["code"], ErrorCode::Denied.as_str());
        }
    }
}
