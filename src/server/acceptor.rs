//! The acceptor: what happens to a connection before HTTP. `TCP_NODELAY`, keepalive, the first byte,
//! the handshake of TLS.

use std::{io, pin::Pin, time::Duration};

use axum_server::accept::Accept;
use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl,
};
use rustls::server::Acceptor as TlsAcceptor;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::LazyConfigAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    connection::Open,
    handover::Accepted,
    listener::AcceptedSocket,
    tls::{self, Tls},
    transport::{PrefaceTimeout, ReadAhead, SocketStream, Transport, Version},
};

/// How long a client may take for its first byte and for its handshake, and then for what shows
/// whether it speaks HTTP/1.1 or HTTP/2.
const TIMEOUT: Duration = Duration::from_secs(10);

/// When a connection has been silent for so long, the system probes it, and closes it after as long
/// again without an answer to so many probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_PROBES: u8 = 3;

/// The first byte of a TLS connection (RFC 8446 §5.1, handshake).
const HANDSHAKE: u8 = 22;

/// How many encrypted bytes wait for a slow client: two full records.
const CIPHERTEXT: usize = 32 * 1024;

/// What a client gets that speaks HTTP where TLS is spoken. HTTP/1.0, so that nobody keeps the
/// connection.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n\
    \r\n\
    client sent an HTTP request to an HTTPS server\n";

/// What axum-server does with a socket before it serves HTTP on it.
#[derive(Clone)]
pub(super) struct Acceptor {
    pub(super) tls: Option<Tls>,
    /// Whether a plain connection may carry HTTP/2.
    pub(super) h2c: bool,
    /// The server stops: requests that run may finish, and no others begin.
    pub(super) stopping: CancellationToken,
}

impl<S: Send + 'static> Accept<Accepted, S> for Acceptor {
    type Stream = Open<PrefaceTimeout<Transport>>;
    type Service = S;
    type Future =
        Pin<Box<dyn Future<Output = io::Result<(Open<PrefaceTimeout<Transport>>, S)>> + Send>>;

    fn accept(&self, accepted: Accepted, service: S) -> Self::Future {
        let acceptor = self.clone();
        Box::pin(async move {
            let Accepted { socket, connection, held, opening } = accepted;
            let addr = socket.peer();
            let end = held.permit.end.clone();
            let handshake = acceptor.handshake(socket);
            let Some(shaken) = end.run_until_cancelled(handshake).await else {
                return Err(io::ErrorKind::ConnectionAborted.into());
            };
            match shaken {
                Ok((stream, version)) => {
                    let stream =
                        connection.open(stream.holds(opening), version, held, acceptor.stopping);
                    Ok((stream, service))
                }
                Err(error) => {
                    if tls::is_about_certificate(&error) {
                        tracing::info!(%error, peer = ?addr, "a client was refused for its certificate");
                    } else {
                        // Scanners, health checks and clients that give up do this all day.
                        tracing::debug!(%error, peer = ?addr, "no connection");
                    }
                    Err(error)
                }
            }
        })
    }
}

impl Acceptor {
    /// Makes an accepted socket ready for HTTP, by TLS where there is `tls`, and tells the version
    /// that is spoken. On a plain connection that is HTTP/2 only where `h2c` is set and the client
    /// begins with the preface of HTTP/2.
    ///
    /// # Errors
    ///
    /// Those of the socket and of the handshake; `TimedOut` where this takes more than ten seconds.
    async fn handshake(
        &self,
        socket: AcceptedSocket,
    ) -> io::Result<(PrefaceTimeout<Transport>, Version)> {
        let socket = socket.register()?;
        let handshake = async {
            if let SocketStream::Tcp(stream) = &socket {
                // Small responses leave at once.
                stream.set_nodelay(true)?;
                set_keepalive(stream)?;
            }
            match &self.tls {
                Some(tls) => secure(socket, tls).await,
                None => plain(socket, self.h2c).await,
            }
        };
        timeout(TIMEOUT, handshake).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

async fn plain(
    socket: SocketStream,
    h2c: bool,
) -> io::Result<(PrefaceTimeout<Transport>, Version)> {
    let mut stream = PrefaceTimeout::new(Transport::Plain(socket), TIMEOUT);
    let is_http2 = h2c && stream.begins_with_preface().await?;
    Ok((stream, if is_http2 { Version::Http2 } else { Version::Http1 }))
}

async fn secure(
    socket: SocketStream,
    tls: &Tls,
) -> io::Result<(PrefaceTimeout<Transport>, Version)> {
    let first = socket.first_byte().await?;
    if first.is_some_and(|first| first != HANDSHAKE && first.is_ascii_alphabetic()) {
        return Err(refuse_plain_http(socket).await?);
    }
    let stream = ReadAhead::new(socket);
    let client = LazyConfigAcceptor::new(TlsAcceptor::default(), stream).await?;
    let config = tls.config(&client.client_hello());
    let mut stream = client.into_stream(config).await?;
    stream.get_mut().1.set_buffer_limit(Some(CIPHERTEXT));
    let version = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Version::Http2,
        _ => Version::Http1,
    };
    let stream = PrefaceTimeout::new(Transport::Tls(Box::new(stream)), TIMEOUT);
    // axum-server goes by the preface alone.
    Ok((stream.requires(version), version))
}

/// Lets the system ask whether the client is still there when nothing comes. HTTP/2 could ask by
/// itself, but then hyper takes the time of each frame.
fn set_keepalive(stream: &TcpStream) -> io::Result<()> {
    set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    set_tcp_keepintvl(stream, KEEPALIVE_IDLE / u32::from(KEEPALIVE_PROBES))?;
    set_tcp_keepcnt(stream, KEEPALIVE_PROBES.into())?;
    Ok(set_socket_keepalive(stream, true)?)
}

/// Answers a client that speaks plain HTTP on the TLS port.
async fn refuse_plain_http(mut stream: SocketStream) -> io::Result<io::Error> {
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
