//! Unix sockets, sockets from systemd, and the readiness notification. And HTTP/2 without TLS.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{fs::FileTypeExt as _, net::UnixDatagram},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use portcullis::{
    config::Config,
    http::{self, Proxy},
    server::{Address, Net, TlsOptions},
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tempfile::TempDir;
use tokio::net::UnixStream;

use crate::support::{
    Answered as _, TestServer,
    raw::{self, header},
    server::{PASSWORD, USER, client_builder, write_user},
};

/// A server that listens on a Unix socket without TLS, as behind nginx.
async fn on_a_file(folder: &Path, change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.http.server.net = Net::Unix;
        config.http.server.addr = folder.join("socket").to_str().unwrap().to_owned();
        config.http.server.tls = TlsOptions::Off;
        change(config);
    })
    .await
}

/// Sends a request with these headers through a Unix socket, and gives the response.
async fn ask(socket: &Path, line: &str, headers: &str) -> String {
    let stream = UnixStream::connect(socket).await.unwrap();
    let head = format!("{line} HTTP/1.1\r\nHost: r.example\r\nConnection: close\r\n{headers}\r\n");
    raw::exchange(stream, head.as_bytes()).await
}

fn known() -> String {
    format!("Authorization: {}\r\n", raw::authorization())
}

#[tokio::test]
async fn unix_socket_is_served_and_removed_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let server = on_a_file(folder.path(), |_| {}).await;
    assert_eq!(*server.app().addr(), Address::Unix(Some(socket.clone())));
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    assert_eq!(raw::status(&ask(&socket, "GET /v2/", "").await), Some(401));
    assert_eq!(raw::status(&ask(&socket, "GET /v2/", &known()).await), Some(200));
    server.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn unix_socket_has_tls_unless_it_is_off() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let mut tls = TlsOptions::Off;
    let server = on_a_file(folder.path(), |config| {
        let fresh = crate::support::server::config(folder.path());
        config.http.server.tls = fresh.http.server.tls;
        tls = config.http.server.tls.clone();
    })
    .await;
    assert!(!matches!(tls, TlsOptions::Off));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(server.authority()).unwrap()).unwrap();
    let config =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = UnixStream::connect(&socket).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.unwrap();
    let head = format!("GET /v2/ HTTP/1.0\r\n{}\r\n", known());
    let answer = raw::exchange(stream, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");

    let answer = ask(&socket, "GET /v2/", "").await;
    assert!(answer.contains("client sent an HTTP request to an HTTPS server"), "{answer}");
}

#[tokio::test]
async fn client_of_a_unix_socket_is_a_trusted_proxy_where_the_configuration_says_so() {
    let forwarded = "X-Forwarded-Host: other.example\r\nX-Forwarded-Proto: https\r\n";
    for (proxies, start) in [
        (vec!["unix".parse::<Proxy>().unwrap()], "https://other.example/v2/"),
        (vec!["127.0.0.0/8".parse().unwrap()], "/v2/"),
        (http::Options::default().trustedproxies, "/v2/"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let trusted = proxies.clone();
        let _server =
            on_a_file(folder.path(), |config| config.http.api.trustedproxies = trusted).await;
        let headers = format!("{}{forwarded}Content-Length: 0\r\n", known());
        let socket = folder.path().join("socket");
        let answer = ask(&socket, "POST /v2/a/blobs/uploads/", &headers).await;
        let location = header(&answer, "location").unwrap();
        assert!(location.starts_with(start), "{proxies:?}: {answer}");
    }
}

/// Wrong passwords count for each client of a proxy, and together for clients without an address.
#[tokio::test]
async fn throttling_behind_a_unix_socket_uses_the_address_of_the_forwarded_header() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _server = on_a_file(folder.path(), |config| {
        let portcullis::gate::Options::Htpasswd(options) = &mut config.auth else { unreachable!() };
        options.throttle.failures = 2;
    })
    .await;
    let wrong =
        |guess| format!("Authorization: {}\r\n", raw::basic(USER, &format!("wrong {guess}")));
    let status = async |headers: String| raw::status(&ask(&socket, "GET /v2/", &headers).await);
    for from in ["", "X-Forwarded-For: 192.0.2.1\r\n"] {
        for (guess, expected) in [401, 401, 429].into_iter().enumerate() {
            let headers = format!("{}{from}", wrong(guess));
            assert_eq!(status(headers).await, Some(expected), "{from}");
        }
    }
    assert_eq!(status(format!("{}X-Forwarded-For: 192.0.2.2\r\n", known())).await, Some(200));
}

