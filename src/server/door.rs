//! What happens to a connection before HTTP: no delay, keepalive, a look at the first byte, TLS.

use std::{io, time::Duration};

use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl,
};
use rustls::server::Acceptor;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::LazyConfigAcceptor;

use super::{
    ahead::Ahead,
    impatient::Impatient,
    listener::{Caller, Client},
    tls::Tls,
};

/// A client that has not sent its first byte, or not finished its handshake, by then is let go.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// After so long without a word a client is asked whether it is still there, some times, and let
/// go after as long again without an answer.
const SILENCE: Duration = Duration::from_secs(30);
const QUESTIONS: u8 = 3;

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

/// A connection on which HTTP is spoken.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A connection that is ready for its first request.
pub(super) struct Opened {
    pub(super) connection: Box<dyn Connection>,
    pub(super) version: Version,
}

/// What is spoken on it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Opens a connection to a client, by TLS where there is `tls`. Without, HTTP/2 is spoken only with
/// `h2c`, and with who begins with it.
pub(super) async fn open(caller: Caller, tls: Option<&Tls>, h2c: bool) -> io::Result<Opened> {
    let client = caller.enter()?;
    let opening = async {
        if let Client::Tcp(stream) = &client {
            // Small responses leave at once.
            stream.set_nodelay(true)?;
            notice_absence(stream)?;
        }
        let Some(tls) = tls else {
            return match client {
                Client::Tcp(stream) => plain(stream, h2c).await,
                Client::Unix(stream) => plain(stream, h2c).await,
            };
        };
        let wrong_door = client
            .first_byte()
            .await?
            .is_some_and(|first| first != HANDSHAKE && first.is_ascii_alphabetic());
        match client {
            Client::Tcp(stream) if wrong_door => Err(refuse(stream).await?),
            Client::Unix(stream) if wrong_door => Err(refuse(stream).await?),
            Client::Tcp(stream) => secure(stream, tls).await,
            Client::Unix(stream) => secure(stream, tls).await,
        }
    };
    timeout(PATIENCE, opening).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn plain(stream: impl Connection + 'static, h2c: bool) -> io::Result<Opened> {
    let mut connection = Impatient::new(stream, PATIENCE);
    let version = if h2c { connection.version().await? } else { Version::Http1 };
    Ok(Opened { connection: Box::new(connection), version })
}

async fn secure(stream: impl Connection + 'static, tls: &Tls) -> io::Result<Opened> {
    let stream = Ahead::new(stream);
    let client = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let config = tls.config(&client.client_hello());
    let mut stream = client.into_stream(config).await?;
    stream.get_mut().1.set_buffer_limit(Some(CIPHERTEXT));
    let version = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Version::Http2,
        _ => Version::Http1,
    };
    Ok(Opened { connection: Box::new(Impatient::new(stream, PATIENCE)), version })
}

/// Lets the system ask whether the client is still there when nothing comes. HTTP/2 could ask by
/// itself, but then hyper takes the time of each frame.
fn notice_absence(stream: &TcpStream) -> io::Result<()> {
    set_tcp_keepidle(stream, SILENCE)?;
    set_tcp_keepintvl(stream, SILENCE / u32::from(QUESTIONS))?;
    set_tcp_keepcnt(stream, QUESTIONS.into())?;
    Ok(set_socket_keepalive(stream, true)?)
}

/// Tells a client in its own language that it took the wrong door.
async fn refuse(mut stream: impl Connection) -> io::Result<io::Error> {
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
