//! What happens to a connection before HTTP: no delay, a look at the first byte, TLS.

use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};

use axum_server::accept::Accept;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::impatient::Impatient;

/// A client that has not sent its first byte, or not finished its handshake, by then is let go.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The first byte of a TLS connection (RFC 8446 §5.1, handshake).
const HANDSHAKE: u8 = 22;

/// What a client gets that speaks HTTP where TLS is spoken. HTTP/1.0, so that nobody keeps the
/// connection.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n\
    \r\n\
    client sent an HTTP request to an HTTPS server\n";

#[derive(Clone)]
pub(super) struct Acceptor {
    tls: Option<TlsAcceptor>,
}

impl Acceptor {
    pub(super) fn new(tls: Option<Arc<ServerConfig>>) -> Self {
        Self { tls: tls.map(TlsAcceptor::from) }
    }
}

/// A connection on which HTTP is spoken.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

impl<S: Send + 'static> Accept<TcpStream, S> for Acceptor {
    type Stream = Impatient<Box<dyn Connection>>;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, S)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let tls = self.tls.clone();
        Box::pin(async move {
            let connection = match timeout(PATIENCE, open(stream, tls)).await {
                Ok(Ok(connection)) => connection,
                // Scanners, health checks and impatient clients do this all day.
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a connection was not established");
                    return Err(error);
                }
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            };
            Ok((Impatient::new(connection, PATIENCE), service))
        })
    }
}

async fn open(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Box<dyn Connection>> {
    // Small responses leave at once.
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok(Box::new(stream));
    };
    let mut first = [0];
    if stream.peek(&mut first).await? == 1
        && first[0] != HANDSHAKE
        && first[0].is_ascii_alphabetic()
    {
        return Err(refuse(stream).await?);
    }
    Ok(Box::new(tls.accept(stream).await?))
}

/// Tells a client in its own language that it took the wrong door.
async fn refuse(mut stream: TcpStream) -> io::Result<io::Error> {
    // What is left unread when a socket is closed makes the kernel throw the answer away.
    let mut request = [0; 4096];
    if stream.read(&mut request).await? == 0 {
        return Ok(io::ErrorKind::UnexpectedEof.into());
    }
    stream.write_all(NOT_TLS).await?;
    stream.shutdown().await?;
    let drained = async { while stream.read(&mut request).await.is_ok_and(|n| n > 0) {} };
    let _ = timeout(Duration::from_secs(1), drained).await;
    Ok(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP on the TLS port"))
}