/// The program, which sends its notifications to the test instead of systemd.
struct Told {
    child: Child,
    folder: TempDir,
    systemd: UnixDatagram,
}

impl Told {
    /// `program` wraps the command of the server.
    fn start(folder: TempDir, program: impl FnOnce(&Path) -> Command) -> Self {
        let users = folder.path().join("auth");
        fs::create_dir_all(&users).unwrap();
        write_user(&users.join("htpasswd"), USER, PASSWORD);
        let notify = folder.path().join("notify");
        let _ = fs::remove_file(&notify);
        let systemd = UnixDatagram::bind(&notify).unwrap();
        systemd.set_read_timeout(Some(raw::GUARD)).unwrap();
        let mut command = program(Path::new(env!("CARGO_BIN_EXE_portcullis")));
        command.current_dir(folder.path()).env_clear().env("NOTIFY_SOCKET", &notify);
        command.env("REGISTRY_HTTP_TLS", "off").env("REGISTRY_HTTP_DRAINTIMEOUT", "5s");
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = command.stderr(log.try_clone().unwrap()).stdout(log).spawn().unwrap();
        Self { child, folder, systemd }
    }

    /// The next notification.
    fn next(&self) -> String {
        let mut text = [0; 256];
        let length = self.systemd.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).trim().to_owned()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits for the end; gives its folder and its log, which is complete only then.
    fn ended(mut self) -> (TempDir, String) {
        self.child.wait().unwrap();
        let log = self.log();
        (std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap()), log)
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve_on_a_file(socket: PathBuf) -> impl FnOnce(&Path) -> Command {
    move |program| {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(format!(
            "REGISTRY_HTTP_NET=unix REGISTRY_HTTP_TRUSTEDPROXIES=[unix] REGISTRY_HTTP_ADDR={} exec {} serve",
            socket.display(),
            program.display()
        ));
        shell
    }
}

#[tokio::test]
async fn systemd_is_notified_when_clients_can_connect_and_a_stale_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let first = Told::start(folder, serve_on_a_file(socket.clone()));
    assert_eq!(first.next(), "READY=1", "{}", first.log());
    assert_eq!(raw::status(&ask(&socket, "GET /v2/", &known()).await), Some(200));
    first.signal("KILL");
    let (folder, _) = first.ended();
    assert!(socket.exists(), "it was killed");

    let second = Told::start(folder, serve_on_a_file(socket.clone()));
    assert_eq!(second.next(), "READY=1", "{}", second.log());
    let from = format!("{}X-Forwarded-For: 203.0.113.9\r\n", known());
    assert_eq!(raw::status(&ask(&socket, "GET /v2/", &from).await), Some(200));
    second.signal("TERM");
    assert_eq!(second.next(), "STOPPING=1");
    let (_folder, log) = second.ended();
    assert!(!socket.exists());
    assert!(log.contains(&format!("203.0.113.9 - {USER} [")), "{log}");
    assert!(!log.contains("unencrypted"), "nothing travels: {log}");
}

/// A server that is passed this socket, as systemd passes it.
fn activated(socket: impl Into<OwnedFd>) -> Told {
    let socket = Stdio::from(socket.into());
    Told::start(tempfile::tempdir().unwrap(), |program| {
        let mut shell = Command::new("/bin/sh");
        // The first that is passed has number 3; the shell keeps its own number when it becomes the
        // program.
        shell.arg("-c").arg(format!(
            "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 REGISTRY_HTTP_ADDR=192.0.2.1:1 exec {} serve",
            program.display()
        ));
        shell.stdin(socket);
        shell
    })
}

