//! TLS connections to a server of the tests, and the `Authorization` header.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;

/// A TLS connection.
pub type Stream = tokio_rustls::client::TlsStream<TcpStream>;

/// The limit of waits for events that must happen: long enough for a loaded machine.
pub const GUARD: Duration = Duration::from_secs(120);

/// Connects to a server whose authority is in the file `ca`.
pub async fn connect(addr: SocketAddr, ca: &Path, alpn: &[&[u8]]) -> Stream {
    secured(TcpStream::connect(addr).await.unwrap(), ca, alpn).await
}

/// As [`connect`], over an open connection.
pub async fn secured(socket: TcpStream, ca: &Path, alpn: &[&[u8]]) -> Stream {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let mut config =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // A request behind the end of a handshake would wait for what the server acknowledges late.
    socket.set_nodelay(true).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), socket)
        .await
        .unwrap()
}

/// The value of `Authorization` for a user (RFC 7617 §2).
pub fn basic(user: &str, password: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
