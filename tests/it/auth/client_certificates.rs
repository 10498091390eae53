//! Client certificates: requested, verified, and needed beside a password.

use std::{error::Error as _, fs, path::PathBuf, sync::Arc};

use portcullis::{
    app::{App, Change},
    config::Config,
    server::{ClientAuth, ClientCertificates, TlsOptions},
};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs::default_provider,
    pki_types::ServerName,
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{
    TestServer,
    authority::{Authority, Shows, certified},
    process::Process,
    raw,
    server::{Answered as _, config},
};

use ClientAuth::*;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// The client authorities of a server, and their files.
struct Site {
    folder: TempDir,
    demand: ClientAuth,
}

impl Site {
    fn new(demand: ClientAuth, authority: &Authority) -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap(), demand };
        site.write(&authority.pem());
        site
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("clients.crt")
    }

    fn write(&self, pem: &str) {
        fs::write(self.file(), pem).unwrap();
    }

    fn set(&self, config: &mut Config) {
        let asked = ClientCertificates {
            authorities: vec![self.file()],
            demand: self.demand,
            identity: None,
        };
        set_clients(config, Some(asked));
    }

    async fn server(&self) -> TestServer {
        TestServer::with(|config| self.set(config)).await
    }
}

fn set_clients(config: &mut Config, to: Option<ClientCertificates>) {
    let TlsOptions::On { clients, .. } = &mut config.http.server.tls else {
        panic!("TLS is off");
    };
    *clients = to;
}

/// A client that can resume with its session ticket.
fn client(
    server: &TestServer,
    version: &'static SupportedProtocolVersion,
    shows: Option<Arc<CertifiedKey>>,
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(server.authority()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(Shows(shows)));
    TlsConnector::from(Arc::new(config))
}

