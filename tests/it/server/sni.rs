//! Several certificates, chosen by the name that a client asks for (SNI), and the reload of each.

use std::{fs, path::Path, process::Command, sync::Arc};

use portcullis::{
    app::Change,
    server::{CertificateFiles, CertificateSource, TlsOptions},
};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::TestServer;

/// Writes a self-signed certificate for these names, and gives its DER.
fn issue(folder: &Path, file: &str, names: &[&str]) -> CertificateDer<'static> {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    fs::write(folder.join(format!("{file}.crt")), certificate.pem()).unwrap();
    fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    certificate.der().clone()
}

fn files(folder: &Path, file: &str) -> CertificateFiles {
    let at = |end: &str| folder.join(format!("{file}.{end}"));
    CertificateFiles { certificate: at("crt"), key: at("key") }
}

fn tls(first: CertificateFiles, further: Vec<CertificateFiles>) -> TlsOptions {
    let CertificateFiles { certificate, key } = first;
    let mut tls = TlsOptions::with(CertificateSource::Files { certificate, key });
    if let TlsOptions::On { more, .. } = &mut tls {
        *more = further;
    }
    tls
}

/// The certificate that the server presents to a client which asks for `name` and trusts all of `roots`; an
/// IP address asks for no name.
async fn presented(
    server: &TestServer,
    name: &str,
    roots: &[CertificateDer<'static>],
) -> Result<CertificateDer<'static>, std::io::Error> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let config = ClientConfig::builder().with_root_certificates(store).with_no_client_auth();
    let stream = TcpStream::connect(server.addr()).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
}

#[tokio::test]
async fn client_gets_the_certificate_of_the_name_that_it_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let a = issue(folder.path(), "a", &["a.example", "127.0.0.1"]);
    let b = issue(folder.path(), "b", &["b.example", "*.b.example"]);
    let roots = [a.clone(), b.clone()];
    let server = TestServer::with(|config| {
        config.http.server.tls = tls(files(folder.path(), "a"), vec![files(folder.path(), "b")]);
    })
    .await;
    let served = async |name: &str| presented(&server, name, &roots).await;
    assert_eq!(served("a.example").await.unwrap(), a);
    assert_eq!(served("b.example").await.unwrap(), b);
    assert_eq!(served("www.b.example").await.unwrap(), b);
    assert_eq!(served("127.0.0.1").await.unwrap(), a);
    let error = served("other.example").await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn each_certificate_is_reloaded_and_kept_for_itself() {
    let folder = tempfile::tempdir().unwrap();
    let a = issue(folder.path(), "a", &["a.example"]);
    issue(folder.path(), "b", &["b.example"]);
    let server = TestServer::with(|config| {
        config.http.server.tls = tls(files(folder.path(), "a"), vec![files(folder.path(), "b")]);
    })
    .await;

    // One pair breaks, the other is renewed for another name.
    fs::write(folder.path().join("a.key"), "no key").unwrap();
    let renewed = issue(folder.path(), "b", &["b.example", "c.example"]);
    server.app().reload().await;
    let roots = [a.clone(), renewed.clone()];
    assert_eq!(presented(&server, "a.example", &roots).await.unwrap(), a);
    assert_eq!(presented(&server, "b.example", &roots).await.unwrap(), renewed);
    assert_eq!(presented(&server, "c.example", &roots).await.unwrap(), renewed);

    // Another list is put in force as a whole, or not at all.
    let other = issue(folder.path(), "d", &["d.example"]);
    let mut config = server.config().clone();
    config.http.server.tls = tls(files(folder.path(), "b"), vec![files(folder.path(), "a")]);
    assert_eq!(server.app().apply(&config).await.change("http.tls.more"), Change::Unusable);
    assert_eq!(presented(&server, "a.example", &roots).await.unwrap(), a);
    config.http.server.tls = tls(files(folder.path(), "b"), vec![files(folder.path(), "d")]);
    assert_eq!(server.app().apply(&config).await.change("http.tls.more"), Change::Applied);
    let roots = [renewed.clone(), other.clone()];
    assert_eq!(presented(&server, "c.example", &roots).await.unwrap(), renewed);
    assert_eq!(presented(&server, "d.example", &roots).await.unwrap(), other);
}

/// The exit code, standard output and standard error.
fn portcullis(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let output = command.current_dir(folder).env_clear().args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn certificates_of_a_configuration_are_all_shown_and_all_checked() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    issue(folder.path(), "a", &["a.example"]);
    issue(folder.path(), "b", &["b.example"]);
    let config = "version: 0.1\nstorage: inmemory\nauth: none\nhttp:\n  addr: 127.0.0.1:0\n  tls:\n    \
                  certificate: a.crt\n    key: a.key\n    more:\n      - certificate: b.crt\n        \
                  key: b.key\n      - certificate: c.crt\n        key: c.key\n";
    fs::write(at("config.yml"), config).unwrap();
    let (code, out, err) = portcullis(folder.path(), &["certs", "show", "config.yml"]);
    assert_eq!(code, 0, "{err}");
    let path = |name: &str| at(name).display().to_string();
    for expected in [
        format!("http.tls.certificate: {}\n", path("a.crt")),
        format!("http.tls.more[0].certificate: {}\n", path("b.crt")),
        "  names        b.example\n".to_owned(),
        format!("http.tls.more[1].certificate: there is no {}\n", path("c.crt")),
    ] {
        assert!(out.contains(&expected), "{expected}: {out}");
    }

    fs::write(at("b.key"), "no key").unwrap();
    let (code, _, err) = portcullis(folder.path(), &["config", "--check", "--files", "config.yml"]);
    assert_eq!(code, 1, "{err}");
    let begin = format!("portcullis: {}", path("config.yml"));
    for expected in [
        format!(
            "{begin}:11:14: http.tls.more[0].key: there is no private key in {}",
            path("b.key")
        ),
        format!("{begin}:12:22: http.tls.more[1].certificate: there is no file {}", path("c.crt")),
        format!("{begin}:13:14: http.tls.more[1].key: there is no file {}", path("c.key")),
    ] {
        assert!(err.contains(&expected), "{expected}: {err}");
    }
    let (code, _, err) = portcullis(folder.path(), &["serve", "config.yml"]);
    assert_eq!(code, 1, "{err}");
    let expected = format!("{begin}:11:14: http.tls.more[0].key: there is no private key in");
    assert!(err.contains(&expected), "{err}");
}
