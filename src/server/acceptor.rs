//! The acceptor makes an accepted socket ready for HTTP: `TCP_NODELAY`, keepalive, a PROXY header, the first
//! byte, the handshake of TLS.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

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
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use tokio_util::sync::CancellationToken;

use super::{
    Https, PlainHttpRefusal,
    certificates::Nameless,
    connection::Open,
    distrust,
    handover::Accepted,
    hourly::Hourly,
    listener::AcceptedSocket,
    passthrough::{PassedThrough, Route},
    peer::Peer,
    proxy_header,
    tls::{self, Handshake},
    transport::{PrefaceTimeout, ReadAhead, SocketStream, Transport, Version},
};
use crate::network::{Clients, Proxy};

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

/// The most bytes of a plain HTTP request on the TLS port that the response depends on.
const PLAIN_REQUEST: usize = 4096;

/// Makes accepted sockets ready for HTTP.
#[derive(Clone)]
pub(super) struct Acceptor {
    /// `None`: clients speak plain HTTP.
    pub(super) https: Option<Https>,
    /// Whether a connection may carry HTTP/2. axum-server then detects the version of each.
    pub(super) may_speak_http2: bool,
    /// Peers whose connections begin with a PROXY header.
    pub(super) proxied: Arc<[Proxy]>,
    /// The addresses that may connect.
    pub(super) clients: Arc<Clients>,
    /// Cancelled when the server stops: requests in progress may finish, and no others begin.
    pub(super) stopping: CancellationToken,
    /// The clients about which the log has a message.
    pub(super) reported: Arc<Reported>,
}

/// The clients about which the log has a message, by the kind of message.
#[derive(Debug, Default)]
pub(super) struct Reported {
    /// They do not trust the certificate.
    distrust: Hourly,
    /// They are to send a PROXY header, and do not.
    no_proxy_header: Hourly,
    /// Their certificate does not name them.
    nameless: Hourly,
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
            let peer = connection.peer.clone();
            let end = held.permit.end.clone();
            let handshake = acceptor.handshake(socket, &peer);
            let Some(shaken) = end.run_until_cancelled(handshake).await else {
                return Err(io::ErrorKind::ConnectionAborted.into());
            };
            match shaken {
                Ok(Handshaken::Http(stream, version)) => {
                    let stream =
                        connection.open(stream.holds(opening), version, held, acceptor.stopping);
                    Ok((stream, service))
                }
                Ok(Handshaken::Site(site)) => {
                    connection.pass_through(site, held, acceptor.stopping);
                    // There is no HTTP on it for this server.
                    Err(io::ErrorKind::ConnectionAborted.into())
                }
                Err(error) => {
                    acceptor.report(&error, peer.addr());
                    Err(error)
                }
            }
        })
    }
}

/// A connection after its handshake, or, where it is for another site, before it.
enum Handshaken {
    /// It is ready for HTTP of this version.
    Http(PrefaceTimeout<Transport>, Version),
    /// It is for the server of another site.
    Site(PassedThrough),
}