/// The responses to a request without and with a password, and the kind of handshake; `None`
/// without a connection. With TLS 1.3 a client learns of a refusal when it waits for the response.
async fn ask(
    server: &TestServer,
    client: &TlsConnector,
    password: bool,
) -> Option<(u16, HandshakeKind)> {
    let stream = TcpStream::connect(server.addr()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = client.connect(name, stream).await.ok()?;
    let authorization = match password {
        true => format!("Authorization: {}\r\n", raw::authorization()),
        false => String::new(),
    };
    let request =
        format!("GET /v2/ HTTP/1.1\r\nHost: localhost\r\n{authorization}Connection: close\r\n\r\n");
    let answer = raw::exchange(&mut stream, request.as_bytes()).await;
    Some((raw::status(&answer)?, stream.get_ref().1.handshake_kind().unwrap()))
}

/// The response to a client with a password.
async fn status(server: &TestServer, client: &TlsConnector) -> Option<u16> {
    ask(server, client, true).await.map(|(status, _)| status)
}

#[tokio::test]
async fn clientauth_values_require_the_same_as_in_registry_2() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("theirs"));
    let (known, unknown) = (authority.client(|_| {}), stranger.client(|_| {}));
    for (demand, nothing, from_anybody) in [
        (RequestClientCert, true, true),
        (RequireAnyClientCert, false, true),
        (VerifyClientCertIfGiven, true, false),
        (RequireAndVerifyClientCert, false, false),
    ] {
        let server = Site::new(demand, &authority).server().await;
        for version in VERSIONS {
            for (shows, taken) in
                [(None, nothing), (Some(&unknown), from_anybody), (Some(&known), true)]
            {
                let client = client(&server, version, shows.cloned());
                let expected = taken.then_some(200);
                let case = format!("{demand:?}, {version:?}, {shows:?}");
                assert_eq!(status(&server, &client).await, expected, "{case}");
                // A certificate is needed beside a password.
                let anonymous = ask(&server, &client, false).await.map(|(status, _)| status);
                assert_eq!(anonymous, taken.then_some(401), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn certificate_without_its_key_is_refused_in_every_mode() {
    let authority = Authority::new("ours");
    let known = authority.client(|_| {});
    let stolen = certified(&known.cert[0], &KeyPair::generate().unwrap());
    for demand in [
        RequestClientCert,
        RequireAnyClientCert,
        VerifyClientCertIfGiven,
        RequireAndVerifyClientCert,
    ] {
        let server = Site::new(demand, &authority).server().await;
        for version in VERSIONS {
            let thief = client(&server, version, Some(Arc::clone(&stolen)));
            assert_eq!(status(&server, &thief).await, None, "{demand:?} {version:?}");
            let owner = client(&server, version, Some(Arc::clone(&known)));
            assert_eq!(status(&server, &owner).await, Some(200), "{demand:?} {version:?}");
        }
    }
}

#[tokio::test]
async fn expired_certificate_and_server_certificate_are_refused() {
    let authority = Authority::new("ours");
    let over = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let for_servers = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    let server = Site::new(RequireAndVerifyClientCert, &authority).server().await;
    for (shows, expected) in [
        (authority.client(over), None),
        (authority.client(for_servers), None),
        (authority.client(|params| params.extended_key_usages.clear()), Some(200)),
    ] {
        let client = client(&server, &TLS13, Some(shows));
        assert_eq!(status(&server, &client).await, expected);
    }
}

/// `openssl req -x509`, which Docker's documentation has, makes an authority of a client.
#[tokio::test]
async fn listed_certificate_is_accepted() {
    let self_signed = Authority::new("a client");
    let over = Authority::with("over", |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let for_servers = Authority::with("for servers", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    // A listed certificate that is not an authority must not issue certificates.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::NoCa;
    params.distinguished_name.push(DnType::CommonName, "no authority");
    let not_one = Authority(CertifiedIssuer::self_signed(params, key).unwrap());
    let issued = Authority::new("elsewhere").client(|_| {});
    let site = Site::new(RequireAndVerifyClientCert, &self_signed);
    let mut list = [&self_signed, &over, &for_servers, &not_one].map(Authority::pem).concat();
    list += &pem(&issued.cert[0]);
    site.write(&list);
    let server = site.server().await;
    for (shows, expected) in [
        (self_signed.itself(), Some(200)),
        (issued, Some(200)),
        (self_signed.client(|_| {}), Some(200)),
        (not_one.itself(), Some(200)),
        (not_one.client(|_| {}), None),
        (over.client(|_| {}), None),
        (over.itself(), None),
        (for_servers.itself(), None),
        (Authority::new("a client").itself(), None),
    ] {
        for version in VERSIONS {
            let client = client(&server, version, Some(Arc::clone(&shows)));
            assert_eq!(status(&server, &client).await, expected);
        }
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let base64 = STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn resumed_session_shows_the_certificate_again() {
    let authority = Authority::new("ours");
    let server = Site::new(VerifyClientCertIfGiven, &authority).server().await;
    for version in VERSIONS {
        for shows in [None, Some(authority.client(|_| {}))] {
            let client = client(&server, version, shows);
            for _ in 0..3 {
                let full = Some((200, HandshakeKind::Full));
                assert_eq!(ask(&server, &client, true).await, full, "{version:?}");
            }
        }
    }
}

#[tokio::test]
async fn session_ticket_of_before_does_not_replace_a_certificate() {
    let authority = Authority::new("ours");
    let site = Site::new(RequireAndVerifyClientCert, &authority);
    let server = TestServer::start().await;
    let clients = VERSIONS.map(|version| client(&server, version, None));
    for client in &clients {
        assert_eq!(ask(&server, client, true).await, Some((200, HandshakeKind::Full)));
        assert_eq!(ask(&server, client, true).await, Some((200, HandshakeKind::Resumed)));
    }
    let mut config = server.config().clone();
    site.set(&mut config);
    server.app().apply(&config).await;
    for client in &clients {
        assert_eq!(ask(&server, client, true).await, None);
    }
    set_clients(&mut config, None);
    server.app().apply(&config).await;
    for client in &clients {
        assert_eq!(status(&server, client).await, Some(200));
    }
}

#[tokio::test]
async fn reload_applies_other_authorities_and_keeps_the_old_ones_when_they_are_broken() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let site = Site::new(RequireAndVerifyClientCert, &first);
    let server = site.server().await;
    let of = |authority: &Authority| client(&server, &TLS13, Some(authority.client(|_| {})));
    let clients = [of(&first), of(&second)];
    let let_in = async || {
        let [first, second] = &clients;
        [status(&server, first).await.is_some(), status(&server, second).await.is_some()]
    };
    assert_eq!(let_in().await, [true, false]);

    site.write(&second.pem());
    server.app().reload().await;
    assert_eq!(let_in().await, [false, true]);

    for broken in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
        site.write(broken);
        server.app().reload().await;
        assert_eq!(let_in().await, [false, true], "{broken}");
    }

    // And without SIGHUP.
    site.write(&[first.pem(), second.pem()].concat());
    let noticed = async {
        while let_in().await != [true, true] {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(raw::GUARD, noticed).await.expect("it is noticed");
}

#[tokio::test]
async fn reload_applies_another_clientcas_list_and_another_clientauth_value() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let site = Site::new(RequireAndVerifyClientCert, &first);
    let server = site.server().await;
    let stranger = client(&server, &TLS13, Some(second.client(|_| {})));
    assert_eq!(status(&server, &stranger).await, None);

    let mut config = server.config().clone();
    let mut reload = async |asked: ClientCertificates| {
        set_clients(&mut config, Some(asked));
        server.app().apply(&config).await;
        status(&server, &stranger).await
    };
    let authorities = vec![site.file()];
    let any = ClientCertificates {
        authorities: authorities.clone(),
        demand: RequireAnyClientCert,
        identity: None,
    };
    assert_eq!(reload(any).await, Some(200));

    let other = site.folder.path().join("other.crt");
    let missing = ClientCertificates {
        authorities: vec![other.clone()],
        demand: RequireAndVerifyClientCert,
        identity: None,
    };
    // While the list of authorities is unknown, the old configuration stays in force.
    assert_eq!(reload(missing.clone()).await, Some(200));
    fs::write(&other, first.pem()).unwrap();
    assert_eq!(reload(missing.clone()).await, None);
    fs::write(&other, second.pem()).unwrap();
    assert_eq!(reload(missing).await, Some(200));
    let reloaded = server.app().apply(server.config()).await;
    for key in ["http.tls.clientcas", "http.tls.clientauth"] {
        assert_eq!(reloaded.change(key), Change::Applied, "{key}");
    }
}

#[tokio::test]
async fn authorities_that_cannot_be_read_let_nothing_start() {
    let folder = tempfile::tempdir().unwrap();
    let good = Authority::new("ours").pem();
    let key = KeyPair::generate().unwrap().serialize_pem();
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (name, content, expected) in [
        ("missing.crt", None, "there is no file "),
        ("empty.crt", Some(""), "there is no certificate in "),
        ("key.crt", Some(&*key), "there is no certificate in "),
        ("cut.crt", Some(&good[..good.len() - 40]), "is damaged"),
        ("junk.crt", Some(&*[&good, junk].concat()), "a certificate in "),
    ] {
        let file = folder.path().join(name);
        if let Some(content) = content {
            fs::write(&file, content).unwrap();
        }
        let mut config = config(folder.path());
        let demand = RequestClientCert;
        set_clients(
            &mut config,
            Some(ClientCertificates { authorities: vec![file], demand, identity: None }),
        );
        let error = App::start(&config).unwrap_err();
        assert_eq!(error.to_string(), "http.tls.clientcas cannot be used");
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains(expected) && cause.contains(name), "{cause}");
    }
}

#[tokio::test]
async fn log_has_the_reason_why_a_client_was_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new("ours"), Authority::new("theirs"));
    let file = folder.path().join("clients.crt");
    fs::write(&file, authority.pem()).unwrap();
    let server = Process::start(&[("REGISTRY_HTTP_TLS_CLIENTCAS", file.to_str().unwrap())]);
    server.request("GET", "/v2/").send().await.unwrap_err();

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(server.ca()).unwrap()).unwrap();
    let by = |shows| {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_client_cert_resolver(Arc::new(Shows(Some(shows))));
        reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap()
    };
    let url = format!("{}/v2/", server.base);
    by(stranger.client(|_| {})).get(&url).send().await.unwrap_err();
    by(authority.client(|_| {})).get(&url).answer().await.expect(401);
    let log = server.end().await;
    let is_logged = |what: &str| {
        log.lines().any(|line| {
            line.contains("a client was refused for its certificate") && line.contains(what)
        })
    };
    assert!(is_logged("peer sent no certificates") && is_logged("UnknownIssuer"), "{log}");
}
