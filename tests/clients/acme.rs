//! Certificates from an authority: Debian's pebble issues them to the real binary on loopback.

mod pebble;

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{Client, ClientBuilder, tls::TlsInfo};
use tempfile::TempDir;
use testkit::{
    blob::Blob,
    process::Daemon,
    require::{self, Need},
};
use tokio::task::JoinSet;

use self::pebble::{Addresses, Pebble};

const HOST: &str = "registry.acme.test";
const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// A hang guard: longer than any working step.
const LIMIT: Duration = Duration::from_secs(150);

/// The time between two looks at what is waited for.
const POLL: Duration = Duration::from_millis(50);

const MONTHS: Duration = Duration::from_secs(90 * 24 * 3600);

/// A server with a certificate from pebble.
struct Bench {
    server: Option<Daemon>,
    pebble: Option<Pebble>,
    addresses: Addresses,
    validity: Duration,
    folder: TempDir,
}

impl Bench {
    /// A server that proves its name by `challenge`, and certificates that are valid for `validity`; `None` where
    /// pebble is missing.
    fn new(challenge: &str, validity: Duration) -> Option<Self> {
        if !require::met("acme", &[Need::Program("pebble"), Need::Program("pebble-challtestsrv")]) {
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder");
        let addresses = Addresses::free();
        let pebble = Pebble::start(folder.path(), addresses, validity);
        let config = format!(
            "version: 0.1
storage: {{filesystem: {{rootdirectory: {data}}}}}
http:
  addr: {https}
  redirectaddr: {http}
  debug: {{addr: '{debug}', prometheus: {{enabled: true}}}}
  tls:
    letsencrypt:
      cachefile: acme
      email: ops@example.com
      hosts: [{HOST}]
      directoryurl: {directory}
      caroot: {authority}
      challenge: {challenge}
auth: {{none: {{}}}}
",
            data = folder.path().join("data").display(),
            https = addresses.https,
            http = addresses.http,
            debug = crate::server::Server::free_address(),
            directory = pebble.directory(),
            authority = pebble.authority().display(),
        );
        fs::write(folder.path().join("config.yml"), config).expect("a file can be written");
        let mut bench = Self { server: None, pebble: Some(pebble), addresses, validity, folder };
        bench.start_server();
        Some(bench)
    }

    fn start_server(&mut self) {
        let https = self.addresses.https;
        self.server = Some(Daemon::start(
            Command::new(BINARY).args(["serve", "config.yml"]).current_dir(self.folder.path()),
            &self.folder.path().join("server.log"),
            || TcpStream::connect(https).is_ok(),
        ));
    }

    fn start_pebble(&mut self) {
        self.pebble = None;
        self.pebble = Some(Pebble::start(self.folder.path(), self.addresses, self.validity));
    }

    fn server(&self) -> &Daemon {
        self.server.as_ref().expect("the server runs")
    }

    fn base(&self) -> String {
        format!("https://{HOST}:{}", self.addresses.https.port())
    }

    /// A client without connections to others.
    fn client(&self) -> ClientBuilder {
        Client::builder().resolve(HOST, self.addresses.https).no_proxy().timeout(LIMIT)
    }

    /// A client that trusts pebble's certificates alone, and opens a connection for each request.
    async fn trusting(&self) -> Client {
        let pebble = self.pebble.as_ref().expect("pebble runs");
        let client = self.client().tls_certs_only([pebble.root().await]).pool_max_idle_per_host(0);
        client.build().expect("a client")
    }

    /// The certificate that the server presents, whatever it is.
    async fn certificate(&self) -> Vec<u8> {
        let client = self.client().tls_danger_accept_invalid_certs(true).tls_info(true);
        let client = client.build().expect("a client");
        let response = client.get(self.base()).send().await.expect("the server answers");
        let info = response.extensions().get::<TlsInfo>().expect("TLS");
        info.peer_certificate().expect("a certificate").to_vec()
    }

    /// Waits until the server has a certificate of pebble's. Returns how long that took.
    async fn first_certificate(&self) -> Duration {
        let started = Instant::now();
        let client = self.trusting().await;
        while client.get(self.base()).send().await.is_err() {
            assert!(started.elapsed() < LIMIT, "no certificate: {}", self.server().log());
            tokio::time::sleep(POLL).await;
        }
        started.elapsed()
    }

    /// Waits until the server presents another certificate than this one.
    async fn another_certificate(&self, old: &[u8]) {
        let started = Instant::now();
        while self.certificate().await == old {
            assert!(started.elapsed() < LIMIT, "the same certificate: {}", self.server().log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the log of the server has these words.
    async fn logs(&self, words: &str) {
        let started = Instant::now();
        while !self.server().log().contains(words) {
            assert!(started.elapsed() < LIMIT, "no `{words}`: {}", self.server().log());
            tokio::time::sleep(POLL).await;
        }
    }
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "a figure for docs/PERFORMANCE.md")]
async fn acme_obtains_the_first_certificate_by_each_challenge() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let Some(bench) = Bench::new(challenge, MONTHS) else { return };
        println!("first certificate by {challenge}: {:?}", bench.first_certificate().await);
        let log = bench.server().log();
        assert!(log.contains("waiting for the first certificate"), "{log}");
        assert!(log.contains("a certificate was obtained"), "{log}");
        let file = fs::read_to_string(bench.folder.path().join("acme").join(HOST)).expect("a file");
        let sections = file.lines().filter(|line| line.starts_with("-----BEGIN"));
        let sections: Vec<_> = sections.collect();
        assert_eq!(sections[0], "-----BEGIN PRIVATE KEY-----");
        assert!(sections.len() > 2, "no intermediate: {sections:?}");
    }
}

/// The redirect listener goes on to redirect all that is no token.
#[tokio::test]
async fn acme_leaves_the_redirect_as_it_is() {
    let Some(bench) = Bench::new("http-01", MONTHS) else { return };
    bench.first_certificate().await;
    let client =
        bench.client().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    for path in ["/v2/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/unknown"] {
        let url = format!("http://{}{path}", bench.addresses.http);
        let response = client.get(url).send().await.expect("the listener answers");
        assert_eq!(response.status().as_u16(), 301, "{path}");
    }
}

#[tokio::test]
async fn acme_goes_on_with_the_certificate_of_the_folder() {
    let Some(mut bench) = Bench::new("auto", MONTHS) else { return };
    bench.first_certificate().await;
    let first = bench.certificate().await;
    bench.server = None;
    // Nothing can be ordered now.
    bench.pebble = None;
    bench.start_server();
    assert_eq!(bench.certificate().await, first);
    assert!(!bench.server().log().contains("waiting for the first certificate"));
}

/// Eight clients pull without a pause, each request over a connection of its own, while the certificate is
/// renewed twice.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "a figure for docs/PERFORMANCE.md")]
async fn acme_renews_under_load() {
    let Some(bench) = Bench::new("auto", Duration::from_secs(16)) else { return };
    bench.first_certificate().await;
    let blob = Blob::new(vec![7; 256 * 1024].into());
    let client = bench.trusting().await;
    let uploads = format!("{}/v2/load/blobs/uploads/?digest={}", bench.base(), blob.digest);
    let pushed = client.post(uploads).body(blob.bytes.clone()).send().await.expect("an answer");
    assert_eq!(pushed.status().as_u16(), 201);

    let url: Arc<str> = format!("{}/v2/load/blobs/{}", bench.base(), blob.digest).into();
    let ended = Arc::new(AtomicBool::new(false));
    let pulled = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let client = client.clone();
        let url = Arc::clone(&url);
        let ended = Arc::clone(&ended);
        let pulled = Arc::clone(&pulled);
        clients.spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                let response = client.get(&*url).send().await?;
                let bytes = response.error_for_status()?.bytes().await?;
                assert_eq!(bytes.len(), 256 * 1024);
                pulled.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, reqwest::Error>(())
        });
    }
    for _ in 0..2 {
        let old = bench.certificate().await;
        bench.another_certificate(&old).await;
    }
    ended.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.expect("no panic").expect("no request fails");
    }
    println!("pulls beside two renewals: {}, none failed", pulled.load(Ordering::Relaxed));
}