#[tokio::test]
async fn inherited_socket_is_served() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr: SocketAddr = socket.local_addr().unwrap();
    let server = activated(socket.try_clone().unwrap());
    assert_eq!(server.next(), "READY=1", "{}", server.log());
    let request = client_builder().build().unwrap().get(format!("http://{addr}/v2/"));
    request.basic_auth(USER, Some(PASSWORD)).answer().await.expect(200);
    server.signal("TERM");
    assert_eq!(server.next(), "STOPPING=1");
    let (_, log) = server.ended();
    assert!(log.contains(&format!("addr=\"{addr}\"")), "{log}");
    // The owner of the socket keeps new clients for the next server.
    assert!(tokio::net::TcpStream::connect(addr).await.is_ok());
}

#[tokio::test]
async fn inherited_unix_socket_is_served_and_its_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passed");
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = activated(socket);
    assert_eq!(server.next(), "READY=1", "{}", server.log());
    assert_eq!(raw::status(&ask(&path, "GET /v2/", &known()).await), Some(200));
    server.signal("TERM");
    assert_eq!(server.next(), "STOPPING=1");
    server.ended();
    assert!(path.exists(), "it is systemd's");
}

#[tokio::test]
async fn inherited_connection_is_refused_with_the_remedy() {
    let (connection, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut server = activated(connection);
    assert_eq!(server.child.wait().unwrap().code(), Some(1));
    assert!(server.log().contains("Accept=no"), "{}", server.log());
}

#[tokio::test]
async fn http_2_without_tls_is_spoken_where_the_configuration_says_so() {
    for enabled in [false, true] {
        let server = TestServer::with(|config| {
            config.http.server.tls = TlsOptions::Off;
            config.http.server.h2c.enabled = enabled;
        })
        .await;
        server.get("/v2/").await.expect(200);
        let client = client_builder().http2_prior_knowledge().build().unwrap();
        let request = || {
            let request = client.get(format!("{}/v2/", server.base));
            request.basic_auth(USER, Some(PASSWORD)).send()
        };
        if enabled {
            let response = request().await.unwrap();
            assert_eq!(response.version(), reqwest::Version::HTTP_2);
            assert_eq!(response.status(), 200);
            let bytes = vec![7; 3_000_000];
            let target = format!(
                "{}/v2/a/blobs/uploads/?digest={}",
                server.base,
                crate::support::digest(&bytes)
            );
            let upload = client.post(target).basic_auth(USER, Some(PASSWORD)).body(bytes);
            upload.answer().await.expect(201);
        } else {
            assert!(request().await.is_err());
        }
    }
}

#[test]
fn contradictory_options_are_refused_or_get_a_warning() {
    let load = |variables: &[(&str, &str)]| {
        let variables = variables.iter();
        Config::load(None, variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    };
    let error = load(&[("REGISTRY_HTTP_NET", "unix")]).unwrap_err().to_string();
    assert!(error.contains("http.net") && error.contains("http.addr"), "{error}");
    let unix = [("REGISTRY_HTTP_NET", "unix"), ("REGISTRY_HTTP_ADDR", "/run/r/socket")];
    let config = load(&unix).unwrap();
    assert_eq!(config.http.server.net, Net::Unix);
    let h2c = ("REGISTRY_HTTP_H2C_ENABLED", "true");
    let warnings = load(&[h2c]).unwrap().warnings;
    assert!(
        warnings.iter().any(|w| w.contains("http.h2c") && w.contains("no effect")),
        "{warnings:?}"
    );
    let warnings = load(&[h2c, ("REGISTRY_HTTP_TLS", "off")]).unwrap().warnings;
    assert!(warnings.iter().all(|w| !w.contains("no effect")), "{warnings:?}");
}