impl Acceptor {
    /// Logs why a client has no connection; `addr` is `None` for a client on a Unix socket.
    fn report(&self, error: &io::Error, addr: Option<SocketAddr>) {
        let peer = addr.map_or_else(|| "unix".to_owned(), |addr| addr.to_string());
        let address = addr.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |addr| addr.ip());
        if tls::is_about_certificate(error) {
            tracing::info!(%error, peer, "a client was refused for its certificate");
        } else if let Some(alert) = distrust::alert(error)
            && self.reported.distrust.is_due(address, Instant::now())
        {
            let client = if addr.is_some() { address.to_string() } else { peer };
            tracing::info!(
                "{client} does not trust our certificate ({alert}): it needs the authority's \
                 certificate (ca.crt), or uses a name that our certificate lacks"
            );
        } else if proxy_header::is_missing(error)
            && self.reported.no_proxy_header.is_due(address, Instant::now())
        {
            tracing::warn!(
                peer,
                "{error}: http.proxyprotocol lists this peer; have it send the header (HAProxy: \
                 send-proxy-v2, nginx: proxy_protocol on), or remove it from the list"
            );
        } else {
            // Scanners, health checks and clients that give up do this all day.
            tracing::debug!(%error, peer, "no connection");
        }
    }

    /// Makes an accepted socket ready for HTTP, with a TLS handshake where there is `tls`, and tells the
    /// version of HTTP, or which site the connection is for. Sets the client of `peer` where the connection begins with a PROXY header. A plain connection has HTTP/2 only where connections may carry it and the client
    /// sends the preface of HTTP/2 first.
    ///
    /// # Errors
    ///
    /// Those of the socket and of the handshake; `PermissionDenied` for a client that may not connect; `TimedOut` where this takes more than ten seconds.
    async fn handshake(&self, socket: AcceptedSocket, peer: &Peer) -> io::Result<Handshaken> {
        let addr = socket.peer().map(|addr| addr.ip());
        let mut socket = socket.register()?;
        let handshake = async {
            if let SocketStream::Tcp(stream) = &socket {
                // Small responses leave at once.
                stream.set_nodelay(true)?;
                set_keepalive(stream)?;
            }
            if self.proxied.iter().any(|proxy| proxy.is_at(addr)) {
                if let Some(client) = proxy_header::read(&mut socket).await? {
                    peer.set_client(client);
                }
                if self.clients.denies(peer.addr().map(|addr| addr.ip())) {
                    let error = "http.clients denies the client of a PROXY header";
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, error));
                }
            }
            match &self.https {
                Some(https) => self.secure(socket, peer, https).await,
                None => plain(socket, self.may_speak_http2).await,
            }
        };
        let done = timeout(TIMEOUT, handshake).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(match done {
            Handshaken::Http(stream, Version::Http1) if self.may_speak_http2 => {
                Handshaken::Http(stream.announce_http1(), Version::Http1)
            }
            done => done,
        })
    }

    /// The handshake of TLS. Sets the certificate of `peer` where that names the client.
    async fn secure(
        &self,
        socket: SocketStream,
        peer: &Peer,
        https: &Https,
    ) -> io::Result<Handshaken> {
        let first = socket.first_byte().await?;
        if first.is_some_and(|first| first != HANDSHAKE && first.is_ascii_alphabetic()) {
            return Err(refuse_plain_http(socket, https.refusal).await?);
        }
        let client = if https.sites.is_empty() {
            LazyConfigAcceptor::new(TlsAcceptor::default(), ReadAhead::new(socket)).await?
        } else {
            match https.sites.route(socket, peer).await? {
                Route::Registry(accepted, socket) => {
                    StartHandshake::from_parts(*accepted, ReadAhead::new(socket))
                }
                Route::Site(site) => return Ok(Handshaken::Site(site)),
            }
        };
        if let Some(config) = https.challenges.tls(&client.client_hello()) {
            // The authority asks for the certificate alone.
            client.into_stream(config).await?.shutdown().await?;
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "tls-alpn-01 was answered",
            ));
        }
        let Handshake { config, identity } = https.tls.handshake(&client.client_hello());
        let mut stream = client.into_stream(config).await?;
        let tls = stream.get_mut().1;
        tls.set_buffer_limit(Some(CIPHERTEXT));
        let certificate = tls.peer_certificates().and_then(<[_]>::first);
        if let (Some(identity), Some(certificate)) = (identity, certificate) {
            match identity.of(certificate) {
                Ok(certificate) => peer.set_certificate(certificate),
                Err(error) => self.report_nameless(error, peer),
            }
        }
        let version = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Version::Http2,
            _ => Version::Http1,
        };
        let stream = PrefaceTimeout::new(Transport::Tls(Box::new(stream)), TIMEOUT);
        // axum-server detects the version by the preface alone.
        Ok(Handshaken::Http(stream.requires(version), version))
    }

    /// Logs that a certificate does not let its client in, who may still send a password.
    fn report_nameless(&self, error: Nameless, peer: &Peer) {
        let addr = peer.addr();
        let address = addr.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |addr| addr.ip());
        let peer = addr.map_or_else(|| "unix".to_owned(), |addr| addr.to_string());
        if self.reported.nameless.is_due(address, Instant::now()) {
            tracing::info!(peer, "a client's certificate does not name the client: {error}");
        } else {
            tracing::debug!(peer, "a client's certificate does not name the client: {error}");
        }
    }
}

async fn plain(socket: SocketStream, may_speak_http2: bool) -> io::Result<Handshaken> {
    let mut stream = PrefaceTimeout::new(Transport::Plain(socket), TIMEOUT);
    let is_http2 = may_speak_http2 && stream.begins_with_preface().await?;
    Ok(Handshaken::Http(stream, if is_http2 { Version::Http2 } else { Version::Http1 }))
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
async fn refuse_plain_http(
    mut stream: SocketStream,
    refusal: PlainHttpRefusal,
) -> io::Result<io::Error> {
    // A client may send the head of its request in several pieces. The kernel discards a response when
    // a socket is closed with unread bytes.
    let mut request = [0; PLAIN_REQUEST];
    let mut length = 0;
    while length < request.len() && !request[..length].windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut request[length..]).await? {
            0 if length == 0 => return Ok(io::ErrorKind::UnexpectedEof.into()),
            0 => break,
            count => length += count,
        }
    }
    stream.write_all(&refusal(&request[..length])).await?;
    stream.shutdown().await?;
    let drained = async { while stream.read(&mut request).await.is_ok_and(|n| n > 0) {} };
    let _ = timeout(Duration::from_secs(1), drained).await;
    Ok(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP on the TLS port"))
}
