//! The header of the PROXY protocol, versions 1 and 2, with which a proxy of TCP connections tells the
//! address of the client (`proxy-protocol.txt` of `HAProxy`).

use std::{error::Error, fmt, io, net::SocketAddr};

use ::proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt as _;

use super::transport::SocketStream;

/// The beginning of a header of version 2, which no other protocol has (§2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header of version 1 (§2.1).
const MAX_V1: usize = 107;

/// The longest extent of the addresses and fields in a header of version 2. Proxies send some hundred bytes,
/// or some thousand with the client's certificate.
const MAX_V2: usize = 16 * 1024;

/// A connection does not begin with a well-formed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing;

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a connection does not begin with a PROXY header")
    }
}

impl Error for Missing {}

impl From<Missing> for io::Error {
    fn from(missing: Missing) -> Self {
        Self::new(io::ErrorKind::InvalidData, missing)
    }
}

/// Parses a header, with nothing behind it, and returns the client's address. `None` where the proxy speaks
/// for itself (`LOCAL`), or knows no address of TCP (`UNKNOWN`, `UNSPEC`, Unix sockets).
///
/// # Errors
///
/// When the bytes are not one whole header.
pub fn parse(header: &[u8]) -> Result<Option<SocketAddr>, Missing> {
    let config = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };
    match ProxyHeader::parse(header, config) {
        Ok((parsed, length)) if length == header.len() => {
            Ok(parsed.proxied_address().map(|addresses| addresses.source))
        }
        _ => Err(Missing),
    }
}

/// Reads the header from the socket and not one byte more: what follows is the client's.
///
/// # Errors
///
/// [`Missing`] where the connection begins with other bytes, and those of the socket: a health check of the
/// proxy may connect and close.
pub(super) async fn read(socket: &mut SocketStream) -> io::Result<Option<SocketAddr>> {
    // Each header has more bytes than the signature.
    let mut header = vec![0; SIGNATURE.len()];
    socket.read_exact(&mut header).await?;
    if header == SIGNATURE {
        let mut end = [0; 4];
        socket.read_exact(&mut end).await?;
        header.extend_from_slice(&end);
        let [_, _, length @ ..] = end;
        let length = usize::from(u16::from_be_bytes(length));
        if length > MAX_V2 {
            return Err(Missing.into());
        }
        let begin = header.len();
        header.resize(begin + length, 0);
        socket.read_exact(&mut header[begin..]).await?;
    } else if header.starts_with(b"PROXY ") {
        read_line(socket, &mut header).await?;
    } else {
        return Err(Missing.into());
    }
    Ok(parse(&header)?)
}

/// Reads the rest of a header of version 1, which ends with its line.
async fn read_line(socket: &mut SocketStream, header: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = [0; MAX_V1];
    while header.len() < MAX_V1 {
        let room = MAX_V1 - header.len();
        let peeked = socket.peek(&mut piece[..room]).await?;
        let end = piece[..peeked].iter().position(|byte| *byte == b'\n');
        let length = end.map_or(peeked, |end| end + 1);
        // At the end of the stream the read fails.
        socket.read_exact(&mut piece[..length.max(1)]).await?;
        header.extend_from_slice(&piece[..length]);
        if end.is_some() {
            return Ok(());
        }
    }
    Err(Missing.into())
}

/// Whether a connection failed for its header.
pub(super) fn is_missing(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<Missing>())
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, net::UnixStream};

    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    const V4: &[u8] = &[192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0x01, 0xbb];

    fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 28], &[0, 80, 1, 187]].concat();
        vec![
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 443\r\n".to_vec(), Some("192.0.2.7:8080")),
            (b"PROXY TCP6 2001:db8::1 ::1 80 443\r\n".to_vec(), Some("[2001:db8::1]:80")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, V4), Some("192.0.2.7:8080")),
            (v2(0x21, 0x21, &v6), Some("[2001:db8::]:80")),
            // With fields behind the addresses.
            (v2(0x21, 0x11, &[V4, &[4, 0, 2, 0, 0]].concat()), Some("192.0.2.7:8080")),
            (v2(0x20, 0, &[]), None),
            (v2(0x20, 0x11, V4), None),
            (v2(0x21, 0, &[]), None),
            (v2(0x21, 0x31, &[b'/'; 216]), None),
        ]
    }

    #[test]
    fn header_names_the_client_unless_the_proxy_speaks_for_itself() {
        for (header, client) in headers() {
            let found = parse(&header).map(|client| client.map(|client| client.to_string()));
            assert_eq!(found, Ok(client.map(str::to_owned)), "{header:?}");
        }
        for header in [
            &b""[..],
            b"GET / HTTP/1.1\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 443\r\nGET",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 8080\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP5 192.0.2.7 10.0.0.1 8080 443\r\n",
            &v2(0x31, 0x11, V4),
            &v2(0x22, 0x11, V4),
            &v2(0x21, 0x11, &V4[..11]),
            &v2(0x21, 0x41, V4),
        ] {
            assert_eq!(parse(header), Err(Missing), "{header:?}");
        }
    }

    /// The bytes arrive in pieces of one length after the other, and those behind the header stay.
    #[tokio::test]
    async fn header_is_read_to_its_end_and_no_further() {
        for (header, client) in headers() {
            for piece in [1, 5, 13, 1000] {
                let (mut proxy, ours) = UnixStream::pair().unwrap();
                let mut ours = SocketStream::Unix(ours);
                let bytes = [&header[..], b"\x16client\n"].concat();
                let writing = async {
                    for piece in bytes.chunks(piece) {
                        proxy.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    proxy.shutdown().await.unwrap();
                };
                let (found, ()) = tokio::join!(read(&mut ours), writing);
                let found = found.unwrap().map(|client| client.to_string());
                assert_eq!(found.as_deref(), client, "{header:?}");
                let mut rest = Vec::new();
                ours.read_to_end(&mut rest).await.unwrap();
                assert_eq!(rest, b"\x16client\n", "{header:?}");
            }
        }
    }

    #[tokio::test]
    async fn other_bytes_and_endless_headers_are_refused() {
        let too_long = [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat();
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03random",
            &[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 1000]].concat(),
            &too_long,
        ] {
            let (mut proxy, ours) = UnixStream::pair().unwrap();
            let mut ours = SocketStream::Unix(ours);
            proxy.write_all(bytes).await.unwrap();
            let error = read(&mut ours).await.unwrap_err();
            assert!(is_missing(&error), "{error}");
        }
        let (proxy, ours) = UnixStream::pair().unwrap();
        drop(proxy);
        let error = read(&mut SocketStream::Unix(ours)).await.unwrap_err();
        assert!(!is_missing(&error), "a health check of the proxy: {error}");
    }
}
