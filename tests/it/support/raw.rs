//! Bytes to and from a server, as no well-behaved client would send them.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use super::server::{PASSWORD, USER};

pub type Stream = tokio_rustls::client::TlsStream<TcpStream>;

/// For what must happen: long enough that a loaded machine does not decide a test.
pub const GUARD: Duration = Duration::from_secs(120);

/// Connects to a server whose authority is in the file `ca`.
pub async fn connect(addr: SocketAddr, ca: &Path, alpn: &[&[u8]]) -> Stream {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let mut config =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let socket = TcpStream::connect(addr).await.unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), socket)
        .await
        .unwrap()
}

/// The value of `Authorization` of a user.
pub fn basic(user: &str, password: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// The value of `Authorization` of the user that all servers of the tests have.
pub fn authorization() -> String {
    basic(USER, PASSWORD)
}

/// Sends bytes and takes what comes until the server closes; nothing at all is an answer too.
pub async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> String {
    // A server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
    rest(&mut stream).await
}

/// What comes until the server closes.
pub async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(GUARD, reading).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of an answer as [`exchange`] gives it; `None` when there is no answer.
pub fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}
