//! What pebble lacks: suggestions for renewals, and refusals of a whole request. The authority is a stub of a
//! few resources; the tests of the clients drive a real one.

use std::{
    fs,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A response: status line, headers, body.
#[derive(Clone)]
struct Answer {
    status: &'static str,
    headers: &'static str,
    body: &'static str,
}

/// An authority on loopback, of which tests set what `/order` and `/renewal/…` answer.
struct Stub {
    dir: TempDir,
    addr: SocketAddr,
    /// The targets of the requests so far.
    seen: Arc<Mutex<Vec<String>>>,
    /// The task that serves; it ends when this is dropped.
    tasks: JoinSet<()>,
}

impl Stub {
    async fn answering(answer: Answer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let own = params.self_signed(&key).unwrap();
        fs::write(dir.path().join("ca.pem"), own.pem()).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&seen);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(socket).await else { continue };
                let mut request = Vec::new();
                while !is_whole(&request) {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                let head = String::from_utf8_lossy(&request).into_owned();
                let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(target.clone());
                let response = respond(&target, addr, &answer);
                // The test does not look at a client that has gone.
                let _ = stream.write_all(response.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { dir, addr, seen, tasks }
    }

    fn authority(&self) -> AcmeAuthority {
        let options = Options {
            directoryurl: format!("https://{}/dir", self.addr),
            caroot: Some(self.dir.path().join("ca.pem")),
            ..Options::default()
        };
        let folder = Folder::open(&self.dir.path().join("acme")).unwrap();
        AcmeAuthority::new(Arc::new(options), folder, Challenges::default()).unwrap()
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether the head has come, and the body that it announces.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("content-length: ")?.trim().parse().ok()
    });
    body.len() >= length.unwrap_or(0)
}

fn respond(target: &str, addr: SocketAddr, answer: &Answer) -> String {
    let url = |path: &str| format!("https://{addr}/{path}");
    let json = "Content-Type: application/json\r\n";
    let (status, headers, body) = match target {
        "/dir" => {
            let body = serde_json::json!({
                "newNonce": url("nonce"),
                "newAccount": url("account"),
                "newOrder": url("order"),
                "renewalInfo": url("renewal"),
            });
            ("200 OK", json.to_owned(), body.to_string())
        }
        "/nonce" => ("200 OK", String::new(), String::new()),
        "/account" => {
            ("201 Created", format!("{json}Location: {}\r\n", url("account/1")), "{}".to_owned())
        }
        _ => (answer.status, answer.headers.to_owned(), answer.body.to_owned()),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}Replay-Nonce: bm9uY2U\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// A certificate with an authority key identifier, as ARI needs it.
fn certificate() -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
    // SEQUENCE of [0] with the identifier `k`.
    let identifier = vec![0x30, 0x03, 0x80, 0x01, b'k'];
    params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 35], identifier));
    params.self_signed(&key).unwrap().der().clone()
}

const ORDER: Order<'static> =
    Order { host: "a.example", challenge: Challenge::Http01, replaces: None };

#[tokio::test]
async fn window_of_a_renewal_is_the_authoritys() {
    let body =
        r#"{"suggestedWindow":{"start":"2026-01-02T04:00:00Z","end":"2026-01-03T04:00:00Z"}}"#;
    for (headers, seconds) in [("Retry-After: 3600\r\n", 3600), ("", 21_600)] {
        let stub = Stub::answering(Answer { status: "200 OK", headers, body }).await;
        let found = stub.authority().suggestion(&certificate()).await.unwrap().unwrap();
        assert_eq!(found.window.start, "2026-01-02T04:00:00Z".parse().unwrap());
        assert_eq!(found.window.end, "2026-01-03T04:00:00Z".parse().unwrap());
        // The protocol has a moment, of which some of a second has passed.
        let asked = found.ask_again.as_secs();
        assert!((seconds - 5..=seconds).contains(&asked), "{asked}");
        let target = stub.seen().pop().unwrap();
        assert!(target.starts_with("/renewal/aw."), "{target}");
    }
}

#[tokio::test]
async fn refusal_has_the_authoritys_words_and_its_wait() {
    let stub = Stub::answering(Answer {
        status: "429 Too Many Requests",
        headers: "Content-Type: application/problem+json\r\nRetry-After: 7200\r\n",
        body: r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates"}"#,
    })
    .await;
    let authority = stub.authority();
    let failure = authority.order(ORDER).await.unwrap_err();
    assert_eq!(failure.message, "too many certificates (rateLimited)");
    assert_eq!(failure.cause, "urn:ietf:params:acme:error:rateLimited");
    assert_eq!(failure.retry_after, Some(SignedDuration::from_secs(7200)));
    // The account is made once.
    authority.order(ORDER).await.unwrap_err();
    let accounts = stub.seen().iter().filter(|target| *target == "/account").count();
    assert_eq!(accounts, 1);
}

#[tokio::test]
async fn response_that_is_no_problem_is_told_by_its_status() {
    let stub = Stub::answering(Answer {
        status: "502 Bad Gateway",
        headers: "Content-Type: text/html\r\n",
        body: "<html>",
    })
    .await;
    let failure = stub.authority().order(ORDER).await.unwrap_err();
    assert_eq!(failure.message, "the authority answers 502 Bad Gateway");
    assert_eq!(failure.retry_after, None);
}

#[tokio::test]
async fn dead_directory_is_told_with_the_cause() {
    let mut stub = Stub::answering(Answer { status: "", headers: "", body: "" }).await;
    let authority = stub.authority();
    stub.tasks.shutdown().await;
    let failure = authority.order(ORDER).await.unwrap_err();
    assert!(failure.message.contains("onnection refused"), "{}", failure.message);
}

#[tokio::test]
async fn server_of_the_directory_has_to_prove_its_name() {
    let stub = Stub::answering(Answer { status: "", headers: "", body: "" }).await;
    let other = Stub::answering(Answer { status: "", headers: "", body: "" }).await;
    fs::copy(other.dir.path().join("ca.pem"), stub.dir.path().join("ca.pem")).unwrap();
    let failure = stub.authority().order(ORDER).await.unwrap_err();
    assert!(failure.message.contains("certificate"), "{}", failure.message);
    assert_eq!(stub.seen(), [""; 0]);
}
