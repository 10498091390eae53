//! The `ClientHello` (RFC 8446 §4.1.2), read before it is known which server a connection is for.

use std::{fmt, io};

use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The most bytes that are read at a time, and that rustls takes at a time.
const PIECE: usize = 4096;

/// Reads a `ClientHello` from the pieces in which it arrives.
#[derive(Default)]
pub struct Reader {
    acceptor: Acceptor,
}

/// Bytes that are no `ClientHello`.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Invalid {
    /// The reason.
    pub error: rustls::Error,
    /// The alert for the client.
    alert: Vec<u8>,
}

impl Reader {
    /// Takes the next bytes of a connection. `None` until the message is whole; after that, or after an
    /// error, a reader takes no more.
    ///
    /// # Errors
    ///
    /// When the bytes are no `ClientHello`, or a larger one than rustls takes.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Option<Accepted>, Invalid> {
        while !bytes.is_empty() {
            if let Err(error) = self.acceptor.read_tls(&mut bytes) {
                let error = rustls::Error::General(error.to_string());
                return Err(Invalid { error, alert: Vec::new() });
            }
        }
        self.acceptor.accept().map_err(|(error, mut accepted)| {
            let mut alert = Vec::new();
            // A vector takes all bytes.
            let _ = accepted.write_all(&mut alert);
            Invalid { error, alert }
        })
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// Reads until rustls has the whole message. Returns it, and all bytes that were read.
///
/// # Errors
///
/// Those of the socket, and when the bytes are no `ClientHello`; the client has got the alert then.
pub(super) async fn read(
    socket: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<(Accepted, Vec<u8>)> {
    let mut reader = Reader::default();
    let mut bytes = Vec::new();
    let mut piece = [0; PIECE];
    loop {
        let read = socket.read(&mut piece).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&piece[..read]);
        match reader.push(&piece[..read]) {
            Ok(Some(accepted)) => return Ok((accepted, bytes)),
            Ok(None) => {}
            Err(Invalid { error, alert }) => {
                // The error of the handshake is the one to report.
                let _ = socket.write_all(&alert).await;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}