#[tokio::test]
async fn acme_keeps_the_old_certificate_through_a_dead_directory() {
    let validity = Duration::from_secs(6);
    let Some(mut bench) = Bench::new("auto", validity) else { return };
    bench.first_certificate().await;
    let first = bench.certificate().await;
    bench.pebble = None;
    bench.logs("cannot obtain a certificate for registry.acme.test").await;
    bench.logs("stays in force").await;
    // Past its end too.
    tokio::time::sleep(validity).await;
    let last = bench.certificate().await;
    // One renewal may have been done before pebble was stopped.
    assert!(last == first || bench.server().log().matches("was obtained").count() > 1);
    // The new pebble does not know the account.
    bench.start_pebble();
    let id = bench.server().id().to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().expect("kill runs").success());
    bench.another_certificate(&last).await;
}

/// Of two servers on one folder one orders, and the other serves what it gets.
#[tokio::test]
async fn acme_orders_once_for_two_servers_of_one_folder() {
    let Some(bench) = Bench::new("http-01", MONTHS) else { return };
    let other = crate::server::Server::free_address();
    let config = fs::read_to_string(bench.folder.path().join("config.yml")).expect("a file");
    let config = config
        .replace(&format!("addr: {}\n", bench.addresses.https), &format!("addr: {other}\n"))
        .replace("redirectaddr: ", "# ")
        .replace("debug: ", "# ")
        .replace("challenge: http-01", "challenge: tls-alpn-01");
    fs::write(bench.folder.path().join("other.yml"), config).expect("a file can be written");
    let _second = Daemon::start(
        Command::new(BINARY).args(["serve", "other.yml"]).current_dir(bench.folder.path()),
        &bench.folder.path().join("other.log"),
        || TcpStream::connect(other).is_ok(),
    );
    bench.first_certificate().await;
    let expected = bench.certificate().await;
    let started = Instant::now();
    while certificate_at(other).await != expected {
        assert!(started.elapsed() < LIMIT, "the second server has another certificate");
        tokio::time::sleep(POLL).await;
    }
}

async fn certificate_at(address: SocketAddr) -> Vec<u8> {
    let client = Client::builder().resolve(HOST, address).no_proxy();
    let client =
        client.tls_danger_accept_invalid_certs(true).tls_info(true).build().expect("a client");
    let url = format!("https://{HOST}:{}", address.port());
    let response = client.get(url).send().await.expect("the server answers");
    let info = response.extensions().get::<TlsInfo>().expect("TLS");
    info.peer_certificate().expect("a certificate").to_vec()
}
