//! The acceptor makes an accepted socket ready for HTTP: `TCP_NODELAY`, keepalive, the first byte, the
//! handshake of TLS.

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

/// How long a client may take for its first byte and its handshake, and then for the bytes that tell
/// HTTP/1.1 from HTTP/2.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The kernel probes a connection that has been silent for this long, and closes it when as long again
/// brings no answer to this many probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_PROBES: u8 = 3;

/// The first byte of a TLS connection (RFC 8446 §5.1, handshake).
const HANDSHAKE: u8 = 22;

/// How many encrypted bytes the server keeps for a slow client: two full records.
const CIPHERTEXT: usize = 32 * 1024;

/// The response to plain HTTP on a TLS port. It is HTTP/1.0, which has no persistent connections.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n\
    \r\n\
    client sent an HTTP request to an HTTPS server\n";

/// Makes accepted sockets ready for HTTP.
#[derive(Clone)]
pub(super) struct Acceptor {
    pub(super) tls: Option<Tls>,
    /// Whether a connection may carry HTTP/2. axum-server then detects the version of each.
    pub(super) may_speak_http2: bool,
    /// Cancelled when the server stops: requests in progress may finish, and no others begin.
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
    /// Makes an accepted socket ready for HTTP, with a TLS handshake where there is `tls`, and tells the
    /// version of HTTP. A plain connection has HTTP/2 only where connections may carry it and the client
    /// sends the preface of HTTP/2 first.
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
                None => plain(socket, self.may_speak_http2).await,
            }
        };
        let (stream, version) =
            timeout(TIMEOUT, handshake).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let is_announced = self.may_speak_http2 && version == Version::Http1;
        Ok((if is_announced { stream.announce_http1() } else { stream }, version))
    }
}

async fn plain(
    socket: SocketStream,
    may_speak_http2: bool,
) -> io::Result<(PrefaceTimeout<Transport>, Version)> {
    let mut stream = PrefaceTimeout::new(Transport::Plain(socket), TIMEOUT);
    let is_http2 = may_speak_http2 && stream.begins_with_preface().await?;
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
    // axum-server detects the version by the preface alone.
    Ok((stream.requires(version), version))
}

/// Lets the kernel probe a silent client. HTTP/2 has PING for that, but hyper then reads the clock for
/// each frame.
fn set_keepalive(stream: &TcpStream) -> io::Result<()> {
    set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    set_tcp_keepintvl(stream, KEEPALIVE_IDLE / u32::from(KEEPALIVE_PROBES))?;
    set_tcp_keepcnt(stream, KEEPALIVE_PROBES.into())?;
    Ok(set_socket_keepalive(stream, true)?)
}

/// Answers a client that speaks plain HTTP on the TLS port.
async fn refuse_plain_http(mut stream: SocketStream) -> io::Result<io::Error> {
    // The kernel discards a response when a socket is closed with unread bytes.
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
